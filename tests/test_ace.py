import math

import numpy as np
import pandas as pd
import pytest
import torch
from assertions import assert_near, refusal
from main_runs import main_flags
from reference_weights import deterministic_array
from scripts import call_script, run_script
from toy_networks import stand_in_classifier, stand_in_network, tiny_unet

from core.data.images import read_image
from core.methods.ace import ace, ace_evaluations, purify
from core.methods.guidance import Guidance, Parts, make_guidance
from core.methods.masks import changed
from core.methods.noise import ImageNoise
from guided_diffusion.sampling import SamplingNetwork
from guided_diffusion.script.errors import UserError
from guided_diffusion.script_util import create_gaussian_diffusion

DIFFUSION = create_gaussian_diffusion(diffusion_steps=200, timestep_respacing="12", learn_sigma=True)
X = deterministic_array("test_fast.x", (2, 3, 8, 8), 0.4).clamp(-1, 1)
TARGET = torch.tensor([1, 0])
TAU, ITERATIONS, LAMBDA = 4, 5, 0.01
KEPT = [round(i * 199 / 11) for i in range(12)]
ABAR = np.cumprod(1 - np.linspace(0.1 / 200, 20 / 200, 200))[KEPT].tolist()


def guide(x=X, target=TARGET, scale=1.0, **options):
    options = {"use_logits": False, "l1_loss": LAMBDA} | options
    return make_guidance(x, target, stand_in_classifier(8), classifier_scale=scale, **options)


def noise_of(ids=(0, 1)):
    return ImageNoise(3, ids, [1] * len(ids))


def explain(x=X, guidance=None, model_fn=stand_in_network, ids=(0, 1), **options):
    options = {"iterations": ITERATIONS, "mask_threshold": 0.6, "mask_dilation": 3} | options
    return ace(DIFFUSION, model_fn, x, guidance or guide(x), tau=TAU, noise=noise_of(ids), **options)


# -- the equations, written out ----------------------------------------------------------------------------


def naive_level(t):
    return ABAR[t] if t >= 0 else 1.0


def naive_noised(image, t, noise):
    return math.sqrt(ABAR[t]) * image + math.sqrt(1 - ABAR[t]) * noise(image.float()).double()


def naive_ancestral(z, t, noise):
    """A draw from p(z_t-1 | z_t): Ho et al. 2020, eq. 7; the variance of Nichol and Dhariwal 2021, eq. 15."""
    level, below = naive_level(t), naive_level(t - 1)
    beta = 1 - level / below
    x0 = ((z - math.sqrt(1 - level) * 0.9 * torch.tanh(z)) / math.sqrt(level)).clamp(-1, 1)
    mean = (math.sqrt(below) * beta * x0 + math.sqrt(level / below) * (1 - below) * z) / (1 - level)
    if t == 0:
        return mean
    share = (torch.sin(3 * z) + 1) / 2
    smallest = beta * (1 - below) / (1 - level)
    return mean + torch.exp((share * math.log(beta) + (1 - share) * math.log(smallest)) / 2) * noise(z.float())


def naive_ace(x, sign, noise):
    """All in units of [0, 1], an image at a time would be the same."""
    weights = deterministic_array("gradients.W", (192,), 0.05).double()
    x = (x.double() + 1) / 2
    v = x.clone()
    for _ in range(ITERATIONS):
        v.requires_grad_()
        z = naive_noised(2 * v - 1, TAU - 1, lambda like: noise(like.detach()))
        for t in range(TAU - 1, -1, -1):
            z = naive_ancestral(z, t, lambda like: noise(like.detach()))
        logit = z.flatten(1) @ weights + 0.1 * z.flatten(1).square().sum(1)
        cross_entropy = torch.nn.functional.softplus(-sign * logit).sum()
        gradient = torch.autograd.grad(cross_entropy + LAMBDA * (v - x).abs().sum(), v)[0]
        v = (v.detach() - gradient.sign() / 255).clamp(0, 1)
        v = torch.where((v - x).abs() < 1e-9, x, v)  # double precision is not exact either
    difference = (x - v).abs().sum(1, keepdim=True)
    pooled = torch.zeros_like(difference)
    for i in range(8):
        for j in range(8):
            window = difference[..., max(0, i - 1) : i + 2, max(0, j - 1) : j + 2]
            pooled[..., i, j] = window.amax((2, 3))
    keep = (pooled / difference.amax((1, 2, 3), keepdim=True) < 0.6).double()
    z = naive_noised(2 * v - 1, TAU - 1, noise)
    for t in range(TAU - 1, -1, -1):
        z = keep * naive_noised(2 * x - 1, t, noise) + (1 - keep) * z
        z = naive_ancestral(z, t, noise)
    return keep * (2 * x - 1) + (1 - keep) * z, 2 * v - 1


def test_it_is_the_naive_implementation():
    seen = []
    found = explain(callback=seen.append)
    expected, v = naive_ace(X, torch.tensor([1.0, -1.0]), noise_of())
    assert_near(seen[0]["pre_explanation"], v)
    assert_near(found, expected, 1e-4)
    assert [step["t"] for step in seen] == [3, 2, 1, 0]
    assert seen[0]["mask"].any() and not seen[0]["mask"].all()


# -- properties --------------------------------------------------------------------------------------------


