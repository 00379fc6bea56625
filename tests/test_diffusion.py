import math
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from assertions import assert_near
from golden import SeededNoise, golden
from reference_weights import deterministic_array
from toy_networks import stand_in_network

from guided_diffusion.gaussian_diffusion import GaussianDiffusion, LossType, ModelMeanType, ModelVarType
from guided_diffusion.respace import SpacedDiffusion, space_timesteps
from guided_diffusion.schedules import linear_betas, named_betas
from guided_diffusion.script_util import create_gaussian_diffusion

EPSILON, START_X, VELOCITY = ModelMeanType.EPSILON, ModelMeanType.START_X, ModelMeanType.VELOCITY
SMALL, LARGE, LEARNED_RANGE = ModelVarType.FIXED_SMALL, ModelVarType.FIXED_LARGE, ModelVarType.LEARNED_RANGE
MSE, RESCALED_MSE, RESCALED_KL = LossType.MSE, LossType.RESCALED_MSE, LossType.RESCALED_KL

# The images, noise and steps of reference/diffusion.npz.
X0 = deterministic_array("diffusion.x0", (3, 3, 8, 8), 0.4).clamp(-1, 1)
Z = deterministic_array("diffusion.z", (3, 3, 8, 8))
T = torch.tensor([0, 7, 24])
BETAS = linear_betas(50)
ABAR = np.cumprod(1 - BETAS)


def process(mean_type=EPSILON, var_type=SMALL, loss_type=MSE, betas=BETAS):
    return GaussianDiffusion(betas, mean_type, var_type, loss_type)


def per_image(values):
    """Three numbers -> (3, 1, 1, 1) float64."""
    return torch.tensor(values, dtype=torch.float64)[:, None, None, None]


def clean_estimate(z, t):
    """A network that predicts the clean image, partly out of [-1, 1]."""
    return 1.5 * torch.tanh(z)


def output_of(mean_type, x0, t, eps):
    """What a network of this kind says of this clean image and noise."""
    return {START_X: x0, EPSILON: eps, VELOCITY: process().velocity(x0, t, eps)}[mean_type]


def estimate_of(mean_type):
    """A network of this kind that says what clean_estimate says."""

    def network(z, t):
        x0 = clean_estimate(z, t)
        return output_of(mean_type, x0, t, process().eps_from_x0(z, t, x0))

    return network


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
    diffusion = SpacedDiffusion(named_betas(schedule, steps), space_timesteps(steps, sections), EPSILON, LARGE, MSE)
    np.testing.assert_array_equal(diffusion.timestep_map, arrays[f"{name}.timestep_map"])
    for table in ("betas", "posterior_variance", "sqrt_alphas_cumprod"):
        np.testing.assert_allclose(getattr(diffusion, table), arrays[f"{name}.{table}"], rtol=1e-9)


def test_a_table_is_copied_to_a_device_once(monkeypatch):
    copy = MagicMock(side_effect=torch.from_numpy)
    monkeypatch.setattr(torch, "from_numpy", copy)
    diffusion = SpacedDiffusion(BETAS, range(50), EPSILON, LEARNED_RANGE, MSE)
    for dtype in (torch.float32, torch.float64, torch.float32):
        z, x0 = diffusion.ddim_sample(stand_in_network, Z.to(dtype), T)
        assert z.dtype == dtype
        diffusion.q_sample(x0, T, z)
    assert copy.call_count == len({id(call.args[0]) for call in copy.mock_calls}) > 5


def test_steps_and_losses_are_those_of_the_reference():
    arrays, flags = golden("diffusion")
    diffusion = create_gaussian_diffusion(**flags)
    prediction = diffusion.p_mean_variance(stand_in_network, Z, T)
    losses = diffusion.training_losses(stand_in_network, X0, T, Z)
    assert arrays["t"].tolist() == T.tolist() and len(prediction) == 4 and len(losses) == 3
    assert_near(diffusion.q_sample(X0, T, Z), arrays["q_sample"])
    assert_near(diffusion.ddim_sample(stand_in_network, Z, T)[0], arrays["ddim_eta0"])
    for name, values in (("p_mean_variance", prediction), ("training_losses", losses)):
        for key, value in values.items():
            assert_near(value, arrays[f"{name}.{key}"])


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


def test_the_last_posterior_is_the_clean_image_and_its_fixed_variances_are_those_of_the_step_before():
    diffusion, t = process(), torch.zeros(3, dtype=torch.int64)
    mean, variance, log_variance = diffusion.q_posterior_mean_variance(X0, Z, t)
    torch.testing.assert_close(mean, X0)
    assert not variance.any()
    assert log_variance.exp().unique().item() == pytest.approx(diffusion.posterior_variance[1])
    for var_type in (SMALL, LARGE):
        variance = process(var_type=var_type).p_mean_variance(lambda z, t: z, Z.double(), t)["variance"]
        assert variance.unique().item() == pytest.approx(diffusion.posterior_variance[1])


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


