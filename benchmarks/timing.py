"""Timing for the benchmarks: a clock that waits for the device, processes for single measurements, and medians."""

import statistics
import time
from multiprocessing import get_context

import torch

from guided_diffusion.script.flags import Flag

ROUNDS = Flag(3, "how often every variant is measured; the median counts", low=1, high=1000)


def now(device):
    """The time in seconds, read once the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def in_own_process(function, *inputs):
    """function(*inputs), computed in a new process, so that no memory, threads or compiled code remain."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, inputs)


def medians(rounds):
    """key -> the same measurements in each round, as rows -> key -> the median of each column."""
    return {key: [statistics.median(column) for column in zip(*rows, strict=True)] for key, rows in rounds.items()}