def test_outside_of_the_mask_the_answer_is_the_image():
    seen = []
    found = explain(callback=seen.append)
    mask = changed(X, seen[-1]["pre_explanation"], 0.6, 3).expand_as(X)
    assert torch.equal(found[~mask], X[~mask])
    assert not torch.isclose(found[mask], X[mask]).all()


def test_nothing_changes_where_the_gradient_is_zero():
    half = torch.zeros_like(X)
    half[..., :4] = 1

    def parts(z, x_clean, sqrt_abar):
        return Parts(0.0 * x_clean, half, torch.zeros(len(X)))

    seen = []
    explain(guidance=Guidance(parts), callback=seen.append)
    v = seen[0]["pre_explanation"]
    assert torch.equal(v[..., 4:], X[..., 4:])
    assert_near(v[..., :4], (X[..., :4] - ITERATIONS * 2 / 255).clamp(-1, 1))
    assert torch.equal(explain(guidance=guide(scale=0.0), mask_threshold=0.15), X)


def test_each_image_is_explained_as_if_it_were_alone():
    together = explain()
    for row in range(2):
        alone = explain(X[row : row + 1], guide(X[row : row + 1], TARGET[row : row + 1]), ids=(row,))
        assert_near(alone, together[row : row + 1], 1e-4)


def test_recomputed_steps_give_the_same_answer_and_need_less_memory():
    unet = tiny_unet(learn_sigma=True)
    answers, kept = [], []
    for kept_steps in (None, 3, 1):
        sizes = []

        def remember(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        network = SamplingNetwork(unet, DIFFUSION)
        with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
            v = X.clone().requires_grad_()
            purify(DIFFUSION, network, v, TAU, noise_of(), kept_steps=kept_steps)
        kept.append(sum(sizes))
        answers.append(explain(model_fn=network, kept_steps=kept_steps))
    assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])
    assert kept[0] > 1.25 * kept[1] > 2 * kept[2]


def test_nobodys_gradients_are_touched():
    unet = tiny_unet(learn_sigma=True)
    explain(model_fn=SamplingNetwork(unet, DIFFUSION))
    assert all(parameter.grad is None and parameter.requires_grad for parameter in unet.parameters())
    assert not X.requires_grad


def test_the_network_is_differentiated_in_half_precision_too():
    unet, gradients = tiny_unet(learn_sigma=True), []
    for dtype in (torch.float32, torch.bfloat16):
        v = X.clone().requires_grad_()
        network = SamplingNetwork(unet, DIFFUSION, dtype=dtype)
        gradients.append(torch.autograd.grad(purify(DIFFUSION, network, v, TAU, noise_of()).sum(), v)[0])
    assert torch.cosine_similarity(*(g.flatten() for g in gradients), dim=0) > 0.98


@pytest.mark.parametrize("options", [{}, {"kept_steps": 1}, {"kept_steps": 3, "guided_steps": 2}], ids=str)
def test_the_evaluations_are_those_that_are_announced(options):
    calls = []

    def counted(z, t):
        calls.append(t)
        return stand_in_network(z, t)

    explain(model_fn=counted, **options)
    assert len(calls) == ace_evaluations(TAU, **{"iterations": ITERATIONS} | options)


def test_the_papers_cost():
    assert ace_evaluations(5) == 255 and ace_evaluations(5, kept_steps=1) == 455


# -- main.py -----------------------------------------------------------------------------------------------


@pytest.fixture
def flags(toy_files, tmp_path):
    wanted = {"method": "ace", "start_step": 2, "use_logits": False, "classifier_scales": 1}
    return main_flags(toy_files, tmp_path / "out") | wanted


def test_the_pre_explanations_are_written_where_they_are_asked_for(flags):
    code, out, err = run_script("main.py", flags | {"save_pre_explanation": True, "iterations": 2, "kept_steps": 1})
    assert code == 0 and "8 network evaluations an attempt" in out, err
    experiment = flags["output_path"] / "Results/exp"
    written = {path.stem: path for path in experiment.glob("?C/*CF/Pre/*.png")}
    assert len(written) == len(pd.read_csv(experiment / "records.csv")) == 8
    changes = []
    for name, path in written.items():
        (original,) = flags["output_path"].glob(f"Original/*/{name}.png")
        difference = (read_image(path).int() - read_image(original).int()).abs()
        changes.append(int(difference.max()))
    assert max(changes) == 2, changes  # two iterations of a grey level


@pytest.mark.parametrize(
    "change, words",
    [
        ({"kept_steps": 3}, ["--kept_steps 3", "from 1 to 2"]),
        ({"kept_steps": 0}, ["--kept_steps 0"]),
        ({"iterations": -1}, ["--iterations -1"]),
        ({"method": "dime", "iterations": 9}, ["--iterations", "--method dime", "ace"]),
        ({"method": "dime", "save_pre_explanation": True}, ["--save_pre_explanation", "--method dime", "ace"]),
        ({"save_pre_explanation": True, "save_images": False}, ["--save_pre_explanation", "--save_images"]),
    ],
    ids=str,
)
def test_bad_choices_are_one_line_and_write_nothing(flags, change, words):
    code, _, err = call_script("main.py", flags | change)
    assert code == 2 and err.count("\n") == 1 and all(word in err for word in words), err
    assert not flags["output_path"].exists()


def test_python_refuses_more_kept_steps_than_there_are():
    assert "--kept_steps 5" in refusal(UserError, lambda: explain(kept_steps=5))
