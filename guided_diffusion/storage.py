"""Files that are whole or not there, on a disk or wherever blobfile reaches (gs://, az://, https://)."""

import fcntl
import os
from pathlib import Path

import blobfile as bf

from .errors import UserError


def is_remote(path):
    return "://" in str(path)


def write_file(path, write):
    """write(file) fills a binary file; only when all of it is on the disk does `path` become it.

    A remote object appears when it is complete, in any case. UserError, with `path` as it was, where the disk
    is full or the folder may not be written.
    """
    if is_remote(path):
        with bf.BlobFile(str(path), "wb") as file:
            write(file)
        return
    aside = Path(f"{path}.part")
    try:
        with open(aside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        _sync_folder(aside.parent)
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        aside.unlink(missing_ok=True)
        # torch.save hides what the system said of the disk behind what it noticed itself.
        system = next((each for each in (error, error.__context__) if isinstance(each, OSError)), None)
        reason = system.strerror if system else str(error).splitlines()[0]
        raise UserError(
            f"{path} cannot be written ({reason}); make room or check the folder, and start again"
        ) from error


def _sync_folder(folder):
    """The renaming itself must outlive a power cut, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_folder(folder):
    """Claims a local folder for this process -> the open lock, to be kept; UserError where another holds it.

    The lock ends with the process, however that ends.
    """
    lock = open(Path(folder) / ".lock", "a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        raise UserError(
            f"--output_path {folder} is in use by another training (process {holder}); wait for it, or name another"
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
