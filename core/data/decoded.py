"""Decoded images kept in memory, where they fit."""

from pathlib import Path
from threading import Lock

import numpy as np
import psutil
import torch

MIB = 2**20


class DecodedImages:
    """decode(i) -> uint8 (3, S, S) for i of 0 … n-1, each called once, when image i is first asked for.

    Several threads may ask at once. What is returned is the memory itself: do not change it.
    """

    def __init__(self, decode, n, image_size):
        self.decode = decode
        self.pixels = torch.empty((n, 3, image_size, image_size), dtype=torch.uint8)
        self.filled = np.zeros(n, dtype=bool)
        self.locks = [Lock() for _ in range(64)]  # image i waits for those alone that have its lock

    def __getitem__(self, i):
        if not self.filled[i]:
            with self.locks[i % len(self.locks)]:
                if not self.filled[i]:
                    self.pixels[i] = self.decode(i)
                    self.filled[i] = True
        return self.pixels[i]


def keep_decoded(*datasets, processes=1, available=None):
    """Has the ImageDatasets keep their images once decoded, where these take at most half of the free memory.

    Prints which it is. processes: how many on this machine do the same; available: bytes, asked of the system
    where not given.
    """
    available = available_memory() if available is None else available
    images = sum(len(dataset) for dataset in datasets)
    needed = sum(len(dataset) * 3 * dataset.image_size**2 for dataset in datasets)
    size = f"{images:,} images, {needed / MIB:,.0f} MiB"
    size += f" in each of {processes} processes" if processes > 1 else ""
    if needed * processes > available / 2:
        print(f"images are decoded anew each time: {size}, are over half of {available / MIB:,.0f} MiB available")
        return
    print(f"images are decoded once and kept in memory: {size} of {available / MIB:,.0f} MiB available")
    for dataset in datasets:
        dataset.decoded = DecodedImages(dataset.decode, len(dataset), dataset.image_size)


def available_memory(cgroup=Path("/sys/fs/cgroup")):
    """The bytes that this process could still take: what the system has, or a container's limit leaves."""
    available = psutil.virtual_memory().available
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        rows = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return available
    return min(available, max(0, limit - used + int(rows.get("inactive_file", 0))))
