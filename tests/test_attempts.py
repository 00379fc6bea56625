"""The queue of attempts: which batches it makes, in which order images finish, and how it goes on."""

import random

import pytest
import torch
from assertions import assert_near, refusal
from reference_weights import deterministic_array
from toy_networks import brightness_logit as brightness
from toy_networks import grey_denoiser as network

from core.data.images import to_uint8
from core.methods.registry import find_method
from core.running.attempts import make_groups, run_attempts
from core.running.explainer import Explainer, Settings, explain
from core.running.explanation import gather
from guided_diffusion.script.errors import UserError
from guided_diffusion.script_util import create_gaussian_diffusion

# -- the batches -------------------------------------------------------------------------------------------


class Queue:
    """run_attempts() over jobs that need a given number of attempts each, and what it asked for."""

    def __init__(self, needed, batch_size, num_attempts, finished_at=None, broken=()):
        self.needed, self.batch_size, self.broken = needed, batch_size, broken
        self.batches, self.begun, self.finished, self.most = [], [], [], 0
        ids = list(needed)
        groups = make_groups([ids[k : k + batch_size] for k in range(0, len(ids), batch_size)], finished_at)
        self.jobs = run_attempts(groups, self.begin, self.attempt, batch_size=batch_size, num_attempts=num_attempts)

    def begin(self, jobs):
        ids = [job.id for job in jobs]
        if set(ids) & set(self.broken):
            raise UserError(f"broken {ids}")
        self.begun += ids
        self.most = max(self.most, len(self.begun) - len(self.finished))

    def attempt(self, jobs):
        self.batches.append([(job.id, job.attempt) for job in jobs])
        return [job.attempt == self.needed[job.id] for job in jobs]

    def run(self):
        for jobs in self.jobs:
            self.finished += [job.id for job in jobs]
        return self


def random_needs(n, seed):
    draw = random.Random(seed)
    return {i: draw.choice([1, 1, 2, 3, 9]) for i in draw.sample(range(1000), n)}  # 9: never


CASES = [(n, batch_size, seed) for n, batch_size in ((1, 4), (7, 1), (24, 4), (23, 5), (40, 16)) for seed in (0, 1)]


@pytest.mark.parametrize("n, batch_size, seed", CASES)
def test_batches_are_full_until_nothing_is_left_to_begin(n, batch_size, seed):
    queue = Queue(random_needs(n, seed), batch_size, 3).run()
    last_begun = max(k for k, batch in enumerate(queue.batches) if any(attempt == 1 for _, attempt in batch))
    assert all(len(batch) == batch_size for batch in queue.batches[:last_begun])
    assert len(queue.batches) - last_begun <= 3


@pytest.mark.parametrize("n, batch_size, seed", CASES)
def test_each_image_makes_its_attempts_once_and_in_turn_and_none_after_it_has_flipped(n, batch_size, seed):
    needed = random_needs(n, seed)
    queue = Queue(needed, batch_size, 3).run()
    made = [attempt for batch in queue.batches for attempt in batch]
    for i, number in needed.items():
        assert [attempt for j, attempt in made if j == i] == list(range(1, min(number, 3) + 1))
    assert sorted(queue.finished) == sorted(needed) == sorted(queue.begun)


@pytest.mark.parametrize("n, batch_size, seed", CASES)
def test_few_images_are_on_their_way_and_they_finish_nearly_in_order(n, batch_size, seed):
    needed = random_needs(n, seed)
    queue = Queue(needed, batch_size, 3).run()
    assert queue.most < 2 * batch_size
    places = {i: place for place, i in enumerate(needed)}
    assert all(abs(places[i] - place) < 2 * batch_size for place, i in enumerate(queue.finished))
    for batch in queue.batches:
        attempts = [attempt for _, attempt in batch]
        assert attempts == sorted(attempts, reverse=True)


@pytest.mark.parametrize("n, batch_size, seed", CASES)
def test_a_queue_that_goes_on_makes_batches_of_the_unbroken_one_and_only_those_it_needs(n, batch_size, seed):
    needed = random_needs(n, seed)
    whole = Queue(needed, batch_size, 3).run()
    for done in range(n + 1):
        before = {i: min(needed[i], 3) for i in whole.finished[:done]}
        rest = Queue(needed, batch_size, 3, before).run()
        assert sorted(rest.finished) == sorted(whole.finished[done:])
        necessary = [batch for batch in whole.batches if any(i not in before for i, _ in batch)]
        assert rest.batches == necessary
        if not necessary:
            assert not rest.begun  # nor is anything loaded


def test_what_cannot_begin_is_an_error_once_all_that_has_begun_is_finished():
    needed = {i: 1 + i % 3 for i in range(12)}
    queue = Queue(needed, 3, 3, broken=[7])
    assert "broken [6, 7, 8]" in refusal(UserError, queue.run)
    assert sorted(queue.finished) == [0, 1, 2, 3, 4, 5]


# -- explanations ------------------------------------------------------------------------------------------

DIFFUSION = create_gaussian_diffusion(diffusion_steps=200, timestep_respacing="12", predict_xstart=True)
TAU, SCALES, N = 4, (1.0, 4.0, 8.0), 14
IDS = [5, 17, 3, 202_598, 4, 80, 8, 12, 90, 33, 2, 1, 77, 6]
LEVELS = torch.linspace(-0.6, 0.6, N)[torch.randperm(N, generator=torch.Generator().manual_seed(0))]
IMAGES = (LEVELS[:, None, None, None] + deterministic_array("faces", (N, 3, 8, 8), 0.1)).clamp(-1, 1)
METHODS = ["dime", "maskdime", "inversion"]


