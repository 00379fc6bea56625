"""The queue of attempts: an image that has not flipped is tried again at the next classifier scale.

Batches stay full, because any attempts can share one. For that, all attempts take the same number of evaluations,
and an attempt's noise depends only on the seed, the image and the number of the attempt. Several ranks take their
images from one list, so that all finish together although some images need more attempts.
"""

from dataclasses import dataclass
from math import ceil
from typing import Any

from guided_diffusion.script.errors import UserError


@dataclass(eq=False)
class Job:
    """One image and the attempts at it."""

    id: int  # index in the data set; with the seed it decides the noise
    row: int  # place in its group
    replay_until: int | None = None  # the attempt at which an earlier run finished the image, None if it did not
    attempt: int = 0  # number of the current attempt, or of the last one
    unstarted_group: list["Job"] | None = None  # its group, until that has been started
    prepared: Any = None  # result of start(), for all attempts
    outcome: Any = None  # result of the last attempt()

    @property
    def replayed(self):
        """Whether an earlier run finished the image. It then only fills its place in a batch; it is not yielded."""
        return self.replay_until is not None


def make_groups(groups, finished_at=None):
    """Lists of ids -> yields lists of Jobs, each to be started together.

    finished_at: id -> number of attempts, for the images that an earlier run finished.
    """
    for ids in groups:
        jobs = [Job(i, row, (finished_at or {}).get(i)) for row, i in enumerate(ids)]
        for job in jobs:
            job.unstarted_group = jobs
        yield jobs


def run_attempts(groups, start, attempt, *, batch_size, num_attempts):
    """Makes attempts in batches. After each batch yields the list of jobs that have flipped or used all attempts.

    groups: lists of jobs. The next group is taken when fewer than batch_size jobs are left, so that each batch is
    full until no group is left. An empty group means that there is none before the next batch. Jobs that were
    started earliest come first, so that they finish nearly in order.
    start(jobs): prepares a group, just before its first attempt. attempt(jobs) -> for each whether it flipped.

    The batches follow from the ids and the outcomes, and the outcomes of replayed jobs are recorded. So a resumed
    run forms the same batches as an unbroken one. It skips batches that have only replayed jobs. It computes all
    others whole, replayed jobs included, because rounding depends on the number of images in a batch.

    A UserError of start() is raised after the jobs that were started before are finished.
    """
    waiting, groups, error = [], iter(groups), None
    while True:
        while len(waiting) < batch_size and (group := next(groups, None)):
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
    """Starts the groups of those jobs of the batch that have not been started."""
    for job in batch:
        if group := job.unstarted_group:
            start(group)
            for each in group:
                each.unstarted_group = None


class Dealer:
    """Deals ids to one rank, in groups, from the list that all ranks share.

    A counter that all ranks add to says how many ids are dealt. As long as many are left, groups are of batch_size.
    Then a rank holds no more than its share of the rest, so that its batches shrink, and no rank is left with a
    batch of images that need all attempts when the others are done.
    """

    def __init__(self, ids, batch_size, ranks):
        self.ids, self.batch_size, self.ranks = ids, batch_size, ranks
        self.dealt = ranks.counter("images dealt")
        self.held = 0  # images that this rank has got and not finished

    def groups(self):
        """Yields lists of ids; [] where the rank should first finish some of those that it holds."""
        while (left := len(self.ids) - self.dealt.total()) > 0:
            size = self._size(left)
            if size == 0:
                yield []
                continue
            end = self.dealt.add(size)
            group = self.ids[end - size : end]  # shorter, or empty, where other ranks have got the last ones
            self.held += len(group)
            if group:
                yield group

    def _size(self, left):
        share = ceil(left / self.ranks.world_size)
        if share >= self.batch_size:
            return self.batch_size
        return max(share - self.held, 0 if self.held else 1)

    def finished(self, number):
        """This many images of this rank are finished."""
        self.held -= number
