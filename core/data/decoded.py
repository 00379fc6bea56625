"""Decoded images kept in memory, where they fit."""

from pathlib import Path
from threading import Lock

import numpy as np
import psutil
import torch

MIB = 2**20


class DecodedImages:
    """The results of decode(i) -> uint8 (3, S, S), i in 0 … n-1. decode(i) is called once, when i is first read.

    Several threads may read at once. Do not change a result: it shares the memory that is kept.
    """

    def __init__(self, decode, n, image_size):
        self.decode = decode
        self.pixels = torch.empty((n, 3, image_size, image_size), dtype=torch.uint8)
        self.filled = np.zeros(n, dtype=bool)
        self.locks = [Lock() for _ in range(64)]  # many, so that threads seldom wait for each other's images

    def __getitem__(self, i):
        if not self.filled[i]:
            with self.locks[i % len(self.locks)]:
                if not self.filled[i]:
                    self.pixels[i] = self.decode(i)
                    self.filled[i] = True
        return self.pixels[i]


def keep_decoded(*datasets, processes=1, available=None):
    """Makes ImageDatasets keep their decoded images in memory, if all together take at most half of what is free.

    Prints whether they do. processes: how many processes of this machine do the same.
    available: the free memory in bytes; None: available_memory().
    """
    available = available_memory() if available is None else available
    images = sum(len(dataset) for dataset in datasets)
    needed = sum(len(dataset) * 3 * dataset.image_size**2 for dataset in datasets)
    size = f"{images:,} images, {needed / MIB:,.0f} MiB"
    size += f" in each of {processes} processes" if processes > 1 else ""
    if needed * processes > available / 2:
        print(
            f"images are decoded anew each time: {size}, are over half of {available / MIB:,.0f} MiB available; "
            "with --decoded_dir a file would hold them"
        )
        return
    print(f"images are decoded once and kept in memory: {size} of {available / MIB:,.0f} MiB available")
    for dataset in datasets:
        dataset.decoded = DecodedImages(dataset.decode, len(dataset), dataset.image_size)


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