def options_of(method):
    return {"method": method, "tau": TAU, "classifier_scales": SCALES, "seed": 4, "l1_loss": 0.05}


def load_of(images, target=-1, labels=None):
    rows = {i: row for row, i in enumerate(IDS)}

    def load(ids):
        chosen = [rows[i] for i in ids]
        return images[chosen], target, None if labels is None else labels[chosen]

    return load


def run(
    method,
    batch_size,
    order=range(N),
    model_fn=network,
    finished_at=None,
    labels=None,
    on_attempt=None,
    callback=None,
    **options,
):
    """The finished jobs, in lists; the ids in that order, in groups of batch_size."""
    ids = [IDS[row] for row in order]
    groups = [ids[k : k + batch_size] for k in range(0, N, batch_size)]
    settings = Settings.of(**options_of(method) | options)
    explainer = Explainer(brightness, DIFFUSION, model_fn, settings, on_attempt=on_attempt, callback=callback)
    return list(explainer.explain(groups, load_of(IMAGES, labels=labels), batch_size, finished_at))


def by_row(finished):
    return gather(sorted((job for jobs in finished for job in jobs), key=lambda job: IDS.index(job.id)))


@pytest.fixture(scope="module", params=METHODS)
def method(request):
    return request.param


@pytest.fixture(scope="module")
def alone(method):
    """What explain() finds, of each image alone."""
    return [
        explain(IMAGES[[row]], brightness, DIFFUSION, network, ids=IDS[row : row + 1], **options_of(method))
        for row in range(N)
    ]


@pytest.mark.parametrize("batch_size", [1, 3, 8, 20])
@pytest.mark.parametrize("order", [range(N), range(N - 1, -1, -1)], ids=["forwards", "backwards"])
def test_in_any_mixture_and_order_an_image_has_the_answer_that_it_has_alone(method, alone, batch_size, order):
    found = by_row(run(method, batch_size, order))
    assert torch.equal(found.image, IMAGES)
    assert len(found.attempts.unique()) >= 2
    for row, one in enumerate(alone):
        for name in ("prediction", "target", "cf_prediction", "attempts", "scale"):
            assert torch.equal(getattr(found, name)[row], getattr(one, name)[0]), name
        assert_near(found.start[row], one.start[0])
        difference = to_uint8(found.counterfactual[row]).int() - to_uint8(one.counterfactual[0]).int()
        assert difference.abs().max() <= 1
        assert torch.equal(found.mask[row], one.mask[0])


def test_the_network_sees_full_batches_and_no_evaluation_too_many(method):
    seen, before = [], []

    def counted(z, t):
        seen.append(len(z))
        return network(z, t)

    finished = run(method, 4, model_fn=counted, on_attempt=lambda jobs: before.append(len(seen)))
    cost = find_method(method).cost(TAU)
    of_attempts = [seen[k : k + cost.each] for k in before]
    assert all(sizes == [4] * cost.each for sizes in of_attempts[:-3])
    attempts = [job.attempt for jobs in finished for job in jobs]
    assert sum(seen) == N * cost.once + sum(attempts) * cost.each and len(of_attempts) > 6


def test_the_noise_of_an_image_is_that_of_its_id_and_attempt_alone():
    def drawn(batch_size, order):
        told = {}

        def watch(step, jobs):
            for row, job in enumerate(jobs):
                told.setdefault((job.id, job.attempt, step["t"]), step["z"][row].clone())

        run("dime", batch_size, order, callback=watch, classifier_scales=(0.0, 0.0), l1_loss=0.0)
        return told

    one, other = drawn(14, range(N)), drawn(3, range(N - 1, -1, -1))
    assert one.keys() == other.keys() and len(one) > 1.5 * N * TAU
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert not torch.equal(one[IDS[0], 1, 0], one[IDS[0], 2, 0])


def test_a_conditional_network_is_told_the_labels_of_the_jobs():
    labels = torch.arange(float(N))[:, None]
    told = []

    def conditional(z, t, given):
        told.append(given[:, 0].tolist())
        return network(z, t)

    asked = []
    run("maskdime", 4, model_fn=conditional, labels=labels, on_attempt=lambda jobs: asked.append(jobs))
    expected = [[float(IDS.index(job.id)) for job in jobs] for jobs in asked for _ in range(TAU)]
    assert told == expected and any(len({job.attempt for job in jobs}) > 1 for jobs in asked)


def rounding_network(z, t):
    """As if its rounding depended on how many images are in a batch, and coarsely."""
    return network(z, t) * (1 + 0.01 * len(z))


@pytest.mark.parametrize("batch_size", [3, 4])
def test_a_run_that_goes_on_has_the_answers_of_an_unbroken_one_to_the_bit(method, batch_size):
    unbroken = run(method, batch_size, model_fn=rounding_network)
    expected = by_row(unbroken)
    for cut in range(len(unbroken)):
        before = unbroken[:cut]
        finished_at = {job.id: job.attempt for jobs in before for job in jobs}
        found = by_row(before + run(method, batch_size, model_fn=rounding_network, finished_at=finished_at))
        for name in ("counterfactual", "start", "p_target", "attempts"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
