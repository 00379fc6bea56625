import numpy as np
import pytest
import torch
from assertions import refusal

from guided_diffusion.gaussian_diffusion import GaussianDiffusion, LossType, ModelMeanType, ModelVarType
from guided_diffusion.respace import SpacedDiffusion, space_timesteps
from guided_diffusion.schedules import linear_betas
from guided_diffusion.script.errors import UserError

KIND = (ModelMeanType.EPSILON, ModelVarType.FIXED_LARGE, LossType.MSE)


@pytest.mark.parametrize(
    "steps, sections, expected",
    [
        (10, "10", list(range(10))),
        (10, "1", [0]),
        (9, "3", [0, 4, 8]),
        (12, "4", [0, 4, 7, 11]),
        (12, "2,3", [0, 5, 6, 8, 11]),
        (11, "3,1", [0, 2, 5, 6]),  # the first section is the longer one
        (20, "ddim5", [0, 4, 8, 12, 16]),
        (10, "ddim10", list(range(10))),
    ],
)
def test_kept_steps_are_evenly_spaced(steps, sections, expected):
    assert space_timesteps(steps, sections) == expected


def test_the_step_at_a_tie_is_the_one_that_published_samples_kept():
    kept = space_timesteps(500, "25")
    assert len(kept) == 25 and kept[11:14] == [229, 249, 270]


@pytest.mark.parametrize(
    "sections",
    ["ddim30", "ddim5,5", "ddimx", "ddim", "abc", "1,,2", "", "0", "5,0", "11", "6,5", "-1", "20", "2.5"],
)
def test_what_cannot_be_kept_is_refused_by_the_flags_name(sections):
    assert "--timestep_respacing" in refusal(UserError, space_timesteps, 10, sections)


def test_the_kept_steps_have_the_noise_of_the_original_process():
    betas = linear_betas(100)
    steps = space_timesteps(100, "7")
    spaced = SpacedDiffusion(betas, steps, *KIND)
    assert spaced.num_timesteps == 7 and spaced.timestep_map.tolist() == steps
    np.testing.assert_allclose(spaced.alphas_cumprod, np.cumprod(1 - betas)[steps])


def test_keeping_every_step_changes_nothing():
    betas = linear_betas(50)
    spaced, plain = SpacedDiffusion(betas, range(50), *KIND), GaussianDiffusion(betas, *KIND)
    for table in ("betas", "posterior_variance", "posterior_mean_coef_x0", "posterior_log_variance_clipped"):
        np.testing.assert_allclose(getattr(spaced, table), getattr(plain, table), rtol=1e-9)


@pytest.mark.parametrize("rescale, factor", [(False, 1), (True, 1000 / 200)])
def test_the_network_is_given_steps_of_the_original_process(rescale, factor):
    spaced = SpacedDiffusion(linear_betas(200), [0, 50, 120], *KIND, rescale_timesteps=rescale)
    steps, images, t = [], torch.zeros(3, 1, 2, 2), torch.tensor([2, 0, 1])

    def network(z, t):
        steps.append(t.tolist())
        return z

    spaced.p_mean_variance(network, images, t)
    spaced.training_losses(network, images, t, images)
    assert steps == 2 * [[120 * factor, 0, 50 * factor]]
