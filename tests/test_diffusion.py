import math

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

EPSILON, START_X, PREVIOUS_X = ModelMeanType.EPSILON, ModelMeanType.START_X, ModelMeanType.PREVIOUS_X
VELOCITY = ModelMeanType.VELOCITY
LEARNED, LEARNED_RANGE = ModelVarType.LEARNED, ModelVarType.LEARNED_RANGE
SMALL, LARGE = ModelVarType.FIXED_SMALL, ModelVarType.FIXED_LARGE
MSE, RESCALED_MSE, KL, RESCALED_KL = LossType.MSE, LossType.RESCALED_MSE, LossType.KL, LossType.RESCALED_KL

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
        found = diffusion.q_mean_variance(x0, torch.tensor([t]))
        assert [each.item() for each in found] == pytest.approx([mean, variance, math.log(variance)])
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


def clean_estimate(z, t):
    """A network that predicts the clean image, partly out of [-1, 1]."""
    return 1.5 * torch.tanh(z)


def test_a_network_that_knows_the_clean_image_gives_the_posterior():
    p = process(START_X).p_mean_variance(lambda z, t: X0, Z, T)
    mean, _, log_variance = process().q_posterior_mean_variance(X0, Z, T)
    assert torch.equal(p["mean"], mean) and torch.equal(p["pred_xstart"], X0)
    assert torch.equal(p["log_variance"], log_variance.expand_as(Z))
    torch.testing.assert_close(p["variance"], p["log_variance"].exp())


def velocity_estimate(z, t):
    """What clean_estimate and z say of the velocity."""
    diffusion, x0 = process(), clean_estimate(z, t)
    return diffusion.velocity(x0, t, diffusion.eps_from_x0(z, t, x0))


def test_the_noise_follows_from_the_velocity():
    diffusion, z, v, t = process(), Z.double(), X0.double(), T
    abar = per_image(ABAR[t])
    eps = diffusion.eps_from_x0(z, t, diffusion.x0_from_velocity(z, t, v))
    torch.testing.assert_close(eps, abar.sqrt() * v + (1 - abar).sqrt() * z)


@pytest.mark.parametrize("mean_type", [EPSILON, PREVIOUS_X, VELOCITY])
def test_predicting_noise_or_the_previous_step_is_predicting_the_clean_image(mean_type):
    diffusion = process()
    network = {
        EPSILON: lambda z, t: diffusion.eps_from_x0(z, t, clean_estimate(z, t)),
        VELOCITY: velocity_estimate,
        PREVIOUS_X: lambda z, t: diffusion.q_posterior_mean_variance(clean_estimate(z, t), z, t)[0],
    }[mean_type]
    z = Z.double()
    expected = process(START_X).p_mean_variance(clean_estimate, z, T, clip_denoised=False)
    found = process(mean_type).p_mean_variance(network, z, T, clip_denoised=False)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])


@pytest.mark.parametrize("mean_type", [START_X, EPSILON, VELOCITY])
def test_clipping_moves_the_mean_as_if_a_clipped_image_had_been_predicted(mean_type):
    diffusion = process(mean_type)
    network = {
        START_X: clean_estimate,
        EPSILON: lambda z, t: diffusion.eps_from_x0(z, t, clean_estimate(z, t)),
        VELOCITY: velocity_estimate,
    }[mean_type]
    z = Z.double()
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


def test_a_learned_variance_is_the_exponential_of_the_output():
    torch.testing.assert_close(variance_of(LEARNED, -2.0), torch.full_like(Z, math.exp(-2)).double())


def test_at_the_last_step_both_fixed_variances_are_the_posteriors_of_the_step_before():
    t = torch.zeros(3, dtype=torch.int64)
    for var_type in (SMALL, LARGE):
        variance = process(var_type=var_type).p_mean_variance(lambda z, t: z, Z.double(), t)["variance"]
        assert variance.unique().item() == pytest.approx(process().posterior_variance[1])


@pytest.mark.parametrize("var_type", [LEARNED, LEARNED_RANGE])
def test_a_learned_variance_needs_an_output_for_it(var_type):
    with pytest.raises(ValueError, match="--learn_sigma"):
        process(var_type=var_type).p_mean_variance(lambda z, t: z, Z, T)


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


