"""Writing files so that they are whole or absent, on a disk or wherever blobfile reaches; hashes and locks."""

import hashlib
import os
import re
import socket
import threading
from contextlib import suppress
from pathlib import Path

import blobfile as bf
import psutil
from filelock import FileLock, Timeout

from .errors import UserError

_PART = re.compile(r"\..*\.(?P<host>[^.]+)-(?P<pid>\d+)-\d+\.part")


def is_remote(path):
    return "://" in str(path)


def write_file(path, write):
    """write(file) fills a binary file; `path` becomes that file only when all of it is on the disk.

    It is written beside `path` under a name of this process and thread, so that several may write the same path;
    the last one wins. A remote object appears when it is complete, in any case.
    Raises UserError, with `path` as it was, where the disk is full or the folder may not be written.
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
        _sync_folder(part.parent)
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        # torch.save hides what the system said of the disk behind what it noticed itself.
        system = next((each for each in (error, error.__context__) if isinstance(each, OSError)), None)
        reason = system.strerror if system else str(error).splitlines()[0]
        raise UserError(
            f"{path} cannot be written ({reason}); make room or check the folder, and start again"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_text(path, text):
    """write_file of a text, in UTF-8."""
    write_file(path, lambda file: file.write(text.encode()))


def remove_parts(folder):
    """Removes what killed processes of this machine were writing in a local folder; not its subfolders."""
    for path in Path(folder).glob(".*.part"):
        match = _PART.fullmatch(path.name)
        if match and match["host"] == _host() and not psutil.pid_exists(int(match["pid"])):
            path.unlink(missing_ok=True)


def _part(path):
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{threading.get_ident()}.part")


def _host():
    return socket.gethostname().split(".")[0]


def _sync_folder(folder):
    """The renaming itself must outlive a power cut, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path):
    """The SHA-256 of a file's contents, 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def lock(path, in_use):
    """Claims a local lock file for this process -> the lock, to be kept, with a release().

    The lock ends with the process, however that ends; the file stays. Raises UserError, the text `in_use` with the
    holder's process in place of {holder}, where another process has it.
    """
    claimed = FileLock(path)
    try:
        claimed.acquire(timeout=0)
    except Timeout:
        holder = Path(path).read_text().strip()
        raise UserError(in_use.format(holder=f"process {holder}" if holder else "another process")) from None
    Path(path).write_text(str(os.getpid()))
    return claimed


def lock_folder(folder):
    """lock() of a folder that a training writes to."""
    return lock(
        Path(folder) / ".lock",
        f"--output_path {folder} is in use by another training ({{holder}}); wait for it, or name another",
    )
