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
# What a process started by mpiexec finds in its environment: of MPICH and Intel MPI, and of Open MPI.
_MPI_VARIABLES = ("PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE")


def pick_device(gpu):
    """The CUDA device of index `gpu` (an int or its text), or the CPU, saying so, where there is none.

    A CUDA device becomes the current one: streams, CUDA graphs and NCCL belong to that, wherever the tensors lie.
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
    """The 16-bit type that `device` computes in at speed: float16 on CUDA, bfloat16 on some CPUs, else float32."""
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if _cpu_computes_in_bfloat16() else torch.float32


def _cpu_computes_in_bfloat16():
    # torch emulates bfloat16 on every CPU; only those with these instructions gain by it.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def keep_freed_memory():
    """Has malloc keep what is freed for what comes next. Call it first: it is for memory not yet allocated.

    Activations are megabytes. By default glibc gets each from the system, which clears it, page by page, and gives
    it back when it is freed: a quarter of a UNet's time. Where malloc is not glibc's nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


# -- ranks ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranks:
    """Which of the processes of a training this is: of all of them, and of those on this machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self):
        """Whether this is the rank that writes and speaks."""
        return self.rank == 0

    def gather(self, tensor):
        """(N, ...) of each rank, all of one shape -> (world_size · N, ...), in the order of the ranks."""
        if self.world_size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def wait(self):
        """Returns when every rank has come here."""
        if self.world_size > 1:
            dist.barrier()


def find_ranks():
    """The Ranks of a process that torchrun or mpiexec started; of any other, the only rank there is."""
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
        alone = machine.size == world.size
        meeting = (("127.0.0.1" if alone else socket.getfqdn()), _free_port()) if world.rank == 0 else None
        os.environ["MASTER_ADDR"], port = world.bcast(meeting)
        os.environ["MASTER_PORT"] = str(port)
    return Ranks(world.rank, world.size, machine.rank, machine.size)


def _free_port():
    with socket.socket() as any_socket:
        any_socket.bind(("", 0))
        return any_socket.getsockname()[1]


def device_of_rank(gpus, ranks):
    """The device of a rank. gpus: indices separated by commas, one a rank of this machine; "": the first ones.

    UserError where there are more ranks than GPUs to give them. Without a GPU every rank is on the CPU.
    """
    named = [part.strip() for part in str(gpus).split(",") if part.strip()]
    cuda = torch.cuda.is_available()
    offered = len(named) if named else torch.cuda.device_count() if cuda else ranks.local_size
    if ranks.local_size > offered:
        found = f"--gpus {gpus} names {offered}" if named else f"this machine has {offered}"
        raise UserError(f"{found} GPU(s) for {ranks.local_size} ranks; give each rank one, or start fewer ranks")
    if cuda:
        return pick_device(named[ranks.local_rank] if named else ranks.local_rank)
    if named and ranks.first:
        print(f"--gpus {gpus}: no CUDA device here; running on the CPU", flush=True)
    return torch.device("cpu")


def connect(ranks, device):
    """Joins the ranks, over NCCL on GPUs and Gloo on CPUs. From then on only the first prints to stdout."""
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks.local_size))
    if not ranks.first:
        sys.stdout = open(os.devnull, "w")
    if ranks.world_size > 1:
        # The others wait while the first rank draws samples or validates, which may take long.
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            rank=ranks.rank, world_size=ranks.world_size, timeout=timedelta(hours=6),
        )  # fmt: skip


def under_mpiexec():
    """Whether this is one of several ranks that found each other through MPI."""
    return "mpi4py.MPI" in sys.modules and sys.modules["mpi4py.MPI"].COMM_WORLD.size > 1


def end_process(code, message):
    """Ends this process with a message on stderr, and under mpiexec the other ranks, which would wait for it.

    What goes wrong on every rank is said by the first: the others hold back for a moment, and are ended by it.
    """
    env = os.environ
    if int(env.get("RANK") or env.get("PMI_RANK") or env.get("OMPI_COMM_WORLD_RANK") or 0) > 0:
        time.sleep(3)
    print(message, file=sys.stderr, flush=True)
    if under_mpiexec():
        sys.modules["mpi4py.MPI"].COMM_WORLD.Abort(code)
    sys.exit(code)
