import math

import numpy as np
import pytest
import torch
from assertions import assert_near
from golden import SeededNoise, golden
from toy_diffusion import (
    ABAR,
    BETAS,
    EPSILON,
    LARGE,
    LEARNED_RANGE,
    MSE,
    SMALL,
    START_X,
    VELOCITY,
    X0,
    T,
    Z,
    clean_estimate,
    estimate_of,
    per_image,
    process,
)
from toy_networks import stand_in_network

from guided_diffusion.respace import SpacedDiffusion, space_timesteps
from guided_diffusion.schedules import linear_betas, named_betas
from guided_diffusion.script_util import create_gaussian_diffusion

# -- golden numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, schedule, steps, sections",
    [
        ("linear500_200", "linear", 500, "200"),
        ("cosine100_ddim20", "cosine", 100, "ddim20"),
        ("linear1000_sections", "linear", 1000, "10,15,20"),
        ("plain500", "linear", 500, "500"),
    ],
)
def test_tables_are_those_of_the_reference(name, schedule, steps, sections):
    arrays, _ = golden("diffusion")
    kept = space_timesteps(steps, sections)
    diffusion = SpacedDiffusion(named_betas(schedule, steps), kept, EPSILON, LARGE, MSE)
    np.testing.assert_array_equal(diffusion.timestep_map, arrays[f"{name}.timestep_map"])
    for table in ("betas", "posterior_variance", "sqrt_alphas_cumprod"):
        np.testing.assert_allclose(getattr(diffusion, table), arrays[f"{name}.{table}"], rtol=1e-9)


def test_a_table_is_copied_to_a_device_once(monkeypatch):
    copied = []

    def copy(array):
        copied.append(array)
        return from_numpy(array)

    from_numpy = torch.from_numpy
    monkeypatch.setattr(torch, "from_numpy", copy)
    diffusion = SpacedDiffusion(BETAS, range(50), EPSILON, LEARNED_RANGE, MSE)
    for dtype in (torch.float32, torch.float64, torch.float32):
        z, x0 = diffusion.ddim_sample(stand_in_network, Z.to(dtype), T)
        assert z.dtype == dtype
        diffusion.q_sample(x0, T, z)
    assert len(copied) == len({id(array) for array in copied}) > 5


def test_steps_and_losses_are_those_of_the_reference():
    arrays, flags = golden("diffusion")
    diffusion = create_gaussian_diffusion(**flags)
    found = {
        "q_sample": diffusion.q_sample(X0, T, Z),
        "ddim_eta0": diffusion.ddim_sample(stand_in_network, Z, T)[0],
    }
    for key, value in diffusion.p_mean_variance(stand_in_network, Z, T).items():
        found[f"p_mean_variance.{key}"] = value
    for key, value in diffusion.training_losses(stand_in_network, X0, T, Z).items():
        found[f"training_losses.{key}"] = value
    assert arrays["t"].tolist() == T.tolist() and len(found) == 2 + 4 + 3
    for name, value in found.items():
        assert_near(value, arrays[name])


# -- q -------------------------------------------------------------------------------------------------------


def test_a_noisy_image_is_what_adding_noise_step_by_step_gives():
    mean, variance = 1.0, 0.0  # of z_t for x0 = 1
    diffusion = process()
    x0 = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    for t, beta in enumerate(BETAS):
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        for noise in (-1.0, 2.0):
            z = diffusion.q_sample(x0, torch.tensor([t]), noise * x0)
            assert z.item() == pytest.approx(mean + math.sqrt(variance) * noise)


def test_the_posterior_is_bayes_rule():
    x0, z, t = X0.double(), Z.double(), torch.tensor([1, 7, 49])
    beta, previous_abar = per_image(BETAS[t]), per_image(ABAR[t - 1])
    # q(z_t-1 | z_t, x0) ~ q(z_t | z_t-1) q(z_t-1 | x0), a product of two normals in z_t-1.
    precision = (1 - beta) / beta + 1 / (1 - previous_abar)
    weighted = (1 - beta).sqrt() / beta * z + previous_abar.sqrt() / (1 - previous_abar) * x0
    mean, variance, log_variance = process().q_posterior_mean_variance(x0, z, t)
    torch.testing.assert_close(mean, weighted / precision)
    torch.testing.assert_close(variance, 1 / precision)
    torch.testing.assert_close(log_variance, -precision.log())


def test_the_last_posterior_is_the_clean_image():
    diffusion, t = process(), torch.zeros(3, dtype=torch.int64)
    mean, variance, log_variance = diffusion.q_posterior_mean_variance(X0, Z, t)
    torch.testing.assert_close(mean, X0)
    assert not variance.any()
    assert log_variance.exp().unique().item() == pytest.approx(diffusion.posterior_variance[1])


