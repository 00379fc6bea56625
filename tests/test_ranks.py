"""Which rank a process is, by the variables of whatever started it."""

import os
import sys
from types import SimpleNamespace

import pytest
import torch
from assertions import refusal

from guided_diffusion.dist_util import device_from, device_of_rank
from guided_diffusion.ranks.connecting import refuse_shared_gpus
from guided_diffusion.ranks.ranks import Counter, Ranks, find_ranks
from guided_diffusion.script.errors import UserError

LAUNCHERS = ("SLURM_", "PMI_", "PMIX_", "OMPI_", "MPI_", "MASTER_", "LOCAL_", "TORCHELASTIC_")


@pytest.fixture
def started(monkeypatch):
    """Sets the variables of a launcher, and no others."""
    for name in list(os.environ):
        if name.startswith(LAUNCHERS) or name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name)

    def start(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    yield start
    for name in ("MASTER_ADDR", "MASTER_PORT"):  # which find_ranks may have set
        os.environ.pop(name, None)


# -- srun ----------------------------------------------------------------------------------------------------


def test_a_task_of_srun_is_a_rank_without_mpi(started):
    started(SLURM_PROCID=1, SLURM_NTASKS=2, SLURM_LOCALID=1)
    assert find_ranks() == Ranks(1, 2, 1, 2)
    assert os.environ["MASTER_ADDR"] == "127.0.0.1" and 16_000 <= int(os.environ["MASTER_PORT"]) < 30_000
    assert "mpi4py.MPI" not in sys.modules


STEP = {
    "SLURM_JOB_ID": 1234,
    "SLURM_STEP_ID": 0,
    "SLURM_PROCID": 4,
    "SLURM_LOCALID": 1,
    "SLURM_STEP_NUM_TASKS": 5,
    "SLURM_STEP_NUM_NODES": 2,
    "MASTER_ADDR": "node07",
}


def test_a_step_over_nodes_meets_where_the_user_says(started):
    started(**STEP, MASTER_PORT=12345)
    assert find_ranks() == Ranks(4, 5, 1, 3)
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("node07", "12345")
    del os.environ["MASTER_ADDR"]
    assert "set MASTER_ADDR to the first one's name: export" in refusal(UserError, find_ranks)


def test_every_task_of_a_step_comes_to_the_same_port_and_other_steps_to_another(started):
    ports = []
    for step, rank in ((0, 0), (0, 4), (1, 0)):
        started(**STEP | {"SLURM_STEP_ID": step, "SLURM_PROCID": rank})
        os.environ.pop("MASTER_PORT", None)
        find_ranks()
        ports.append(os.environ["MASTER_PORT"])
    assert ports[0] == ports[1] != ports[2]


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"RANK": 0, "WORLD_SIZE": 1},  # which need no place to meet
        {"SLURM_JOB_ID": 7, "SLURM_NTASKS": 4},  # a shell of salloc
        {"SLURM_JOB_ID": 7, "SLURM_NTASKS": 4, "SLURM_PROCID": 0, "SLURM_LOCALID": 0, "ENVIRONMENT": "BATCH"},
        {"SLURM_JOB_ID": 7, "SLURM_NTASKS": 4, "SLURM_PROCID": 0, "SLURM_LOCALID": 0, "SLURM_STEP_NUM_TASKS": 1},
    ],
    ids=["alone", "alone by a launcher", "salloc", "script of sbatch", "shell by srun --pty"],
)
def test_what_is_not_started_as_one_of_several_is_the_only_rank(started, variables):
    started(**variables)
    assert find_ranks() == Ranks()


# -- torchrun and mpiexec ------------------------------------------------------------------------------------


def test_a_rank_of_torchrun_is_one_inside_of_srun_too(started):
    started(**STEP, RANK=3, WORLD_SIZE=8, LOCAL_RANK=1, LOCAL_WORLD_SIZE=2, MASTER_PORT=1)
    assert find_ranks() == Ranks(3, 8, 1, 2)


@pytest.mark.parametrize(
    "variables, words",
    [
        ({"RANK": 0, "WORLD_SIZE": 2}, "not MASTER_ADDR and MASTER_PORT"),
        ({"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost"}, "not MASTER_PORT"),
        ({"RANK": "", "WORLD_SIZE": ""}, "RANK, '', is no whole number"),
        ({"RANK": 0, "WORLD_SIZE": "two"}, "WORLD_SIZE, 'two', is no whole number"),
        ({"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": "-1"}, "LOCAL_RANK, '-1', is no whole number"),
        ({"RANK": 2, "WORLD_SIZE": 2}, "RANK, 2, must be below WORLD_SIZE, 2"),
        ({"SLURM_PROCID": 0, "SLURM_LOCALID": 0, "SLURM_STEP_NUM_TASKS": "many"}, "SLURM_STEP_NUM_TASKS, 'many'"),
    ],
)
def test_a_variable_that_is_missing_or_no_number_is_named(started, variables, words):
    started(**variables)
    assert words in refusal(UserError, find_ranks)


