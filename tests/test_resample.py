import numpy as np
import pytest
import torch
from assertions import refusal

from guided_diffusion.script.errors import UserError
from guided_diffusion.training.resample import SAMPLERS

WEIGHTED = "loss-second-moment"
EVEN = (np.arange(1000) + 0.5) / 1000  # what many draws of a uniform look like
LOSSES = np.array([4.0, 1.0, 2.0, 3.0])


def trained(losses=LOSSES, times=10):
    """A loss-second-moment sampler that has seen these losses, step by step, `times` times."""
    sampler = SAMPLERS[WEIGHTED](len(losses))
    for _ in range(times):
        sampler.update_with_losses(torch.arange(len(losses)), torch.from_numpy(losses))
    return sampler


def test_uniform_timesteps_are_equally_frequent_and_weigh_one():
    t, weights = SAMPLERS["uniform"](50).sample(EVEN)
    assert t.dtype is torch.int64 and weights.dtype is torch.float32
    assert torch.bincount(t).tolist() == [20] * 50
    assert (weights == 1).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_uniform_number_has_a_timestep(name):
    t, _ = SAMPLERS[name](1000).sample(np.array([0.0, np.nextafter(1, 0)]))
    assert t.tolist() == [0, 999]


def test_timesteps_are_uniform_until_each_was_seen_ten_times():
    sampler = trained(times=9)
    sampler.update_with_losses(torch.tensor([0, 1, 2]), torch.ones(3))
    assert sampler.probabilities().tolist() == [0.25] * 4
    sampler.update_with_losses(torch.tensor([3]), torch.ones(1))
    assert sampler.probabilities().tolist() != [0.25] * 4


def test_timesteps_follow_the_root_mean_square_of_their_last_ten_losses():
    sampler = trained(losses=np.full(4, 99.0))
    history = np.abs(np.random.default_rng(0).standard_normal((10, 4)))
    for losses in history:
        sampler.update_with_losses(torch.arange(4), torch.from_numpy(losses))
    share = np.sqrt((history**2).mean(0))
    expected = 0.999 * share / share.sum() + 0.001 / 4
    np.testing.assert_allclose(sampler.probabilities(), expected)
    t, _ = sampler.sample(EVEN)
    np.testing.assert_allclose(torch.bincount(t) / 1000, expected, atol=0.0011)


def test_weighted_losses_estimate_the_mean_over_uniform_timesteps():
    sampler = trained()
    t, weights = sampler.sample((np.arange(100_000) + 0.5) / 100_000)
    assert (weights * torch.from_numpy(LOSSES)[t]).mean().item() == pytest.approx(LOSSES.mean(), rel=1e-3)
    assert len(set(weights.tolist())) == 4


def test_a_loss_of_zero_does_not_silence_a_timestep():
    assert trained(np.array([1.0, 0.0])).probabilities()[1] == pytest.approx(0.0005)


def test_a_saved_sampler_goes_on_where_it_was():
    sampler, restored = trained(), SAMPLERS[WEIGHTED](4)
    saved = sampler.state_dict()
    restored.load_state_dict(saved)
    for each in (sampler, restored):
        each.update_with_losses(torch.tensor([1]), torch.tensor([7.0]))
    assert restored.probabilities().tolist() == sampler.probabilities().tolist()
    assert saved["losses"][1].tolist() == [1.0] * 10  # what was saved stays as it was


@pytest.mark.parametrize("saved, into", [("uniform", WEIGHTED), (WEIGHTED, "uniform"), (WEIGHTED, WEIGHTED)])
def test_the_state_of_another_sampler_is_refused(saved, into):
    sampler = SAMPLERS[into](4 if saved != into else 5)
    assert "--schedule_sampler" in refusal(UserError, sampler.load_state_dict, SAMPLERS[saved](4).state_dict())