def test_clean_image_and_noise_determine_each_other():
    diffusion = process()
    z = diffusion.q_sample(X0, T, Z)
    assert_near(diffusion.x0_from_eps(z, T, Z), X0)
    assert_near(diffusion.eps_from_x0(z, T, X0), Z, 1e-4)


@pytest.mark.parametrize("betas", [[0.1, 0.0], [0.1, 1.1], [[0.1, 0.2]], [0.1, -0.1], [0.1, float("nan")]])
def test_betas_out_of_range_are_refused(betas):
    with pytest.raises(ValueError, match="betas"):
        process(betas=betas)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_have_the_dtype_of_the_images(dtype):
    x0, z = X0.to(dtype), Z.to(dtype)
    diffusion = process(var_type=LEARNED_RANGE)
    results = [
        *diffusion.p_mean_variance(stand_in_network, z, T).values(),
        *diffusion.p_sample(stand_in_network, z, T, SeededNoise()),
        *diffusion.ddim_sample(stand_in_network, z, T),
        *diffusion.training_losses(stand_in_network, x0, T, z).values(),
        diffusion.q_sample(x0, T, z),
    ]
    assert {each.dtype for each in results} == {dtype}


# -- p: what the network predicts ----------------------------------------------------------------------------


def test_a_network_that_knows_the_clean_image_gives_the_posterior():
    p = process(START_X).p_mean_variance(lambda z, t: X0, Z, T)
    mean, _, log_variance = process().q_posterior_mean_variance(X0, Z, T)
    assert torch.equal(p["mean"], mean) and torch.equal(p["pred_xstart"], X0)
    assert torch.equal(p["log_variance"], log_variance.expand_as(Z))
    torch.testing.assert_close(p["variance"], p["log_variance"].exp())


def test_the_noise_follows_from_the_velocity():
    diffusion, z, v, t = process(), Z.double(), X0.double(), T
    abar = per_image(ABAR[t])
    eps = diffusion.eps_from_x0(z, t, diffusion.x0_from_velocity(z, t, v))
    torch.testing.assert_close(eps, abar.sqrt() * v + (1 - abar).sqrt() * z)


@pytest.mark.parametrize("mean_type", [EPSILON, VELOCITY])
def test_predicting_noise_or_velocity_is_predicting_the_clean_image(mean_type):
    network, z = estimate_of(mean_type), Z.double()
    expected = process(START_X).p_mean_variance(clean_estimate, z, T, clip_denoised=False)
    found = process(mean_type).p_mean_variance(network, z, T, clip_denoised=False)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])


@pytest.mark.parametrize("mean_type", [START_X, EPSILON, VELOCITY])
def test_clipping_moves_the_mean_as_if_a_clipped_image_had_been_predicted(mean_type):
    diffusion, network, z = process(mean_type), estimate_of(mean_type), Z.double()
    clipped = clean_estimate(z, T).clamp(-1, 1)
    assert (clipped != clean_estimate(z, T)).any()
    p = diffusion.p_mean_variance(network, z, T, clip_denoised=True)
    torch.testing.assert_close(p["pred_xstart"], clipped)
    torch.testing.assert_close(p["mean"], diffusion.q_posterior_mean_variance(clipped, z, T)[0])


# -- p: its variance -----------------------------------------------------------------------------------------


def variance_of(var_type, v=None):
    def network(z, t):
        return z if v is None else torch.cat([z, torch.full_like(z, v)], dim=1)

    t = torch.tensor([1, 7, 49])
    return process(var_type=var_type).p_mean_variance(network, Z.double(), t)["variance"]


def test_a_learned_range_goes_from_the_small_to_the_large_fixed_variance():
    small, large = variance_of(SMALL), variance_of(LARGE)
    torch.testing.assert_close(large[:, 0, 0, 0], torch.from_numpy(BETAS[[1, 7, 49]]))
    assert (small < large).all()
    torch.testing.assert_close(variance_of(LEARNED_RANGE, -1.0), small)
    torch.testing.assert_close(variance_of(LEARNED_RANGE, 1.0), large)
    torch.testing.assert_close(variance_of(LEARNED_RANGE, 0.0), (small * large).sqrt())


def test_at_the_last_step_both_fixed_variances_are_the_posteriors_of_the_step_before():
    t = torch.zeros(3, dtype=torch.int64)
    for var_type in (SMALL, LARGE):
        variance = process(var_type=var_type).p_mean_variance(lambda z, t: z, Z.double(), t)["variance"]
        assert variance.unique().item() == pytest.approx(process().posterior_variance[1])


def test_a_learned_variance_needs_an_output_for_it():
    with pytest.raises(ValueError, match="--learn_sigma"):
        process(var_type=LEARNED_RANGE).p_mean_variance(lambda z, t: z, Z, T)


# -- sampling ------------------------------------------------------------------------------------------------


