"""Decoded images that trainings read again and again: from memory, or from a file that a machine's ranks share."""

import errno
import hashlib
import math
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from glob import escape
from pathlib import Path

import numpy as np
import PIL
import psutil
import torch
from PIL import features
from tqdm import tqdm

from guided_diffusion.dist_util import cpu_count
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.storage import is_remote, remove_parts, write_file

from . import images

MIB = 2**20
SMALL = 256 * MIB  # what the copies of all ranks of a machine may take before they share a file
BLOCK = 256  # images that are decoded before they are written


class DecodedImages:
    """Image i as uint8 (3, S, S), from pixels (N, 3, S, S). Several threads may read at once.

    decode(i) makes an image when it is first read; None where all pixels are there.
    """

    def __init__(self, pixels, decode=None):
        self.pixels, self.decode = pixels, decode
        self.filled = np.full(len(pixels), decode is None)

    def __getitem__(self, i):
        if not self.filled[i]:
            self.pixels[i] = self.decode(i)
            self.filled[i] = True
        return torch.from_numpy(self.pixels[i].copy())


def provide_decoded(datasets, splits, data_dir, ranks, decoded_dir=None):
    """Lets ImageDatasets read decoded images from files or from memory, where they can. Prints which.

    The files lie in decoded_dir, or in the user's cache where the copies of this machine's ranks would take more
    than SMALL. The machine's first rank makes them while the others wait: every rank must call this.
    Otherwise each rank keeps the images in memory, where those of all its ranks fit into half of what is free.
    Raises UserError where decoded_dir cannot hold the files. Where the cache cannot, prints why.
    """
    if decoded_dir and is_remote(decoded_dir):
        raise UserError(f"--decoded_dir {decoded_dir} must be a folder of this machine")
    needed = sum(math.prod(_shape(dataset)) for dataset in datasets)
    paths, failure = [], "the file is not there"
    sharing = bool(decoded_dir) or (ranks.local_size > 1 and needed * ranks.local_size > SMALL)
    if sharing:
        try:
            folder = Path(decoded_dir) if decoded_dir else _cache_folder()
            paths = [decoded_path(folder, *each, data_dir) for each in zip(datasets, splits, strict=True)]
            if ranks.local_rank == 0:
                for path, dataset in zip(paths, datasets, strict=True):
                    write_decoded(path, dataset, quiet=not ranks.first)
        except (OSError, UserError, RuntimeError) as error:  # RuntimeError: this user has no home
            if isinstance(error, UserError) and error.__cause__ is None:  # of an image, not of the disk
                raise
            paths, failure = [], error.__cause__ or error
    ranks.wait()  # those of other machines, too, which may share files where these ranks do not
    opened = [open_decoded(path, dataset) for path, dataset in zip(paths, datasets, strict=False)]
    if opened and None not in opened:
        for dataset, decoded_images in zip(datasets, opened, strict=True):
            dataset.decoded = decoded_images
        print(
            f"images are decoded once, for all ranks of this machine: {sum(map(len, datasets)):,} images, "
            f"{needed / MIB:,.0f} MiB in {', '.join(map(str, paths))} (may be removed)",
            flush=True,
        )
        return
    why = f"cannot hold the {needed / MIB:,.0f} MiB of decoded images ({failure})"
    if decoded_dir:
        raise UserError(f"--decoded_dir {decoded_dir} {why}; name a folder with room, or leave it out")
    if sharing:
        print(f"the ranks do not share decoded images: the cache {why}; name a folder by --decoded_dir", flush=True)
    keep_in_memory(datasets, ranks.local_size)


def _shape(dataset):
    return len(dataset), 3, dataset.image_size, dataset.image_size


# -- in memory -------------------------------------------------------------------------------------------------