@pytest.mark.parametrize("mean_type", ModelMeanType)
def test_each_kind_predicts_the_clean_image_and_clipping_moves_the_mean_as_if_it_had_been_clipped(mean_type):
    diffusion, network, z = process(mean_type), estimate_of(mean_type), Z.double()
    expected = process(START_X).p_mean_variance(clean_estimate, z, T, clip_denoised=False)
    for name, value in diffusion.p_mean_variance(network, z, T, clip_denoised=False).items():
        torch.testing.assert_close(value, expected[name])
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


@pytest.mark.parametrize("loop, options", [("p_sample_loop", {}), ("ddim_sample_loop", {"eta": 1.0})])
def test_noise_is_never_asked_for_where_none_is_added(loop, options):
    diffusion, noise = process(), SeededNoise()
    getattr(diffusion, loop)(lambda z, t: z, Z, noise, **options)
    assert len(noise.given) == diffusion.num_timesteps - 1


def test_ddim_is_its_formula():
    diffusion, noise, eta, t = process(START_X), SeededNoise(), 0.3, torch.tensor([1, 7, 49])
    x0, z = X0.double(), Z.double()
    abar, previous = per_image(ABAR[t]), per_image(ABAR[t - 1])
    sigma = eta * ((1 - previous) / (1 - abar) * (1 - abar / previous)).sqrt()
    eps = (z - abar.sqrt() * x0) / (1 - abar).sqrt()
    answer, _ = diffusion.ddim_sample(lambda z, t: x0, z, t, noise, eta=eta)
    expected = previous.sqrt() * x0 + (1 - previous - sigma**2).sqrt() * eps + sigma * noise.given[0]
    torch.testing.assert_close(answer, expected)


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


# -- losses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean_type", ModelMeanType)
def test_the_perfect_prediction_has_no_squared_error(mean_type):
    diffusion, answer = process(mean_type), output_of(mean_type, X0, T, Z)
    terms = diffusion.training_losses(lambda z, t: answer, X0, T, Z)
    assert terms.keys() == {"mse", "loss"} and not terms["loss"].any()
    off = diffusion.training_losses(lambda z, t: answer + 0.5, X0, T, Z)
    torch.testing.assert_close(off["loss"], torch.full((3,), 0.25))


@pytest.mark.parametrize("mean_type", ModelMeanType)
def test_the_variational_bound_does_not_depend_on_what_is_predicted(mean_type):
    diffusion, x0, noise = process(mean_type, loss_type=RESCALED_KL), X0.double(), Z.double()
    expected = process(START_X, loss_type=RESCALED_KL).training_losses(clean_estimate, x0, T, noise)["loss"]
    assert (expected > 0).all()
    torch.testing.assert_close(diffusion.training_losses(estimate_of(mean_type), x0, T, noise)["loss"], expected)


def test_a_squared_error_is_the_kl_up_to_its_weight():
    # With the posterior's variance, KL = (mean difference)² / (2 variance) (Ho et al. 2020, eq. 8).
    t = torch.tensor([1, 7, 24])
    kl = process(START_X, loss_type=RESCALED_KL).training_losses(clean_estimate, X0.double(), t, Z.double())["loss"]
    mse = process(START_X).training_losses(clean_estimate, X0.double(), t, Z.double())["loss"]
    diffusion = process()
    weight = diffusion.posterior_mean_coef_x0[t] ** 2 / (2 * diffusion.posterior_variance[t])
    torch.testing.assert_close(kl / len(BETAS), mse * torch.from_numpy(weight) / math.log(2))


def losses(loss_type, var_type=LEARNED_RANGE, network=stand_in_network):
    return process(var_type=var_type, loss_type=loss_type).training_losses(network, X0, T, Z)


def test_rescaled_losses_weigh_the_variational_term_as_a_sum_over_all_steps():
    plain, rescaled = losses(MSE), losses(RESCALED_MSE)
    assert_near(rescaled["vb"], plain["vb"] * len(BETAS) / 1000)
    assert torch.equal(rescaled["mse"], plain["mse"])
    for terms in (plain, rescaled):
        assert torch.equal(terms["loss"], terms["mse"] + terms["vb"])
    assert_near(losses(RESCALED_KL)["loss"], len(BETAS) * plain["vb"])


def test_the_variational_term_teaches_the_variance_alone():
    output = stand_in_network(Z, T).requires_grad_()
    losses(MSE, network=lambda z, t: output)["vb"].sum().backward()
    assert not output.grad[:, :3].any() and output.grad[:, 3:].any()
    output.grad = None
    losses(RESCALED_KL, network=lambda z, t: output)["loss"].sum().backward()
    assert output.grad[:, :3].any() and output.grad[:, 3:].any()
