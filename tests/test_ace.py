import pandas as pd
import pytest
import torch
from assertions import assert_near, refusal
from main_runs import main_flags
from naive import DIFFUSION, TARGET, Network, Steps, X, chain_of, guide, naive_ace
from scripts import call_script, run_script
from toy_networks import stand_in_network, tiny_unet

from core.data.images import read_image
from core.methods.ace import ace, ace_cost, purify
from core.methods.guidance import Guidance, Parts
from core.methods.masks import changed
from core.methods.noise import ImageNoise
from guided_diffusion.sampling import SamplingNetwork
from guided_diffusion.script.errors import UserError

TAU, ITERATIONS, LAMBDA = 4, 5, 0.01


def noise_of(ids=(0, 1)):
    return ImageNoise(3, ids, [1] * len(ids))


def against(x=X, target=TARGET, scale=1.0):
    return guide(x, target, scale, LAMBDA, use_logits=False)


def explain(x=X, guidance=None, model_fn=stand_in_network, ids=(0, 1), **options):
    options = {"iterations": ITERATIONS, "mask_threshold": 0.6, "mask_dilation": 3} | options
    return ace(DIFFUSION, model_fn, x, guidance or against(x), tau=TAU, noise=noise_of(ids), **options)


# -- the equations, written out ----------------------------------------------------------------------------


def test_it_is_the_naive_implementation():
    steps = Steps()
    answer = explain(callback=steps)
    expected, v = naive_ace(TAU, ITERATIONS, LAMBDA, noise_of())
    assert_near(steps[0]["pre_explanation"], v)
    assert_near(answer, expected, 1e-4)
    assert [step["t"] for step in steps] == [3, 2, 1, 0]
    assert steps[0]["mask"].any() and not steps[0]["mask"].all()


# -- properties --------------------------------------------------------------------------------------------


def test_outside_of_the_mask_the_answer_is_the_image():
    steps = Steps()
    answer = explain(callback=steps)
    mask = changed(X, steps[-1]["pre_explanation"], 0.6, 3).expand_as(X)
    assert torch.equal(answer[~mask], X[~mask])
    assert not torch.isclose(answer[mask], X[mask]).all()


def test_nothing_changes_where_the_gradient_is_zero():
    half = torch.zeros_like(X)
    half[..., :4] = 1

    def parts(z, x_clean, sqrt_abar):
        return Parts(0.0 * x_clean, half, torch.zeros(len(X)))

    steps = Steps()
    explain(guidance=Guidance(parts), callback=steps)
    v = steps[0]["pre_explanation"]
    assert torch.equal(v[..., 4:], X[..., 4:])
    assert_near(v[..., :4], (X[..., :4] - ITERATIONS * 2 / 255).clamp(-1, 1))
    assert torch.equal(explain(guidance=against(scale=0.0), mask_threshold=0.15), X)


def test_each_image_is_explained_as_if_it_were_alone():
    together = explain()
    for row in range(2):
        alone = explain(X[row : row + 1], against(X[row : row + 1], TARGET[row : row + 1]), ids=(row,))
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
            purify(chain_of(TAU, model_fn=network, noise=noise_of()), v, kept_steps)
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
        purified = purify(chain_of(TAU, model_fn=network, noise=noise_of()), v)
        gradients.append(torch.autograd.grad(purified.sum(), v)[0])
    assert torch.cosine_similarity(*(g.flatten() for g in gradients), dim=0) > 0.98


@pytest.mark.parametrize("options", [{}, {"kept_steps": 1}, {"kept_steps": 3, "guided_steps": 2}], ids=str)
def test_the_evaluations_are_those_that_are_announced(options):
    network = Network()
    explain(model_fn=network, **options)
    assert len(network.steps) == ace_cost(TAU, **{"iterations": ITERATIONS} | options).each


def test_the_papers_cost():
    assert ace_cost(5) == (255, 0, 250) and ace_cost(5, kept_steps=1).each == 455


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
