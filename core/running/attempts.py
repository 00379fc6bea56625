"""The queue of attempts: an image that has not flipped is tried again at the next classifier scale.

Batches stay full, whatever mixture of images and attempts is left. That needs attempts that do not depend on each
other: all take as many evaluations, and the noise of each depends on the seed, the image and the attempt alone.
"""

from dataclasses import dataclass
from typing import Any

from guided_diffusion.errors import UserError


@dataclass(eq=False)
class Job:
    """One image and the attempts at it."""

    id: int  # index in the data set; with the seed it decides the noise
    row: int  # place in its group
    replay_until: int | None = None  # the attempt at which an earlier run finished the image, None if it did not
    attempt: int = 0  # number of the current attempt, or of the last one
    unstarted_group: list["Job"] | None = None  # its group, until that has been started
    prepared: Any = None  # what start() found, for all attempts
    outcome: Any = None  # what attempt() found, the last time

    @property
    def replayed(self):
        """Whether an earlier run finished the image: it then fills its place in a batch, and is not reported."""
        return self.replay_until is not None


def make_groups(groups, finished_at=None):
    """Lists of ids -> lists of Jobs that are started together. finished_at: id -> attempts, of an earlier run."""
    for ids in groups:
        jobs = [Job(i, row, (finished_at or {}).get(i)) for row, i in enumerate(ids)]
        for job in jobs:
            job.unstarted_group = jobs
        yield jobs


def run_attempts(groups, start, attempt, *, batch_size, num_attempts):
    """Makes attempts in batches; yields, after each batch, the list of jobs that have flipped or used all attempts.

    groups: lists of jobs. The next group is taken when fewer than batch_size jobs are left, so that each batch is
    full until no group is left. Jobs that were started earliest come first, so that they finish nearly in order.
    start(jobs): prepares a group, just before its first attempt. attempt(jobs) -> for each whether it flipped.

    The batches follow from ids and outcomes alone, and the outcomes of replayed jobs are known. So a run that goes
    on forms the same batches as an unbroken one. It skips those that hold replayed jobs alone, and computes the
    others whole, replayed jobs included, because rounding depends on how many images a batch has.

    A UserError of start() is raised once the jobs that were started are finished.
    """
    waiting, groups, error = [], iter(groups), None
    while True:
        while len(waiting) < batch_size and (group := next(groups, None)) is not None:
            waiting += group
        batch, rest = waiting[:batch_size], waiting[batch_size:]
        if not batch:
            break
        flipped = [False] * len(batch)
        computed = not all(job.replayed for job in batch)
        if computed:
            try:
                _start_groups(batch, start)
            except UserError as failure:
                error, groups = failure, iter(())
                waiting = [job for job in waiting if job.unstarted_group is None]
                continue
        for job in batch:
            job.attempt += 1
        if computed:
            flipped = attempt(batch)
        done = [
            job.attempt >= job.replay_until if job.replayed else bool(success) or job.attempt == num_attempts
            for job, success in zip(batch, flipped, strict=True)
        ]
        yield [job for job, finished in zip(batch, done, strict=True) if finished and not job.replayed]
        waiting = [job for job, finished in zip(batch, done, strict=True) if not finished] + rest
    if error is not None:
        raise error


def _start_groups(batch, start):
    """Starts the groups of the batch's jobs that have not been started."""
    for job in batch:
        if job.unstarted_group is not None:
            group = job.unstarted_group
            start(group)
            for each in group:
                each.unstarted_group = None
