"""Runs of scripts on several ranks: by a launcher, or each in a forked process that is told what one tells it."""

import shutil
import socket
import sys
import time

import pytest
from scripts import ROOT, SEARCH_PATH, TIMEOUT, as_argv, start_script


def free_port():
    with socket.create_server(("", 0)) as listener:
        return listener.getsockname()[1]


def require(launcher):
    """Skips the test where there is no such launcher."""
    if not shutil.which(launcher, path=SEARCH_PATH):
        pytest.skip(f"no {launcher} on this machine")


def words_of(launcher, script, flags):
    """The command that runs a script of the root on two ranks by mpiexec or torchrun, for run_command."""
    require(launcher)
    start = {"mpiexec": ["mpiexec", "-n", 2, sys.executable], "torchrun": ["torchrun", "--nproc-per-node", 2]}
    return as_argv([*start[launcher], ROOT / script, *as_argv(flags)])


def start_tasks(script, flags, number, **extra):
    """Starts a script on this many ranks, as srun does."""
    step = {"SLURM_JOB_ID": "1", "SLURM_STEP_NUM_TASKS": str(number), "MASTER_PORT": str(free_port())}
    return [
        start_script(script, flags, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), **step, **extra)
        for rank in range(number)
    ]


def start_ranks(script, flags, folders=(ROOT, ROOT)):
    """Starts a script on a rank in each of the folders, as torchrun does."""
    size = str(len(folders))
    everywhere = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    everywhere |= {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    return [
        start_script(script, flags, folder, RANK=str(rank), LOCAL_RANK=str(rank), **everywhere)
        for rank, folder in enumerate(folders)
    ]


def finish_tasks(tasks):
    """Waits for all -> (their exit codes, stdouts, stderrs). One that fails ends the others, as by a launcher."""
    while any(task.poll() is None for task in tasks) and not any(task.poll() for task in tasks):
        time.sleep(0.01)
    for task in tasks:
        if task.poll() is None:
            task.kill()
    return tuple(zip(*[task.finish() for task in tasks], strict=True))


def run_tasks(script, flags, number, **extra):
    """Runs a script on ranks that must all succeed -> (stdout of all, stderr of all)."""
    codes, outs, errs = finish_tasks(start_tasks(script, flags, number, **extra))
    assert set(codes) == {0}, "".join(errs)
    return "".join(outs), "".join(errs)


def wait_for(there, tasks):
    """Returns as soon as there() holds, or a task has ended."""
    began = time.monotonic()
    while not there() and all(task.poll() is None for task in tasks) and time.monotonic() - began < TIMEOUT:
        time.sleep(0.001)