def test_srun_may_set_pmis_variables_too(started):
    started(**STEP, PMI_RANK=4, PMI_SIZE=5)
    assert find_ranks() == Ranks(4, 5, 1, 3) and "mpi4py.MPI" not in sys.modules


def with_mpi(monkeypatch, size, rank=0):
    """Puts in mpi4py's place one whose world is of this size."""
    world = SimpleNamespace(size=size, rank=rank, Split_type=lambda kind: SimpleNamespace(size=size, rank=rank))
    mpi = SimpleNamespace(COMM_WORLD=world, COMM_TYPE_SHARED=0, Get_library_version=lambda: "MPICH Version: 4.2")
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=mpi))


@pytest.mark.parametrize("variables", [{"PMI_SIZE": 4, "PMI_RANK": 0}, {"OMPI_COMM_WORLD_SIZE": 4}])
def test_an_mpi_that_sees_one_process_of_four_is_refused(started, monkeypatch, variables):
    started(**variables)
    with_mpi(monkeypatch, 1)
    message = refusal(UserError, find_ranks)
    assert "mpiexec started 4 processes, but mpi4py sees 1" in message and "MPICH" in message


def test_mpiexec_inside_of_a_job_counts_before_the_jobs_variables(started, monkeypatch):
    started(**STEP, PMI_RANK=0, PMI_SIZE=1)
    with_mpi(monkeypatch, 1)
    assert find_ranks() == Ranks()


@pytest.mark.parametrize(
    "error", [RuntimeError("cannot load MPI library\nlibmpi.so: none"), ImportError("libmpi.so")]
)
def test_an_mpi4py_without_its_library_is_an_error_of_one_line(started, monkeypatch, tmp_path, error):
    (tmp_path / "mpi4py.py").write_text(
        f"def __getattr__(name):\n    raise {type(error).__name__}({str(error)!r})\n"
    )
    monkeypatch.delitem(sys.modules, "mpi4py", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    started(PMI_SIZE=2, PMI_RANK=0)
    message = refusal(UserError, find_ranks)
    assert "\n" not in message and "torchrun" in message and "mpi4py" in message
    del sys.modules["mpi4py"]


# -- GPUs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def gpus(monkeypatch):
    """Sets how many GPUs there are."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    return lambda count: monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_the_only_gpu_that_a_task_sees_is_its_own(gpus):
    gpus(1)
    assert device_from("0", Ranks(3, 4, 3, 4)) == torch.device("cuda", 0)
    assert device_of_rank("", Ranks(3, 4, 3, 4)) == torch.device("cuda", 0)


def test_ranks_of_a_machine_have_consecutive_gpus(gpus):
    gpus(4)
    assert [device_from("1", Ranks(k, 3, k, 3)).index for k in range(3)] == [1, 2, 3]
    assert device_from("-1", Ranks(1, 2, 1, 2)) == torch.device("cpu")
    message = refusal(UserError, device_from, "2", Ranks(0, 3, 0, 3))
    assert "2 GPU(s) from --gpu 2 on for 3 ranks" in message


def test_a_gpu_of_two_ranks_is_refused():
    class Store(dict):
        set, get = dict.__setitem__, dict.__getitem__

    store = Store({"gpu/1": "uuid-0"})
    assert "1 GPU(s) for 2 ranks" in refusal(UserError, refuse_shared_gpus, Ranks(0, 2, 0, 1, store), "uuid-0")
    refuse_shared_gpus(Ranks(0, 2, 0, 1, store), "uuid-1")


# -- counting ------------------------------------------------------------------------------------------------


def test_a_counter_of_one_process_counts():
    counter = Counter(None, "n")
    assert [counter.add(3), counter.count(2), counter.total()] == [3, 5, 5]


def test_a_counter_asks_the_store_now_and_then_and_loses_nothing():
    asked = []

    class Store:
        sum = 100

        def add(self, key, amount):
            asked.append(amount)
            self.sum += amount
            return self.sum

    counter = Counter(Store(), "n")
    counted = [counter.count(1) for _ in range(50)]
    assert counted[-1] == 150 and len(asked) < 10
    assert counter.total() == 150 and sum(asked) == 50