def test_a_reverse_ddim_step_is_undone_by_a_step():
    diffusion, t = process(), torch.tensor([0, 7, 48])
    noise = Z.double()
    further, _ = diffusion.ddim_reverse_sample(lambda z, t: noise, X0.double(), t, clip_denoised=False)
    back, _ = diffusion.ddim_sample(lambda z, t: noise, further, t + 1, clip_denoised=False)
    torch.testing.assert_close(back, X0.double())


MEAN, STD = 0.3, 0.2  # of the images that the exact denoiser knows


def exact_denoiser(betas):
    """E[x0 | z_t] for pixels of N(MEAN, STD²), and the exact log variance of p(z_t-1 | z_t)."""
    abar = np.cumprod(1 - betas)
    previous = np.append(1.0, abar[:-1])

    def network(z, t):
        a, b, beta = abar[t[0]], previous[t[0]], betas[t[0]]
        total = STD**2 * a + 1 - a  # the variance of z_t
        x0 = MEAN + STD**2 * math.sqrt(a) / total * (z - math.sqrt(a) * MEAN)
        of_x0 = (beta * math.sqrt(b) / (1 - a)) ** 2 * STD**2 * (1 - a) / total  # uncertainty about x0 itself
        log_variance = math.log(beta * (1 - b) / (1 - a) + of_x0)
        return torch.cat([x0, torch.full_like(z, log_variance)], dim=1)

    return network


@pytest.mark.parametrize("betas", [linear_betas(200), np.geomspace(1e-4, 0.9, 12)])
def test_ancestral_sampling_with_the_exact_denoiser_draws_from_the_data(betas):
    noise = SeededNoise()
    z = noise(torch.empty(1, 3, 150, 150))
    diffusion = process(START_X, LEARNED, betas=betas)
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


def test_a_reversed_ddim_chain_ends_in_the_noise_that_leads_back_to_the_image():
    betas = linear_betas(500)
    diffusion, exact = process(START_X, betas=betas), exact_denoiser(betas)

    def network(z, t):
        return exact(z, t)[:, :3]

    z = start = MEAN + STD * Z.double()
    for t in range(499):
        z, _ = diffusion.ddim_reverse_sample(network, z, diffusion.batch_t(t, z), clip_denoised=False)
    assert_near(z, Z, 0.03)
    assert_near(diffusion.ddim_sample_loop(network, z, clip_denoised=False), start, 0.03)


# -- losses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean_type", ModelMeanType)
def test_the_perfect_prediction_has_no_squared_error(mean_type):
    diffusion = process(mean_type)
    z = diffusion.q_sample(X0, T, Z)
    answer = {
        START_X: X0,
        EPSILON: Z,
        PREVIOUS_X: diffusion.q_posterior_mean_variance(X0, z, T)[0],
        VELOCITY: diffusion.velocity(X0, T, Z),
    }[mean_type]
    terms = diffusion.training_losses(lambda z, t: answer, X0, T, Z)
    assert terms.keys() == {"mse", "loss"} and not terms["loss"].any()
    off = diffusion.training_losses(lambda z, t: answer + 0.5, X0, T, Z)
    torch.testing.assert_close(off["loss"], torch.full((3,), 0.25))


@pytest.mark.parametrize("mean_type", ModelMeanType)
def test_the_variational_bound_does_not_depend_on_what_is_predicted(mean_type):
    diffusion, x0, noise = process(mean_type, loss_type=KL), X0.double(), Z.double()
    network = {
        START_X: clean_estimate,
        EPSILON: lambda z, t: diffusion.eps_from_x0(z, t, clean_estimate(z, t)),
        PREVIOUS_X: lambda z, t: diffusion.q_posterior_mean_variance(clean_estimate(z, t), z, t)[0],
        VELOCITY: velocity_estimate,
    }[mean_type]
    expected = process(START_X, loss_type=KL).training_losses(clean_estimate, x0, T, noise)["loss"]
    assert (expected > 0).all()
    torch.testing.assert_close(diffusion.training_losses(network, x0, T, noise)["loss"], expected)


def test_a_squared_error_is_the_kl_up_to_its_weight():
    # With the posterior's variance, KL = (mean difference)² / (2 variance) (Ho et al. 2020, eq. 8).
    t = torch.tensor([1, 7, 24])
    kl = process(START_X, loss_type=KL).training_losses(clean_estimate, X0.double(), t, Z.double())["loss"]
    mse = process(START_X).training_losses(clean_estimate, X0.double(), t, Z.double())["loss"]
    diffusion = process()
    weight = diffusion.posterior_mean_coef_x0[t] ** 2 / (2 * diffusion.posterior_variance[t])
    torch.testing.assert_close(kl, mse * torch.from_numpy(weight) / math.log(2))


