"""The ranks of a run: which of several processes this is, as torchrun, mpiexec or srun has started them.

The only user of mpi4py, which is imported under mpiexec alone.
"""

import os
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import torch.distributed as dist

from ..script.errors import UserError, as_user_error

_LOOPBACK = "127.0.0.1"  # where the ranks of one machine meet
_PORTS = 16_000, 14_000  # srun's ranks meet at one of these: the first, and how many; below what systems hand out

_PAUSE = 0.5  # seconds between two questions of a Counter to the store, which is on the first rank's machine


@dataclass(frozen=True)
class Ranks:
    """The number of this process, and how many there are: in the whole run, and on this machine.

    What they tell each other needs connect(), whose Ranks have the store.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_size: int = 1
    store: Any = field(default=None, compare=False, repr=False)

    @property
    def first(self):
        """Whether this is the rank that writes files and prints."""
        return self.rank == 0

    @property
    def several(self):
        return self.world_size > 1

    def gather(self, tensor):
        """(N, ...), of the same shape on every rank -> (world_size · N, ...), in the order of the ranks."""
        if not self.several:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def collect(self, value):
        """Any value that can be pickled -> the list of all ranks' values, on every rank."""
        values = [value] * self.world_size
        if self.several:
            dist.all_gather_object(values, value)
        return values

    def from_first(self, make):
        """What make() returns on the first rank, where alone it is called -> on every rank."""
        values = [make() if self.first else None]
        if self.several:
            dist.broadcast_object_list(values)
        return values[0]

    def wait(self):
        """Returns when every rank has called it."""
        if self.several:
            dist.barrier()

    def counter(self, name):
        """A Counter of this name that all ranks add to."""
        return Counter(self.store, name)


class Counter:
    """A number that all ranks add to, in the store of torch.distributed; without a store, this process alone."""

    def __init__(self, store, name):
        self.store, self.key = store, f"counter/{name}"
        self.sum, self.waiting, self.asked = 0, 0, 0.0

    def add(self, amount):
        """Adds at once -> the sum with it. No two ranks get the same sum."""
        amount, self.waiting = amount + self.waiting, 0
        self.sum = self.sum + amount if self.store is None else self.store.add(self.key, amount)
        self.asked = time.monotonic()
        return self.sum

    def total(self):
        """The sum of all ranks, as it is now."""
        return self.add(0)

    def count(self, amount):
        """Adds when it is time to -> the sum, maybe some tenths of a second old; for what is counted often."""
        self.waiting += amount
        if self.store is None or time.monotonic() - self.asked > _PAUSE:
            return self.add(0)
        return self.sum + self.waiting


def connected():
    """The Ranks that connect() has joined in this process, without what they know of machines; or the only rank."""
    if not dist.is_initialized():
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size())


def rank_in_environment():
    """The number that mpiexec or srun gave this process, 0 where there is none; for the errors of find_ranks()."""
    names = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
    numbers = [os.environ[name] for name in names if os.environ.get(name, "").isdecimal()]
    return int(numbers[0]) if numbers else 0


def find_ranks():
    """The Ranks of this process, as its launcher has set them; without one it is the only rank.

    The launcher is torchrun, the mpiexec of MPICH, Intel MPI or Open MPI, or srun, with or without MPI. Sets
    MASTER_ADDR, where connect() lets the ranks meet, if it can be known; what the user set there is kept.
    UserError where mpiexec and mpi4py do not fit together, or a variable is missing or no number.
    """
    env = os.environ
    if "RANK" in env and "WORLD_SIZE" in env:
        return _ranks_of_torchrun()
    tasks = _tasks_of_srun()
    if "OMPI_COMM_WORLD_SIZE" in env:
        return _ranks_of_mpi(_number("OMPI_COMM_WORLD_SIZE"))
    # Where srun sets PMI's variables they are the same as its own. mpiexec sets its own inside of srun's, too.
    if "PMI_RANK" in env and (env["PMI_RANK"], env.get("PMI_SIZE", "1")) != (env.get("SLURM_PROCID"), str(tasks)):
        return _ranks_of_mpi(_number("PMI_SIZE", 1))
    return _ranks_of_srun(tasks) if tasks else Ranks()


