"""How the project tells its users that something they gave cannot be used."""

from contextlib import contextmanager
from pathlib import Path


class UserError(ValueError):
    """What the user gave cannot be used. The message is one line that names the flag or file and the remedy.

    A name that it quotes from a file may have several lines; they are joined.
    """

    def __init__(self, message):
        super().__init__(" ".join(str(message).splitlines()))


def require_file(path):
    """UserError where something other than a file lies at the path: reading a named pipe might never end."""
    if Path(path).exists() and not Path(path).is_file():
        what = "a folder" if Path(path).is_dir() else "a pipe or a device"
        raise UserError(f"{path} is {what}, not a file; give a file")


@contextmanager
def hub_package(user):
    """Around the import of a package of requirements-hub.txt: UserError says how to install one that is missing.

    user: the flag or the file that needs it.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{user} needs {error.name or error}, which is not installed: pip install -r requirements-hub.txt"
        ) from error


@contextmanager
def as_user_error(fault, remedy, kinds=Exception):
    """What a library, or anybody's code, raises within becomes a UserError: fault (reason); remedy."""
    try:
        yield
    except UserError:
        raise
    except kinds as error:
        raise UserError(f"{fault} ({first_sentence(error)}); {remedy}") from error


def first_sentence(error):
    """How an error of a library begins; its type where it says nothing."""
    return str(error).strip().split("\n")[0].split(". ")[0].rstrip(".") or type(error).__name__
