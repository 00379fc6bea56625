import threading
import time
from concurrent.futures import wait

import numpy as np
import pytest
import torch
from scipy import stats

from core.methods import noise as noise_module
from core.methods.noise import START, ImageNoise

LIKE = torch.empty(1, 3, 8, 8)


def draws(ids, attempts=None, seed=0, times=2):
    """(times, N, 3, 8, 8): what each image receives, call after call."""
    noise = ImageNoise(seed, ids, attempts or [1] * len(ids))
    return torch.stack([noise(LIKE.expand(len(ids), -1, -1, -1)) for _ in range(times)])


def test_an_image_receives_the_same_numbers_in_any_company_order_and_mix_of_attempts():
    whole = draws([3, 14, 15, 92])
    assert torch.equal(draws([15]), whole[:, 2:3])
    assert torch.equal(draws([92, 3]), whole[:, [3, 0]])
    assert torch.equal(draws([14, 14]), whole[:, [1, 1]])
    mixed = draws([3, 3, 5], attempts=[1, 2, START])
    for row, (i, attempt) in enumerate([(3, 1), (3, 2), (5, START)]):
        assert torch.equal(mixed[:, row], draws([i], [attempt])[:, 0])


def test_every_seed_image_attempt_and_call_has_numbers_of_its_own():
    streams = [
        draws([i], [attempt], seed)[k]
        for seed in (0, 1, 2)
        for i in (0, 1, 2, 202_598)
        for attempt in (START, 1, 2)
        for k in (0, 1)
    ]
    values = torch.stack(streams).flatten(1).numpy()
    correlations = np.corrcoef(values)[~np.eye(len(values), dtype=bool)]
    assert np.abs(correlations).max() < 0.4  # of 192 numbers each: 0.4 is 5.5 standard deviations


def test_the_kth_number_does_not_depend_on_how_many_are_drawn_at_a_time():
    noise = ImageNoise(0, [7], [1])
    halves = torch.cat([noise(torch.empty(1, 3, 8, 4)).flatten() for _ in range(4)])
    assert torch.equal(halves, draws([7]).flatten())


def test_the_numbers_are_standard_normal():
    noise = ImageNoise(4, range(20), [1] * 20)
    values = noise(torch.empty(20, 3, 64, 64))
    assert stats.kstest(values.flatten().double().numpy(), "norm").pvalue > 0.001
    assert values.mean().abs() < 0.01 and abs(values.std() - 1) < 0.01


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_noise_has_the_shape_and_dtype_of_what_it_is_added_to(dtype):
    like = torch.empty(2, 3, 4, 5)
    drawn, expected = (ImageNoise(0, [1, 2], [1, 1])(each) for each in (like.to(dtype), like))
    assert drawn.shape == expected.shape == like.shape and drawn.dtype == dtype and expected.dtype == torch.float32
    assert torch.equal(drawn, expected.to(dtype))


def test_neither_torchs_nor_numpys_generators_are_used_or_disturbed():
    torch.manual_seed(1)
    np.random.seed(1)
    before, state = draws([0]), (torch.get_rng_state(), np.random.get_state()[1].copy())
    assert torch.equal(torch.get_rng_state(), state[0]) and np.array_equal(np.random.get_state()[1], state[1])
    torch.manual_seed(2)
    assert torch.equal(draws([0]), before)


def test_every_image_has_an_attempt():
    with pytest.raises(ValueError):
        ImageNoise(0, [1, 2], [1])


# -- drawn ahead -----------------------------------------------------------------------------------------------


def test_numbers_drawn_ahead_are_the_same_even_where_the_shape_changes_and_what_was_given_is_not_drawn_over():
    ids, attempts = [3, 14, 3], [1, 2, START]
    plain, ahead = ImageNoise(5, ids, attempts), ImageNoise(5, ids, attempts, ahead=True)
    likes = [torch.empty(3, 3, size, 5) for size in (8, 8, 4, 8, 8, 2, 4)]
    for one, other in zip([ahead(like) for like in likes], map(plain, likes), strict=True):
        assert torch.equal(one, other)
    assert not plain.next and ahead.next


def test_the_next_call_finds_its_numbers_drawn_and_an_error_in_a_thread_is_not_lost(monkeypatch):
    def fail(stream, image):
        raise MemoryError("none left")

    noise, expected = ImageNoise(0, [7], [1], ahead=True), draws([7])
    first = noise(LIKE)
    wait(noise.next[1])
    monkeypatch.setattr(noise_module, "_draw", fail)
    assert torch.equal(torch.stack([first, noise(LIKE)]), expected)
    with pytest.raises(MemoryError, match="none left"):
        noise(LIKE)


def test_the_threads_end_with_the_noise():
    before, like = set(threading.enumerate()), LIKE.expand(8, -1, -1, -1)

    def started():
        return set(threading.enumerate()) - before

    noise = ImageNoise(0, range(8), [1] * 8, ahead=True)
    noise(like)
    assert 1 <= len(started()) <= noise_module.THREADS
    del noise
    until = time.monotonic() + 10
    while started() and time.monotonic() < until:
        time.sleep(0.01)
    assert not started()
