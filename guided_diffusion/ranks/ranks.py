"""The ranks of a run: which of several processes this is, as torchrun, mpiexec or srun has started them.

The only user of mpi4py, which is imported under mpiexec alone.
"""

import os
import re
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist

from ..script.errors import UserError
from .addresses import FREE, LOOPBACK, first_resolving, listen, own_names, reaches
from .counters import Counter

_PORTS = 16_000, 14_000  # srun's ranks meet at one of these: the first, and how many; below what systems hand out


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


def connected():
    """The Ranks that connect() has joined in this process, without what they know of machines; or the only rank."""
    if not dist.is_initialized():
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size())


def rank_in_environment():
    """The number that the launcher gave this process, 0 where there is none; for errors, before find_ranks()."""
    names = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
    numbers = [os.environ[name] for name in names if os.environ.get(name, "").isdigit()]
    return int(numbers[0]) if numbers else 0


def find_ranks():
    """The Ranks of this process, as its launcher has set them; without one it is the only rank.

    The launcher is torchrun, the mpiexec of MPICH, Intel MPI or Open MPI, or srun, with or without MPI. Sets
    MASTER_ADDR and MASTER_PORT, where connect() lets the ranks meet; what the user set there is kept.
    Raises UserError where mpiexec and mpi4py do not fit together, or the ranks cannot reach the first one.
    """
    env = os.environ
    if "RANK" in env and "WORLD_SIZE" in env:
        rank, size = int(env["RANK"]), int(env["WORLD_SIZE"])
        return Ranks(rank, size, int(env.get("LOCAL_RANK", rank)), int(env.get("LOCAL_WORLD_SIZE", size)))
    tasks = _tasks_of_srun()
    if "OMPI_COMM_WORLD_SIZE" in env:
        return _ranks_of_mpi(int(env["OMPI_COMM_WORLD_SIZE"]))
    # Where srun sets PMI's variables they are the same as its own. mpiexec sets its own inside of srun's, too.
    if "PMI_RANK" in env and (env["PMI_RANK"], env.get("PMI_SIZE", "1")) != (env.get("SLURM_PROCID"), str(tasks)):
        return _ranks_of_mpi(int(env.get("PMI_SIZE", 1)))
    return _ranks_of_srun(tasks) if tasks else Ranks()


# -- mpiexec -------------------------------------------------------------------------------------------------


def _ranks_of_mpi(started):
    """The ranks of which mpiexec has started this many."""
    instead = "or start with torchrun instead"
    try:
        from mpi4py import MPI
    except ImportError as error:
        if error.name == "mpi4py":
            raise UserError(f"mpiexec needs mpi4py: pip install mpi4py, {instead}") from None
        raise UserError(f"mpi4py cannot be loaded ({_line(error)}); install it anew, {instead}") from None
    except RuntimeError as error:
        raise UserError(f"mpi4py finds no MPI ({_line(error)}); install the MPI of mpiexec, {instead}") from None
    world = MPI.COMM_WORLD
    if world.size != started:
        raise UserError(
            f"mpiexec started {started} processes, but mpi4py sees {world.size}: it is made for another MPI than "
            f"this mpiexec; use the mpiexec of {MPI.Get_library_version().split(',')[0].split()[0]}, {instead}"
        )
    machine = world.Split_type(MPI.COMM_TYPE_SHARED)
    if world.size > 1:
        _meet_over_mpi(world, one_machine=machine.size == world.size)
    return Ranks(world.rank, world.size, machine.rank, machine.size)


def _line(error):
    return str(error).strip().splitlines()[0]


def _meet_over_mpi(world, one_machine):
    """Sets MASTER_ADDR to a name of the first rank's machine that every rank reaches, and MASTER_PORT."""
    env, listener = os.environ, None
    if world.rank == 0:
        given = env.get("MASTER_ADDR")
        names = [given] if given else [LOOPBACK] * one_machine + own_names()
        listener = listen(int(env.get("MASTER_PORT", FREE)))
    names, port = world.bcast((names, listener.getsockname()[1]) if listener else None)
    reached = world.allgather([reaches(name, port) for name in names])
    if listener:
        listener.close()
    world.barrier()  # so that nobody takes this listener for the store's, which comes next
    good = [name for name, *answers in zip(names, *reached, strict=True) if all(answers)]
    if not good:
        raise UserError(
            f"not every rank reaches the first one, at {' or '.join(names)}; set MASTER_ADDR to an address that "
            "all machines reach"
        )
    env["MASTER_ADDR"], env["MASTER_PORT"] = good[0], str(port)


# -- srun ----------------------------------------------------------------------------------------------------


def _tasks_of_srun():
    """How many tasks the step of srun has that this process is one of; 0 where it is none.

    A script of sbatch, or a shell of salloc, has SLURM_NTASKS, and the script SLURM_PROCID too, but it is no task.
    """
    env = os.environ
    if not {"SLURM_PROCID", "SLURM_LOCALID"} <= env.keys():
        return 0
    of_job = 0 if "SLURM_JOB_ID" in env else env.get("SLURM_NTASKS", 0)
    return int(env.get("SLURM_STEP_NUM_TASKS", of_job))


def _ranks_of_srun(tasks):
    env = os.environ
    on_nodes = _numbers_of_tasks(env.get("SLURM_STEP_TASKS_PER_NODE", str(tasks)))
    local_size = on_nodes[int(env.get("SLURM_NODEID", 0))] if len(on_nodes) > 1 else tasks
    if "MASTER_ADDR" not in env and tasks > 1:
        hosts = [_first_host(env.get("SLURM_STEP_NODELIST", "")), env.get("SLURM_LAUNCH_NODE_IPADDR")]
        env["MASTER_ADDR"] = LOOPBACK if local_size == tasks else first_resolving(hosts)
    # Every task has to come to the same port by itself.
    job, step = (int(env.get(name, 0)) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    env.setdefault("MASTER_PORT", str(_PORTS[0] + (job * 31 + step) % _PORTS[1]))
    return Ranks(int(env["SLURM_PROCID"]), tasks, int(env["SLURM_LOCALID"]), local_size)


def _numbers_of_tasks(text):
    """2(x3),1 -> [2, 2, 2, 1]."""
    parts = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(tasks) for tasks, nodes in parts for _ in range(int(nodes or 1))]


def _first_host(nodes):
    """gpu[07-09,12],login1 -> gpu07."""
    match = re.match(r"([^,\[]+)(?:\[(\d+)[^\]]*\]([^,\[]*))?", nodes)
    return "".join(part or "" for part in match.groups()) if match else None
