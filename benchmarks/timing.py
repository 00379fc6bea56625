"""How the benchmarks take time: a clock that waits for the device, processes of their own, and medians."""

import statistics
import time
from multiprocessing import get_context

import torch

from guided_diffusion.flags import Flag

ROUNDS = Flag(3, "how often every variant is measured; the median counts", low=1, high=1000)


def now(device):
    """Seconds, once the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def alone(function, *inputs):
    """function(*inputs) in a process of its own, which leaves no memory, no threads and no compiler behind."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, inputs)


def medians(found):
    """key -> rows of measurements -> key -> the median of each column."""
    return {key: [statistics.median(column) for column in zip(*rows, strict=True)] for key, rows in found.items()}
