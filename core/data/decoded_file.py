"""Decoded images in a file that is made once and that all processes of a machine share."""

import errno
import hashlib
import os
import shutil
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from glob import escape
from pathlib import Path

import numpy as np
import PIL
import torch
from filelock import FileLock, Timeout
from PIL import features
from tqdm import tqdm

from guided_diffusion.script.errors import UserError
from guided_diffusion.script.storage import is_remote, remove_parts, write_file

from . import images
from .decoded import MIB

SMALL = 256 * MIB  # what the copies of all processes of a machine may take before they share a file
BLOCK = 32  # images that a thread decodes at a time


class SharedImages:
    """Image i of the file of a DecodedFile, as uint8 (3, S, S). The file's memory is shared by all who read it."""

    def __init__(self, pixels):
        self.pixels = pixels  # (N, 3, S, S) uint8, mapped, not to be written to

    def __getitem__(self, i):
        return torch.from_numpy(self.pixels[i].copy())


class DecodedFile:
    """The file with the decoded images of an ImageDataset: an .npy of uint8 (N, 3, S, S) in their order.

    Its name holds a hash of what decides its contents: the image files' paths, sizes and times of change, the image
    size, and the code that decodes. The file appears when it is complete, so one that is there is right.
    """

    def __init__(self, folder, dataset, split, data_dir):
        """folder: where the file lies. split, data_dir: where the images are from. A new file replaces that of the
        same split as it was before.

        UserError where an image is not there.
        """
        self.folder, self.dataset = Path(folder), dataset
        self.shape = (len(dataset), 3, dataset.image_size, dataset.image_size)
        source = Path(data_dir).resolve()
        place = hashlib.sha256(os.fsencode(source)).hexdigest()[:8]
        self.stem = f"{source.stem[:40]}-{split}-{dataset.image_size}-{place}"
        self.path = self.folder / f"{self.stem}-{contents_hash(dataset)[:32]}.npy"

    @property
    def size(self):
        """Bytes of the images."""
        return int(np.prod(self.shape))

    def make(self, threads=None, quiet=False):
        """Decodes all images with several threads, and writes the file, where it is not there yet.

        Where another process makes it, waits for that. threads: None for one on each core. quiet: without a bar.
        Raises OSError where the file cannot be written, UserError where an image cannot be read.
        """
        if self.open():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / f".{self.stem}.lock")
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            print(f"another process is making {self.path}; waiting for it", flush=True)
            held = lock.acquire()
        with held:
            if not self.open():
                self._make(threads or max(4, len(os.sched_getaffinity(0))), quiet)

    def _make(self, threads, quiet):
        remove_parts(self.folder)
        for outdated in self.folder.glob(f"{escape(self.stem)}-*.npy"):  # whoever has it open keeps it
            outdated.unlink(missing_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < self.size:
            raise OSError(errno.ENOSPC, f"it needs {self.size / MIB:,.0f} MiB, and {free / MIB:,.0f} MiB are free")
        print(f"decoding {len(self.dataset):,} images into {self.path}, {self.size / MIB:,.0f} MiB", flush=True)
        bar = tqdm(total=len(self.dataset), desc="decoding images", unit="image", disable=quiet)

        def write(file):
            header = {"descr": "|u1", "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for block in decode_in_order(self.dataset, threads):
                file.write(block)
                bar.update(len(block))

        with bar:
            try:
                write_file(self.path, write)
            except UserError as error:
                if isinstance(error.__cause__, OSError):  # of the disk, not of an image
                    raise error.__cause__ from None
                raise

    def open(self):
        """The SharedImages of the file; None where it is not there, or is not what it should be."""
        try:
            pixels = np.load(self.path, mmap_mode="r")
        except (OSError, ValueError):  # ValueError: it is cut off, or no .npy
            return None
        right = isinstance(pixels, np.memmap) and pixels.shape == self.shape and pixels.dtype == np.uint8
        return SharedImages(np.asarray(pixels)) if right else None


def decode_in_order(dataset, threads):
    """Yields all images of a dataset, decoded by several threads, in blocks: arrays (B, 3, S, S) of uint8."""

    def decode(start):
        rows = range(start, min(start + BLOCK, len(dataset)))
        block = np.empty((len(rows), 3, dataset.image_size, dataset.image_size), np.uint8)
        for place, i in enumerate(rows):
            block[place] = dataset.decode(i)
        return block

    pool, ahead = ThreadPoolExecutor(threads), 2 * threads
    try:
        blocks = deque()
        for start in range(0, len(dataset), BLOCK):
            blocks.append(pool.submit(decode, start))
            if len(blocks) > ahead:
                yield blocks.popleft().result()
        while blocks:
            yield blocks.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def contents_hash(dataset):
    """64 hex digits that change with all that decides a dataset's decoded images. UserError without an image."""
    digest = hashlib.sha256()
    digest.update(Path(images.__file__).read_bytes())  # the code that turns, resizes and crops
    for part in (PIL.__version__, features.version("jpg"), features.version("zlib"), dataset.image_size):
        digest.update(f"{part}\n".encode())
    folder = str(dataset.image_dir)  # as text: a Path would take most of the time
    for name in dataset.names:
        path = os.path.join(folder, name)
        try:
            found = os.stat(path)
        except FileNotFoundError:
            images.require_image_file(path)  # which says so
            raise
        digest.update(os.fsencode(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\n"))
    return digest.hexdigest()


def cache_folder():
    """Where a user's files go that can be made again: $XDG_CACHE_HOME/dime, or ~/.cache/dime."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dime"


def share_decoded(datasets, splits, data_dir, ranks, decoded_dir=None):
    """Makes ImageDatasets read decoded images from files that the ranks of a machine share -> whether they do.

    They do where decoded_dir says where the files go. Without it they do, in cache_folder(), where this machine has
    several ranks and a copy in each would take more than SMALL. The machine's first rank makes the files while the
    others wait: every rank must call this. Prints where the files are and how large.

    Raises UserError where decoded_dir cannot hold the files. Where cache_folder() cannot, prints why.
    """
    if decoded_dir and is_remote(decoded_dir):
        raise UserError(f"--decoded_dir {decoded_dir} must be a folder of this machine")
    needed = sum(len(dataset) * 3 * dataset.image_size**2 for dataset in datasets)
    if not decoded_dir and (ranks.local_size == 1 or needed * ranks.local_size <= SMALL):
        ranks.wait()  # as the ranks of other machines do, whose files may be wanted
        return False
    folder, files, failure = decoded_dir or "~/.cache/dime", [], "the file is not there"
    try:
        folder = Path(decoded_dir or cache_folder())
        files = [DecodedFile(folder, *each, data_dir) for each in zip(datasets, splits, strict=True)]
        if ranks.local_rank == 0:
            for file in files:
                file.make(quiet=not ranks.first)
    except OSError as error:
        files, failure = [], ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    except RuntimeError as error:  # this user has no home
        files, failure = [], error
    ranks.wait()
    opened = [file.open() for file in files]
    if not opened or None in opened:
        if decoded_dir:
            raise UserError(
                f"--decoded_dir {folder} cannot hold the decoded images ({failure}); name a folder that may be "
                f"written, with {needed / MIB:,.0f} MiB free, or leave it out"
            )
        print(
            f"the ranks do not share decoded images: {folder} cannot hold {needed / MIB:,.0f} MiB ({failure}); "
            "name another folder by --decoded_dir",
            flush=True,
        )
        return False
    for dataset, images_of_file in zip(datasets, opened, strict=True):
        dataset.decoded = images_of_file
    print(
        f"images are decoded once, for all ranks of this machine: {sum(map(len, datasets)):,} images, "
        f"{needed / MIB:,.0f} MiB in {', '.join(str(file.path) for file in files)} (may be removed)",
        flush=True,
    )
    return True
