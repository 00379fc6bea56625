"""Where computations run: devices, precisions, and the ranks of a distributed training.

The only user of mpi4py, which is imported under mpiexec alone.
"""

import ctypes
import os
import socket
import sys
import time
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from .errors import UserError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
# mpiexec sets these for its processes: MPICH and Intel MPI the first two, Open MPI the last.
_MPI_VARIABLES = ("PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE")


def pick_device(gpu):
    """The CUDA device with index `gpu` (an int or its text), or the CPU for -1.

    Prints a message and returns the CPU where there is no GPU, or cuda:0 where none has this index.

    The device becomes the current one, since streams, CUDA graphs and NCCL use that, wherever the tensors are.
    Raises UserError where `gpu` is not an index.
    """
    if str(gpu) in ("", "-1", "cpu"):
        return torch.device("cpu")
    if not str(gpu).isdigit():
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
    return torch.bfloat16 if _cpu_computes_in_bfloat16() else torch.float32


def _cpu_computes_in_bfloat16():
    # torch emulates bfloat16 on every CPU, but only with these instructions is it fast.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def keep_freed_memory():
    """Makes malloc keep freed memory and use it again. Call it first: memory allocated before is not affected.

    Activations take megabytes. By default glibc gets each from the system, which clears it page by page, and gives
    it back when it is freed: a quarter of a UNet's time. Does nothing where malloc is not glibc's.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


# -- ranks ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranks:
    """The number of this process, and how many there are: in the whole training, and on this machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self):
        """Whether this is the rank that writes files and prints."""
        return self.rank == 0

    def gather(self, tensor):
        """(N, ...), of the same shape on every rank -> (world_size · N, ...), in the order of the ranks."""
        if self.world_size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def wait(self):
        """Returns when every rank has called it."""
        if self.world_size > 1:
            dist.barrier()


def find_ranks():
    """The Ranks of this process, as torchrun or mpiexec has set them. Without either it is the only rank."""
    env = os.environ
    if "RANK" in env and "WORLD_SIZE" in env:
        rank, size = int(env["RANK"]), int(env["WORLD_SIZE"])
        return Ranks(rank, size, int(env.get("LOCAL_RANK", rank)), int(env.get("LOCAL_WORLD_SIZE", size)))
    if any(name in env for name in _MPI_VARIABLES):
        return _ranks_of_mpi()
    return Ranks()


def _ranks_of_mpi():
    try:
        from mpi4py import MPI
    except ImportError:
        raise UserError("mpiexec needs mpi4py: pip install mpi4py, or start with torchrun instead") from None
    world = MPI.COMM_WORLD
    machine = world.Split_type(MPI.COMM_TYPE_SHARED)
    if world.size > 1:
        one_machine = machine.size == world.size
        address = (("127.0.0.1" if one_machine else socket.getfqdn()), _free_port()) if world.rank == 0 else None
        os.environ["MASTER_ADDR"], port = world.bcast(address)
        os.environ["MASTER_PORT"] = str(port)
    return Ranks(world.rank, world.size, machine.rank, machine.size)


def _free_port():
    with socket.socket() as any_socket:
        any_socket.bind(("", 0))
        return any_socket.getsockname()[1]


def device_of_rank(gpus, ranks):
    """The device of this rank. Without a GPU every rank is on the CPU.

    gpus: indices separated by commas, one for each rank of this machine; "": the first ones.
    Raises UserError where the machine has more ranks than GPUs, or than `gpus` names.
    """
    named = [part.strip() for part in str(gpus).split(",") if part.strip()]
    cuda = torch.cuda.is_available()
    offered = len(named) if named else torch.cuda.device_count() if cuda else ranks.local_size
    if ranks.local_size > offered:
        source = f"--gpus {gpus} names {offered}" if named else f"this machine has {offered}"
        raise UserError(f"{source} GPU(s) for {ranks.local_size} ranks; give each rank one, or start fewer ranks")
    if cuda:
        return pick_device(named[ranks.local_rank] if named else ranks.local_rank)
    if named and ranks.first:
        print(f"--gpus {gpus}: no CUDA device here; running on the CPU", flush=True)
    return torch.device("cpu")


def connect(ranks, device):
    """Connects the ranks, by NCCL on GPUs and Gloo on CPUs. From then on only the first one prints to stdout."""
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks.local_size))
    if not ranks.first:
        sys.stdout = open(os.devnull, "w")
    if ranks.world_size > 1:
        # The others wait while the first rank draws samples or validates, which may take long.
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            rank=ranks.rank,
            world_size=ranks.world_size,
            timeout=timedelta(hours=6),
        )


def under_mpiexec():
    """Whether this is one of several ranks that mpiexec started."""
    return "mpi4py.MPI" in sys.modules and sys.modules["mpi4py.MPI"].COMM_WORLD.size > 1


def end_process(code, message):
    """Ends this process with a message on stderr. Under mpiexec it also ends the other ranks, which would wait.

    An error that every rank has is printed once, by the first: the others wait a moment, and it ends them.
    """
    env = os.environ
    if int(env.get("RANK") or env.get("PMI_RANK") or env.get("OMPI_COMM_WORLD_RANK") or 0) > 0:
        time.sleep(3)
    print(message, file=sys.stderr, flush=True)
    if under_mpiexec():
        time.sleep(0.5)  # mpiexec drops what it has not passed on yet when a rank aborts
        sys.modules["mpi4py.MPI"].COMM_WORLD.Abort(code)
    sys.exit(code)