def keep_in_memory(datasets, processes=1, available=None):
    """Lets ImageDatasets keep their decoded images, if all together take at most half of the memory that is free.

    processes: how many of this machine do the same. available: the free bytes; None: available_memory().
    """
    available = available_memory() if available is None else available
    needed = sum(math.prod(_shape(dataset)) for dataset in datasets)
    size = f"{sum(map(len, datasets)):,} images, {needed / MIB:,.0f} MiB"
    size += f" in each of {processes} processes" if processes > 1 else ""
    if needed * processes > available / 2:
        print(
            f"images are decoded anew each time: {size}, are over half of {available / MIB:,.0f} MiB available; "
            "with --decoded_dir a file would hold them"
        )
        return
    print(f"images are decoded once and kept in memory: {size} of {available / MIB:,.0f} MiB available")
    for dataset in datasets:
        dataset.decoded = DecodedImages(np.empty(_shape(dataset), np.uint8), dataset.decode)


def available_memory(cgroup=Path("/sys/fs/cgroup")):
    """Bytes of memory that this process could still use, in the system or within its container's limit."""
    available = psutil.virtual_memory().available
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        rows = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return available
    return min(available, max(0, limit - used + int(rows.get("inactive_file", 0))))


# -- in a file -------------------------------------------------------------------------------------------------


def _cache_folder():
    """RuntimeError where this user has no home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "dime")


def decoded_path(folder, dataset, split, data_dir):
    """The .npy, uint8 (N, 3, S, S), of a dataset's decoded images. UserError where an image is not there.

    Its name holds a hash of what decides its contents: the image files' paths, sizes and times of change, the image
    size, and the code that decodes. So a file of this name is right.
    """
    source, digest = Path(data_dir).resolve(), hashlib.sha256()
    place = hashlib.sha256(os.fsencode(source)).hexdigest()[:8]
    digest.update(Path(images.__file__).read_bytes())  # the code that turns, resizes and crops
    for part in (PIL.__version__, features.version("jpg"), features.version("zlib"), dataset.image_size):
        digest.update(f"{part}\n".encode())
    image_dir = str(dataset.image_dir)  # as text: a Path would take most of the time
    for name in dataset.names:
        path = os.path.join(image_dir, name)
        try:
            facts = os.stat(path)
        except FileNotFoundError:
            images.require_image_file(path)  # which says so
            raise
        digest.update(os.fsencode(f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\n"))
    return folder / f"{source.stem[:40]}-{split}-{dataset.image_size}-{place}-{digest.hexdigest()[:32]}.npy"


def open_decoded(path, dataset):
    """The DecodedImages of a file, in memory that all who read it share; None where it is not what it should be."""
    try:
        pixels = np.load(path, mmap_mode="r")
    except (OSError, ValueError):  # ValueError: it is cut off, or no .npy
        return None
    return DecodedImages(pixels) if (pixels.shape, pixels.dtype) == (_shape(dataset), np.uint8) else None


def write_decoded(path, dataset, quiet=False):
    """Makes the file at a decoded_path, if it is not there, by all cores. It appears when it is complete.

    Removes an older one of the same split. quiet: without a bar.
    Raises OSError, or a UserError with such a cause, where the file cannot be written; UserError of an image.
    """
    if open_decoded(path, dataset):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_parts(path.parent)
    for outdated in path.parent.glob(f"{escape(path.stem.rpartition('-')[0])}-*.npy"):
        outdated.unlink(missing_ok=True)  # whoever has it open keeps it
    size = math.prod(_shape(dataset))
    if shutil.disk_usage(path.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path.parent))
    print(f"decoding {len(dataset):,} images into {path}, {size / MIB:,.0f} MiB", flush=True)

    def write(file):
        header = {"descr": "|u1", "fortran_order": False, "shape": _shape(dataset)}
        np.lib.format.write_array_header_1_0(file, header)
        with ThreadPoolExecutor(max(4, cpu_count())) as pool, tqdm(total=len(dataset), disable=quiet) as bar:
            bar.set_description("decoding images")
            for start in range(0, len(dataset), BLOCK):
                rows = range(start, min(start + BLOCK, len(dataset)))
                for pixels in pool.map(dataset.decode, rows):
                    file.write(pixels.numpy().tobytes())
                bar.update(len(rows))

    write_file(path, write)
