import math
import weakref
from itertools import combinations

import naive
import pytest
import torch
from assertions import assert_near, refusal
from golden import SeededNoise, golden, reference_vgg19
from naive import DIFFUSION, TARGET, Network, X, naive_dime
from reference_weights import deterministic_array
from torch.utils._python_dispatch import TorchDispatchMode
from toy_networks import stand_in_classifier, stand_in_features, stand_in_network, tiny_unet

from core.methods.dime import dime_sample, evaluations
from core.methods.guidance import make_guidance
from guided_diffusion.script.errors import UserError
from guided_diffusion.script_util import create_gaussian_diffusion


def pull(z, x_clean, sqrt_abar):
    """A guidance that depends on all that it is given."""
    return (torch.sin(3 * x_clean) + 0.1 * z) / sqrt_abar


def sample(guidance=pull, **options):
    return naive.sample("dime", guidance, **{"tau": 5} | options)


# -- the numbers -------------------------------------------------------------------------------------------


def test_a_trajectory_is_that_of_the_reference(golden_unet):
    unet, diffusion = golden_unet
    arrays, _ = golden("dime_tau5")
    x = deterministic_array("dime.x", (2, 3, 32, 32), 0.4).clamp(-1, 1)
    options = {name: arrays[name].item() for name in ("classifier_scale", "use_logits", "l1_loss", "l_perc")}
    options["perceptual"] = reference_vgg19(int(arrays["l_perc_layer"]))
    guidance = make_guidance(x, torch.from_numpy(arrays["y"]), stand_in_classifier(), **options)
    steps, options = [], {"tau": int(arrays["tau"]), "noise": SeededNoise(int(arrays["noise_seed"]))}
    counterfactual = dime_sample(diffusion, unet, x, guidance, callback=steps.append, **options)
    assert_near(counterfactual, arrays["counterfactual"], 1e-4)
    assert [step["t"] for step in steps] == [4, 3, 2, 1, 0]
    for name in ("z", "x_clean"):
        assert_near(torch.stack([step[name] for step in steps]), arrays[name], 1e-4)


@pytest.mark.parametrize("use_logits, stochastic", [(True, True), (False, True), (True, False)])
def test_the_loop_is_the_papers_algorithm(use_logits, stochastic):
    unet, classifier = tiny_unet(learn_sigma=True), stand_in_classifier(8)
    weights = {"l1_loss": 0.05, "l2_loss": 0.02, "l_perc": 30.0}
    options = {"use_logits": use_logits, "perceptual": stand_in_features} | weights
    guidance = make_guidance(X, TARGET, classifier, classifier_scale=3.0, **options)
    answer = sample(guidance, model_fn=unet, inner_stochastic=stochastic)
    expected = naive_dime(unet, classifier, X, 5, SeededNoise(), 3.0, *weights.values(), use_logits, stochastic)
    assert_near(answer, expected, 1e-4)
    assert (answer - X).abs().max() > 0.1


# -- the course of the loop --------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [2, 5, 11])
@pytest.mark.parametrize("guided_steps", [None, 0, 1, 2, 5, 20])
@pytest.mark.parametrize("inner_steps", [None, 1, 3])
def test_the_cost_is_known_beforehand(tau, guided_steps, inner_steps):
    inner_steps = inner_steps and min(inner_steps, tau - 1)
    network, options = Network(), {"guided_steps": guided_steps, "inner_steps": inner_steps}
    assert sample(model_fn=network, tau=tau, **options).isfinite().all()
    assert len(network.steps) == evaluations(tau, **options)


def test_a_depth_of_tau_takes_tau_chains_so_the_cost_grows_with_its_square_or_with_inner_steps_with_it():
    network = Network()
    sample(model_fn=network, tau=4)
    assert network.steps == [3, 2, 1, 0, 1, 0, 0]  # each chain begins with the evaluation of its outer step
    assert [evaluations(tau) for tau in (1, 2, 3, 10, 60)] == [1, 2, 4, 46, 1771]
    assert [evaluations(60, inner_steps=k) for k in (1, 2, 59)] == [60, 118, 1771]


def test_without_guidance_the_chain_is_plain_ancestral_sampling():
    answer, noise = sample(lambda *_: pytest.fail("guided"), guided_steps=0), SeededNoise()
    z = DIFFUSION.q_sample(X, DIFFUSION.batch_t(5, X), noise(X))
    for t in (4, 3, 2, 1, 0):
        z, _ = DIFFUSION.p_sample(stand_in_network, z, DIFFUSION.batch_t(t, z), noise)
    assert_near(answer, z)


def test_after_the_guided_steps_nothing_looks_at_the_clean_estimate_any_more():
    steps, network = [], Network()
    sample(model_fn=network, guided_steps=2, callback=steps.append)
    assert network.steps == [4, 3, 2, 1, 0, 2, 1, 0]  # one inner chain, then the bare outer one
    assert all(torch.equal(step["x_clean"], steps[1]["x_clean"]) for step in steps[1:])


def test_guiding_every_step_is_the_default():
    assert [torch.equal(sample(), sample(guided_steps=steps)) for steps in (5, 9, 4)] == [True, True, False]


