"""Where computations run: devices, and precisions."""

import ctypes
import os
import sys

import torch

from .script.errors import UserError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def pick_device(gpu):
    """The CUDA device with index `gpu` (an int or its text), or the CPU for -1.

    Prints a message and returns the CPU where there is no GPU, or cuda:0 where none has this index.

    The device becomes the current one, since streams, CUDA graphs and NCCL use that, wherever the tensors are.
    Raises UserError where `gpu` is not an index.
    """
    if str(gpu) in ("", "-1", "cpu"):
        return torch.device("cpu")
    if not str(gpu).isdecimal():
        raise UserError(f"--gpu {gpu} is no index of a GPU; give a number, or -1 for the CPU")
    if not torch.cuda.is_available():
        print(f"--gpu {gpu}: no CUDA device here; running on the CPU", flush=True)
        return torch.device("cpu")
    if int(gpu) >= torch.cuda.device_count():
        print(f"--gpu {gpu}: only {torch.cuda.device_count()} CUDA devices here; running on cuda:0", flush=True)
        gpu = 0
    device = torch.device("cuda", int(gpu))
    torch.cuda.set_device(device)
    return device


def half_precision(device):
    """The type that is fast on `device`: float16 on CUDA, bfloat16 on CPUs built for it, float32 on others."""
    if device.type == "cuda":
        return torch.float16
    # torch emulates bfloat16 on every CPU, but only with these instructions is it fast.
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def keep_freed_memory():
    """Makes malloc keep freed memory and use it again. Call it first: memory allocated before is not affected.

    Activations take megabytes. By default glibc gets each from the system, which clears it page by page, and gives
    it back when it is freed: a quarter of a UNet's time. Does nothing where malloc is not glibc's.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


def cpu_count():
    """How many cores this process may use; where the system does not say, how many the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory(device):
    """The most bytes that this process has held so far: on a GPU, or without one in all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # of Windows
        import psutil

        return psutil.Process().memory_info().peak_wset
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 2**10  # macOS counts bytes, others KiB


def device_of_rank(gpus, ranks):
    """The device of this rank. Without a GPU every rank is on the CPU.

    gpus: indices separated by commas, one for each rank of this machine; "": the first ones, or the only one, as
    where each task of srun sees its own.
    Raises UserError where the machine has more ranks than GPUs, or than `gpus` names.
    """
    named = [part.strip() for part in str(gpus).split(",") if part.strip()]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not named:
        return device_from(0 if count else -1, ranks)
    _require_enough(len(named), f"--gpus {gpus} names {len(named)} GPU(s)", ranks)
    if count:
        return pick_device(named[ranks.local_rank])
    if ranks.first:
        print(f"--gpus {gpus}: no CUDA device here; running on the CPU", flush=True)
    return torch.device("cpu")


def device_from(gpu, ranks):
    """The device of this rank: the first rank of a machine has the GPU with index `gpu`, each further one the next.

    gpu, and where there is no GPU: as for pick_device. The only GPU that a rank sees is its own; where it is
    another rank's, too, connect() refuses it.
    Raises UserError where the machine has more ranks than GPUs from `gpu` on.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if ranks.local_size == 1 or not str(gpu).isdecimal() or not count:
        return pick_device(gpu)
    if count == 1:
        return pick_device(0)
    rest = max(0, count - int(gpu))
    _require_enough(rest, f"this machine has {rest} GPU(s){f' from --gpu {gpu} on' * bool(int(gpu))}", ranks)
    return pick_device(int(gpu) + ranks.local_rank)


def _require_enough(number, gpus, ranks):
    if number < ranks.local_size:
        raise UserError(f"{gpus} for {ranks.local_size} ranks; give each rank one, or start fewer ranks")
