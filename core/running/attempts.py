"""The ladder of attempts as a queue: batches stay full, whatever mixture of images and attempts is left.

That needs attempts that know nothing of each other: all take as many evaluations, and the noise of each depends on
the seed, the image and the attempt alone.
"""

from dataclasses import dataclass, field

from guided_diffusion.errors import UserError


@dataclass(eq=False)
class Job:
    """An image on its way up the ladder."""

    id: int  # what names its noise
    row: int  # its place among those that it begins with
    finished_at: int | None = None  # the attempt at which an earlier run finished it
    attempt: int = 0  # the one that is being made, or was made last
    group: list["Job"] | None = None  # those that it begins with, until they have begun
    given: dict = field(default_factory=dict)  # what begin() knows of it, for every attempt
    found: dict = field(default_factory=dict)  # what its last attempt found

    @property
    def again(self):
        """Whether it takes part only because it did so in the earlier run, and is not reported."""
        return self.finished_at is not None


def make_groups(groups, finished_at=None):
    """Lists of ids -> lists of Jobs that begin together. finished_at: id -> attempts, of an earlier run."""
    for ids in groups:
        jobs = [Job(i, row, (finished_at or {}).get(i)) for row, i in enumerate(ids)]
        for job in jobs:
            job.group = jobs
        yield jobs


def climb(groups, begin, attempt, *, batch_size, num_attempts):
    """Makes attempts in batches until each job has flipped or made num_attempts; yields those that have, by batch.

    groups: lists of jobs, taken one at a time where fewer than batch_size jobs are left, so that each batch is full
    until nothing is left to take. Those that were begun earliest come first, so that they finish nearly in order.
    begin(jobs): prepares a group, just before the first of it is attempted. attempt(jobs) -> whether each flipped.

    The batches follow from ids and outcomes alone, and the outcomes of jobs finished earlier are known. So a run
    that goes on forms the batches of an unbroken one: it passes over those that hold nothing else, and makes the
    others as they were, finished jobs included: rounding depends on how many images a batch has.

    A UserError of begin() is raised once the jobs that had begun are finished.
    """
    ready, groups, error = [], iter(groups), None
    while True:
        while len(ready) < batch_size and (group := next(groups, None)) is not None:
            ready += group
        batch, waiting = ready[:batch_size], ready[batch_size:]
        if not batch:
            break
        flipped = [False] * len(batch)
        computed = not all(job.again for job in batch)
        if computed:
            try:
                _begin(batch, begin)
            except UserError as failure:
                error, groups = failure, iter(())
                ready = [job for job in ready if job.group is None]
                continue
        for job in batch:
            job.attempt += 1
        if computed:
            flipped = attempt(batch)
        done = [
            job.attempt >= job.finished_at if job.again else bool(success) or job.attempt == num_attempts
            for job, success in zip(batch, flipped, strict=True)
        ]
        yield [job for job, finished in zip(batch, done, strict=True) if finished and not job.again]
        ready = [job for job, finished in zip(batch, done, strict=True) if not finished] + waiting
    if error is not None:
        raise error


def _begin(batch, begin):
    for job in batch:
        if job.group is not None:
            group = job.group
            begin(group)
            for each in group:
                each.group = None
