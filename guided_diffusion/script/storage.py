"""Writing files whole or not at all, on a disk or wherever blobfile reaches; hashes and locks."""

import hashlib
import os
import re
import shutil
import socket
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import blobfile as bf
import psutil
from filelock import FileLock, Timeout

from .errors import UserError, first_sentence

_PART = re.compile(r"\..*\.(?P<host>[^.]+)-(?P<pid>\d+)-\d+\.part")


def is_remote(path):
    return "://" in str(path)


def write_file(path, write):
    """Writes the file `path`, whole or not at all. write(file) writes the contents to an open binary file.

    That file lies beside `path` and replaces it once it is on the disk. Several may write the same path; the last
    one wins. A remote object appears once it is complete.
    Raises UserError, and leaves `path` as it was, where the disk is full or the folder may not be written.
    """
    if is_remote(path):
        with bf.BlobFile(str(path), "wb") as file:
            write(file)
        return
    part = _part(Path(path))
    try:
        with open(part, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        with suppress(PermissionError):  # of Windows, which opens no folder
            descriptor = os.open(part.parent, os.O_RDONLY)  # so that the renaming survives a power cut, too
            os.fsync(descriptor)
            os.close(descriptor)
    except (OSError, RuntimeError) as error:
        # torch.save turns a full disk, and Ctrl-C, into a RuntimeError, whose context says so.
        cause = error.__context__ if isinstance(error, RuntimeError) and error.__context__ else error
        if isinstance(cause, KeyboardInterrupt):
            raise cause from None
        raise unwritable(path, cause) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def require_writable(path, flag):
    """UserError, which names the flag, where write_file could not write the local file `path`; no trace is left."""
    if is_remote(path):
        return
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{flag} {path} is no file; name one")
        part = _part(path)
        part.touch()
        part.unlink()
    except OSError as error:
        raise unwritable(f"{flag} {path}", error) from error


def write_text(path, text):
    """Writes a text in UTF-8, whole or not at all (write_file)."""
    write_file(path, lambda file: file.write(text.encode(errors="surrogateescape")))


def append_text(path, text):
    """Appends a text in UTF-8 to a local file; it is on the disk when this returns.

    Raises UserError, and leaves the file as it was, where the disk is full or it may not be written. A kill
    meanwhile may leave a part of the text.
    """
    try:
        size = os.path.getsize(path) if os.path.exists(path) else 0
        try:
            with open(path, "ab") as file:
                file.write(text.encode(errors="surrogateescape"))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            os.truncate(path, size)
            raise
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path, error):
    """The UserError of a path that cannot be written, for the reason that the error of a library gives."""
    reason = getattr(error, "strerror", None) or first_sentence(error)
    return UserError(f"{path} cannot be written ({reason}); make room or check the folder, and start again")


def remove_parts(folder):
    """Removes what killed processes of this machine left incomplete in a local folder, not in its subfolders."""
    for path in Path(folder).glob(".*.part"):
        match = _PART.fullmatch(path.name)
        if match and match["host"] == _host() and not psutil.pid_exists(int(match["pid"])):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def write_folder(path, *marks):
    """In this context a folder is written beside `path`, and replaces it at the end -> the folder to write into.

    marks: the names of files that are in every such folder. UserError where there is another one, which is somebody
    else's, where the disk is full or the folder may not be written; `path` then stays as it was.
    """
    path = Path(path)
    part, earlier = _part(path), _part(path.with_name(f"{path.name}-earlier"))
    try:
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is no folder; remove it")
        if not is_own_folder(path, *marks):
            raise UserError(f"{path} holds files that are not of this program; move them, or remove the folder")
        remove_parts(path.parent)
        part.mkdir()
        yield part
        if path.exists():
            os.replace(path, earlier)
        os.replace(part, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if earlier.exists() and not path.exists():  # it was interrupted between the two
            os.replace(earlier, path)
        for folder in (part, earlier):
            shutil.rmtree(folder, ignore_errors=True)


def is_own_folder(path, *marks):
    """Whether this program may write the folder anew: it is not there, is empty, or has all the marks."""
    return not path.is_dir() or all((path / mark).exists() for mark in marks) or not any(path.iterdir())


def _part(path):
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{threading.get_ident()}.part")


def _host():
    return socket.gethostname().split(".")[0]


def sha256(path):
    """The SHA-256 of a file's contents, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock(path, in_use):
    """Locks the local file `path` for this process -> the lock. Keep it, and call its release() when done.

    The lock ends with the process at the latest, however that ends; the file stays. Where another process holds it,
    raises UserError with the message `in_use`, in which {holder} stands for that process.
    """
    file_lock = FileLock(path)
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        holder = Path(path).read_text().strip()
        raise UserError(in_use.format(holder=f"process {holder}" if holder else "another process")) from None
    try:
        Path(path).write_text(str(os.getpid()))
    except OSError as error:  # of a full disk it does not name the file
        file_lock.release()
        raise OSError(error.errno, error.strerror, str(path)) from None
    return file_lock