def test_a_step_adds_noise_to_every_image_but_those_at_the_end():
    diffusion, noise = process(var_type=LEARNED_RANGE), SeededNoise()
    p = diffusion.p_mean_variance(stand_in_network, Z, T)
    z, x0 = diffusion.p_sample(stand_in_network, Z, T, noise)
    (drawn,) = noise.given
    expected = p["mean"] + p["variance"].sqrt() * drawn
    assert_near(z[1:], expected[1:])
    assert torch.equal(z[0], p["mean"][0]) and torch.equal(x0, p["pred_xstart"])


@pytest.mark.parametrize("eta", [None, 1.0])
def test_noise_is_never_asked_for_where_none_is_added(eta):
    diffusion, noise, z = process(), SeededNoise(), Z
    if eta is None:
        diffusion.p_sample_loop(lambda z, t: z, z, noise)
    else:
        diffusion.ddim_sample_loop(lambda z, t: z, z, noise, eta=eta)
    assert len(noise.given) == diffusion.num_timesteps - 1


def test_ddim_is_its_formula():
    diffusion, noise, eta, t = process(START_X), SeededNoise(), 0.3, torch.tensor([1, 7, 49])
    x0, z = X0.double(), Z.double()
    abar, previous = per_image(ABAR[t]), per_image(ABAR[t - 1])
    sigma = eta * ((1 - previous) / (1 - abar) * (1 - abar / previous)).sqrt()
    eps = (z - abar.sqrt() * x0) / (1 - abar).sqrt()
    found, _ = diffusion.ddim_sample(lambda z, t: x0, z, t, noise, eta=eta)
    expected = previous.sqrt() * x0 + (1 - previous - sigma**2).sqrt() * eps + sigma * noise.given[0]
    torch.testing.assert_close(found, expected)


def test_ddim_with_eta_1_is_an_ancestral_step():
    diffusion = process(var_type=SMALL)
    ancestral, _ = diffusion.p_sample(lambda z, t: torch.sin(z), Z.double(), T, SeededNoise())
    ddim, _ = diffusion.ddim_sample(lambda z, t: torch.sin(z), Z.double(), T, SeededNoise(), eta=1.0)
    torch.testing.assert_close(ddim, ancestral)


def test_ddim_with_eta_0_needs_no_noise_and_repeats_itself():
    one, other = (process().ddim_sample_loop(lambda z, t: torch.sin(z), Z, noise=None) for _ in range(2))
    assert torch.equal(one, other)


MEAN, STD = 0.3, 0.2  # of the images that the exact denoiser knows


def exact_denoiser(betas):
    """E[x0 | z_t] for pixels of N(MEAN, STD²), and, for LEARNED_RANGE, the exact variance of p(z_t-1 | z_t)."""
    abar = np.cumprod(1 - betas)
    lowest = process(betas=betas).posterior_log_variance_clipped
    previous = np.append(1.0, abar[:-1])

    def network(z, t):
        a, b, beta = abar[t[0]], previous[t[0]], betas[t[0]]
        total = STD**2 * a + 1 - a  # the variance of z_t
        x0 = MEAN + STD**2 * math.sqrt(a) / total * (z - math.sqrt(a) * MEAN)
        of_x0 = (beta * math.sqrt(b) / (1 - a)) ** 2 * STD**2 * (1 - a) / total  # uncertainty about x0 itself
        log_variance = math.log(beta * (1 - b) / (1 - a) + of_x0)
        low = lowest[t[0]]
        share = (log_variance - low) / (math.log(beta) - low)
        return torch.cat([x0, torch.full_like(z, 2 * share - 1)], dim=1)

    return network


@pytest.mark.parametrize("betas", [linear_betas(200), np.geomspace(1e-4, 0.9, 12)])
def test_ancestral_sampling_with_the_exact_denoiser_draws_from_the_data(betas):
    noise = SeededNoise()
    z = noise(torch.empty(1, 3, 150, 150))
    diffusion = process(START_X, LEARNED_RANGE, betas=betas)
    images = diffusion.p_sample_loop(exact_denoiser(betas), z, noise, clip_denoised=False)
    assert images.mean().item() == pytest.approx(MEAN, abs=0.015 * STD)  # four standard errors
    assert images.std().item() == pytest.approx(STD, rel=0.015)


@pytest.mark.parametrize("sample", ["small", "large", "ddim"])
def test_many_steps_of_any_kind_draw_from_the_data(sample):
    betas, noise = linear_betas(500), SeededNoise()
    exact = exact_denoiser(betas)
    diffusion = process(START_X, LARGE if sample == "large" else SMALL, betas=betas)
    z = noise(torch.empty(1, 3, 60, 60))
    loop = diffusion.ddim_sample_loop if sample == "ddim" else diffusion.p_sample_loop
    images = loop(lambda z, t: exact(z, t)[:, :3], z, noise, clip_denoised=False)
    assert images.mean().item() == pytest.approx(MEAN, abs=0.05 * STD)
    assert images.std().item() == pytest.approx(STD, rel=0.06)
