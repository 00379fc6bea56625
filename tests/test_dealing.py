"""Images are dealt so that all ranks finish together. Here ranks are generators, and an attempt takes a second."""

import heapq
import random
from dataclasses import dataclass

import pytest

from core.running.attempts import Dealer, make_groups, run_attempts
from guided_diffusion.ranks.ranks import Counter


@dataclass
class Together:
    """Stands for the Ranks of one process each: what they count is one number."""

    world_size: int
    number: Counter

    def counter(self, name):
        return self.number


def attempts_needed(n, seed):
    draw = random.Random(seed)
    return [draw.choice([1, 1, 2, 3]) for _ in range(n)]


def a_rank(groups, needed, batch_size, finished):
    """A generator of what this rank does: the seconds that each batch takes, one for each image in it."""
    seconds = []

    def attempt(jobs):
        seconds.append(len(jobs))
        return [job.attempt == needed[job.id] for job in jobs]

    for jobs in run_attempts(
        make_groups(groups), lambda jobs: None, attempt, batch_size=batch_size, num_attempts=3
    ):
        finished(jobs)
        yield seconds[-1]


def ends(ranks):
    """The second at which each rank is done. The rank that is furthest behind takes the next step."""
    clocks, found = [(0, k) for k in range(len(ranks))], [0] * len(ranks)
    while clocks:
        now, k = heapq.heappop(clocks)
        if (seconds := next(ranks[k], None)) is None:
            found[k] = now
        else:
            heapq.heappush(clocks, (now + seconds, k))
    return found


def dealt(needed, world_size, batch_size):
    """(ends of ranks that are dealt the images, ids in the order in which they finish, sizes of batches)."""
    together, order, batches = Together(world_size, Counter(None, "dealt")), [], []

    def start_rank():
        dealer = Dealer(list(range(len(needed))), batch_size, together)

        def finished(jobs):
            dealer.finished(len(jobs))
            order.extend(job.id for job in jobs)

        for seconds in a_rank(dealer.groups(), needed, batch_size, finished):
            batches.append(seconds)
            yield seconds

    return ends([start_rank() for _ in range(world_size)]), order, batches


CASES = [(n, size, batch, seed) for n, size, batch in ((800, 8, 16), (200, 2, 16), (50, 4, 4)) for seed in range(3)]


@pytest.mark.parametrize("n, world_size, batch_size, seed", CASES)
def test_every_image_is_explained_once_and_ranks_finish_together(n, world_size, batch_size, seed):
    needed = attempts_needed(n, seed)
    times, order, batches = dealt(needed, world_size, batch_size)
    assert sorted(order) == list(range(n)) and sum(times) == sum(needed)
    assert max(times) - min(times) <= 9  # three single images that need all attempts
    assert max(batches) == batch_size


def test_batches_stay_full_until_the_end_is_near():
    _, _, batches = dealt(attempts_needed(800, 1), 4, 16)
    full = sum(size for size in batches if size == 16)
    assert full > 0.8 * sum(batches)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_fewer_images_than_ranks_are_dealt_too(n):
    times, order, _ = dealt([3] * n, 4, 16)
    assert sorted(order) == list(range(n)) and max(times) == 3 * min(n, 1)