def losses(loss_type, var_type=LEARNED_RANGE, network=stand_in_network):
    return process(var_type=var_type, loss_type=loss_type).training_losses(network, X0, T, Z)


def test_rescaled_losses_weigh_the_variational_term_as_a_sum_over_all_steps():
    assert_near(losses(RESCALED_KL)["loss"], len(BETAS) * losses(KL)["loss"])
    plain, rescaled = losses(MSE), losses(RESCALED_MSE)
    assert_near(rescaled["vb"], plain["vb"] * len(BETAS) / 1000)
    assert torch.equal(rescaled["mse"], plain["mse"])
    for terms in (plain, rescaled):
        assert torch.equal(terms["loss"], terms["mse"] + terms["vb"])
    assert_near(plain["vb"], losses(KL)["loss"])


def test_the_variational_term_teaches_the_variance_alone():
    output = stand_in_network(Z, T).requires_grad_()
    losses(MSE, network=lambda z, t: output)["vb"].sum().backward()
    assert not output.grad[:, :3].any() and output.grad[:, 3:].any()
    output.grad = None
    losses(KL, network=lambda z, t: output)["loss"].sum().backward()
    assert output.grad[:, :3].any() and output.grad[:, 3:].any()


def test_the_prior_is_the_kl_to_a_standard_normal():
    betas = np.full(3, 0.3)
    abar = 0.7**3
    expected = 0.5 * (abar * X0.double() ** 2 + (1 - abar) - 1 - math.log(1 - abar)) / math.log(2)
    torch.testing.assert_close(process(betas=betas).prior_bpd(X0.double()), expected.flatten(1).mean(1))


def test_the_bound_is_the_sum_of_its_terms():
    diffusion = process(var_type=LEARNED_RANGE, betas=np.linspace(0.05, 0.5, 6))
    x0, noise = X0.double(), SeededNoise()
    found = diffusion.calc_bpd_loop(stand_in_network, x0, noise, clip_denoised=True)

    abar = np.cumprod(1 - diffusion.betas)
    total = diffusion.prior_bpd(x0)
    for t, eps in enumerate(noise.given):
        beta, a, b = diffusion.betas[t], abar[t], abar[t - 1] if t else 1.0
        z = math.sqrt(a) * x0 + math.sqrt(1 - a) * eps
        output = stand_in_network(z, None)
        guess = ((z - math.sqrt(1 - a) * output[:, :3]) / math.sqrt(a)).clamp(-1, 1)
        to_x0 = beta * math.sqrt(b) / (1 - a)  # how the posterior's mean follows x0
        smallest = diffusion.posterior_variance[max(t, 1)]
        share = (output[:, 3:] + 1) / 2
        variance = beta**share * smallest ** (1 - share)
        if t == 0:
            cdf = torch.distributions.Normal(guess, variance.sqrt()).cdf
            upper, lower = cdf(x0 + 1 / 255), cdf(x0 - 1 / 255)
            lower, upper = torch.where(x0 < -0.999, 0, lower), torch.where(x0 > 0.999, 1, upper)
            term, tolerance = -(upper - lower).log(), 0.02  # the library's normal cdf is an approximation
        else:
            squared = (to_x0 * (x0 - guess)) ** 2
            term, tolerance = 0.5 * ((variance / smallest).log() - 1 + (smallest + squared) / variance), 1e-7
        term = term.flatten(1).mean(1) / math.log(2)
        torch.testing.assert_close(found["vb"][:, t], term, rtol=tolerance, atol=0)
        torch.testing.assert_close(found["xstart_mse"][:, t], ((guess - x0) ** 2).flatten(1).mean(1))
        implied = (z - math.sqrt(a) * guess) / math.sqrt(1 - a)
        torch.testing.assert_close(found["mse"][:, t], ((implied - eps) ** 2).flatten(1).mean(1))
        total = total + found["vb"][:, t]
    assert found["vb"].shape == (3, 6)
    torch.testing.assert_close(found["total_bpd"], total)