class Alive(TorchDispatchMode):
    """Counts the tensors of an image's height and width that were made under it and are still there."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **kwargs or {})
        if isinstance(result, torch.Tensor) and result.shape[2:] == X.shape[2:]:
            self.made.append(weakref.ref(result))
        return result

    def count(self):
        self.made = [each for each in self.made if each() is not None]
        return len(self.made)


@pytest.mark.parametrize("guided_steps", [None, 2])
def test_memory_does_not_grow_with_the_depth(guided_steps):
    deep = create_gaussian_diffusion(diffusion_steps=200, timestep_respacing="30", learn_sigma=True)

    def most_images_alive(tau):
        counts = []
        with Alive() as alive:
            options = {"guided_steps": guided_steps, "callback": lambda _: counts.append(alive.count())}
            dime_sample(deep, stand_in_network, X, pull, tau=tau, noise=torch.randn_like, **options)
        return max(counts)

    assert most_images_alive(4) == most_images_alive(12) == most_images_alive(24) > 0


# -- noise -------------------------------------------------------------------------------------------------


def test_noise_is_drawn_in_the_order_in_which_it_is_used_and_never_at_the_end():
    order = []

    def network(z, t):
        order.append(DIFFUSION.timestep_map.tolist().index(t[0]))
        return stand_in_network(z, t)

    def noise(like):
        order.append("noise")
        return torch.zeros_like(like)

    sample(model_fn=network, noise=noise, tau=3)
    start, outer_2, inner_1, outer_1 = ["noise"], [2, "noise"], [1, "noise", 0], ["noise"]
    assert order == [*start, *outer_2, *inner_1, *outer_1, 0]


INNER_STEPS = [
    ({}, lambda z, t, noise: DIFFUSION.p_sample(stand_in_network, z, t, lambda like: next(noise))[0]),
    ({"inner_stochastic": False}, lambda z, t, _: DIFFUSION.p_mean_variance(stand_in_network, z, t)["mean"]),
    ({"inner_ddim": True}, lambda z, t, _: DIFFUSION.ddim_sample(stand_in_network, z, t)[0]),
]


@pytest.mark.parametrize("options, step", INNER_STEPS)
def test_the_inner_chain_is_drawn_or_of_means_or_ddim(options, step):
    steps, noise = [], SeededNoise()
    sample(noise=noise, tau=3, callback=steps.append, **options)
    assert len(noise.given) == (1 + 2 if options else 1 + 2 + 1)  # the start, outer steps but the last, inner step
    z, rest = steps[1]["z"], iter(noise.given[2:])
    for t in (1, 0):
        z = step(z, DIFFUSION.batch_t(t, z), rest)
    assert_near(steps[1]["x_clean"], z)


def test_the_inner_chains_differ():
    answers = [sample(), sample(inner_stochastic=False), sample(inner_ddim=True)]
    for one, other in combinations(answers, 2):
        assert (one - other).abs().max() > 1e-3


def test_an_inner_chain_of_one_step_is_the_estimate_of_the_outer_step():
    steps, network = [], Network()
    sample(model_fn=network, inner_steps=1, callback=steps.append)
    assert network.steps == [4, 3, 2, 1, 0]
    assert torch.equal(steps[0]["x_clean"], X)
    for step in steps[1:]:
        t = DIFFUSION.batch_t(step["t"], X)
        assert_near(step["x_clean"], DIFFUSION.p_mean_variance(stand_in_network, step["z"], t)["pred_xstart"])


def test_an_inner_chain_of_two_steps_jumps_to_the_middle():
    steps, network = [], Network()
    sample(model_fn=network, tau=9, inner_steps=2, callback=steps.append)
    assert network.steps[:6] == [8, 7, 3, 6, 2, 5]  # of 7 … 0 the upper ends of 7 … 4 and 3 … 0
    abar, z = DIFFUSION.alphas_cumprod, steps[1]["z"].double()
    for t, below in ((7, abar[3]), (3, 1.0)):
        output = stand_in_network(z, t)[:, :3]
        x0 = ((z - math.sqrt(1 - abar[t]) * output) / math.sqrt(abar[t])).clamp(-1, 1)
        eps = (z - math.sqrt(abar[t]) * x0) / math.sqrt(1 - abar[t])
        z = math.sqrt(below) * x0 + math.sqrt(1 - below) * eps
    assert_near(steps[1]["x_clean"], z)


def test_as_many_inner_steps_as_there_are_make_the_whole_ddim_chain():
    assert torch.equal(sample(inner_steps=4), sample(inner_ddim=True))
    assert torch.equal(sample(inner_steps=1, tau=1), sample(tau=1))


@pytest.mark.parametrize("inner_steps", [-1, 0, 5, 60])
def test_more_inner_steps_than_the_longest_chain_has_are_refused(inner_steps):
    message = refusal(UserError, lambda: sample(tau=5, inner_steps=inner_steps))
    assert f"--inner_steps {inner_steps}" in message and "1 to 4" in message and "--start_step 5" in message


def test_a_sampling_scale_of_zero_removes_the_noise_of_the_outer_chain():
    def with_seed(seed, scale):
        return sample(z=SeededNoise()(X), noise=SeededNoise(seed), sampling_scale=scale, inner_stochastic=False)

    assert torch.equal(with_seed(1, 0.0), with_seed(2, 0.0))
    assert not torch.equal(with_seed(1, 0.5), with_seed(2, 0.5))


def test_the_sampling_scale_multiplies_sigma():
    steps, z, noise = [], SeededNoise()(X), SeededNoise()
    sample(z=z, noise=noise, sampling_scale=0.5, callback=steps.append)
    p = DIFFUSION.p_mean_variance(stand_in_network, z, DIFFUSION.batch_t(4, z))
    mean = p["mean"] - p["variance"] * pull(z, X, DIFFUSION.sqrt_alphas_cumprod[4])
    assert_near(steps[1]["z"], mean + 0.5 * p["variance"].sqrt() * noise.given[0])


def test_clipping_can_be_left_out():
    def far(z, t):
        return torch.cat([-3 * torch.ones_like(z), torch.zeros_like(z)], dim=1)

    assert sample(model_fn=far, guided_steps=0).abs().max() <= 1 + 1e-5
    assert sample(model_fn=far, guided_steps=0, clip_denoised=False).abs().max() > 1.5