def _number(name, default=""):
    """The whole number of a launcher's variable; UserError where it is none."""
    text = str(os.environ.get(name, default))
    if not text.isdecimal():
        raise UserError(f"the variable {name}, {text!r}, is no whole number; unset it, or start with torchrun")
    return int(text)


def _ranks_of_torchrun():
    """The ranks of torchrun, or of any launcher that sets the same variables."""
    rank, size = _number("RANK"), _number("WORLD_SIZE")
    if rank >= size:
        raise UserError(f"the variable RANK, {rank}, must be below WORLD_SIZE, {size}; start with torchrun")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing and size > 1:
        raise UserError(f"RANK and WORLD_SIZE are set, but not {' and '.join(missing)}; start with torchrun")
    return Ranks(rank, size, _number("LOCAL_RANK", rank), _number("LOCAL_WORLD_SIZE", size))


# -- mpiexec -------------------------------------------------------------------------------------------------


@cache
def _ranks_of_mpi(started):
    """The ranks of which mpiexec has started this many."""
    instead, kinds = "or start with torchrun instead", (ImportError, RuntimeError)
    with as_user_error("mpiexec needs mpi4py, and its MPI", f"pip install mpi4py, {instead}", kinds):
        from mpi4py import MPI
    world = MPI.COMM_WORLD
    if world.size != started:
        raise UserError(
            f"mpiexec started {started} processes, but mpi4py sees {world.size}: it is made for another MPI than "
            f"this mpiexec; use the mpiexec of {MPI.Get_library_version().split(',')[0].split()[0]}, {instead}"
        )
    machine = world.Split_type(MPI.COMM_TYPE_SHARED)
    if world.size > 1:
        own = _LOOPBACK if machine.size == world.size else MPI.Get_processor_name()
        os.environ["MASTER_ADDR"] = world.bcast(os.environ.get("MASTER_ADDR", own))
    return Ranks(world.rank, world.size, machine.rank, machine.size)


def mpi_world():
    """The communicator of the ranks that mpiexec has started, once they are found; None where there is but one."""
    mpi = sys.modules.get("mpi4py.MPI")
    return mpi.COMM_WORLD if mpi and mpi.COMM_WORLD.size > 1 else None


# -- srun ----------------------------------------------------------------------------------------------------


def _tasks_of_srun():
    """How many tasks the step of srun has that this process is one of; 0 where it is none.

    A script of sbatch, or a shell of salloc, has SLURM_NTASKS, and the script SLURM_PROCID too, but it is no task.
    """
    env = os.environ
    if not {"SLURM_PROCID", "SLURM_LOCALID"} <= env.keys():
        return 0
    of_job = 0 if "SLURM_JOB_ID" in env else _number("SLURM_NTASKS", 0)
    return _number("SLURM_STEP_NUM_TASKS", of_job)


def _ranks_of_srun(tasks):
    nodes = _number("SLURM_STEP_NUM_NODES", 1)
    if nodes == 1:
        os.environ.setdefault("MASTER_ADDR", _LOOPBACK)
    elif tasks > 1 and not os.environ.get("MASTER_ADDR"):
        raise UserError(
            f"srun has started {tasks} tasks on {nodes} nodes; set MASTER_ADDR to the first one's name: "
            'export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)'
        )
    # Every task has to come to the same port by itself.
    job, step = _number("SLURM_JOB_ID", 0), _number("SLURM_STEP_ID", 0)
    os.environ.setdefault("MASTER_PORT", str(_PORTS[0] + (job * 31 + step) % _PORTS[1]))
    return Ranks(_number("SLURM_PROCID"), tasks, _number("SLURM_LOCALID"), -(-tasks // nodes))
