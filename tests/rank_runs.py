"""Runs of scripts on several ranks, as srun starts them, each in a process forked as scripts.py does."""

import time

from scripts import TIMEOUT, start_script

from guided_diffusion.ranks.addresses import free_port


def start_tasks(script, flags, number, **extra):
    """Starts a script on this many ranks, told what srun tells its tasks. None is ended for another."""
    step = {"SLURM_JOB_ID": "1", "SLURM_STEP_NUM_TASKS": str(number), "MASTER_PORT": str(free_port())}
    return [
        start_script(script, flags, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), **step, **extra)
        for rank in range(number)
    ]


def finish_tasks(tasks):
    """Waits for all -> (their exit codes, stdouts, stderrs)."""
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
