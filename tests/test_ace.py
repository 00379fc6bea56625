import pandas as pd
import torch
from assertions import assert_near, refusal
from main_runs import main_flags
from naive import DIFFUSION, X, chain_of, guide, naive_ace, sample
from scripts import output_of, run_script
from toy_networks import tiny_unet

from core.data.images import read_image
from core.methods.ace import ace_cost, purify
from core.methods.guidance import Guidance, Parts
from core.methods.masks import changed
from core.methods.noise import ImageNoise
from guided_diffusion.sampling import SamplingNetwork
from guided_diffusion.script.errors import UserError

TAU, ITERATIONS, LAMBDA = 4, 5, 0.01


def noise_of():
    return ImageNoise(3, (0, 1), (1, 1))


def explain(guidance=None, **options):
    guidance = guidance or guide(scale=1.0, l1=LAMBDA, use_logits=False)
    return sample("ace", guidance, tau=TAU, noise=noise_of(), **options)


# -- the equations, written out ----------------------------------------------------------------------------


def test_it_is_the_naive_implementation_and_outside_of_the_mask_the_image():
    steps = []
    answer = explain(callback=steps.append)
    expected, v = naive_ace(TAU, ITERATIONS, LAMBDA, noise_of())
    assert_near(steps[0]["pre_explanation"], v)
    assert_near(answer, expected, 1e-4)
    assert [step["t"] for step in steps] == [3, 2, 1, 0]
    assert steps[0]["mask"].any() and not steps[0]["mask"].all()
    mask = changed(X, steps[-1]["pre_explanation"], 0.6, 3).expand_as(X)
    assert torch.equal(answer[~mask], X[~mask])
    assert not torch.isclose(answer[mask], X[mask]).all()


def test_nothing_changes_where_the_gradient_is_zero():
    half = torch.zeros_like(X)
    half[..., :4] = 1

    def parts(z, x_clean, sqrt_abar):
        return Parts(0.0 * x_clean, half, torch.zeros(len(X)))

    steps = []
    explain(guidance=Guidance(parts), callback=steps.append)
    v = steps[0]["pre_explanation"]
    assert torch.equal(v[..., 4:], X[..., 4:])
    assert_near(v[..., :4], (X[..., :4] - ITERATIONS * 2 / 255).clamp(-1, 1))
    assert torch.equal(explain(guidance=guide(scale=0.0, l1=LAMBDA), mask_threshold=0.15), X)


def test_recomputed_steps_give_the_same_answer_and_need_less_memory():
    network, answers, memory = SamplingNetwork(tiny_unet(learn_sigma=True), DIFFUSION), [], []

    def remember(tensor):
        memory[-1] += tensor.numel()
        return tensor

    for kept_steps in (None, 3, 1):
        memory.append(0)
        with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
            purify(chain_of(TAU, model_fn=network, noise=noise_of()), X.clone().requires_grad_(), kept_steps)
        answers.append(explain(model_fn=network, kept_steps=kept_steps))
    assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])
    assert memory[0] > 1.25 * memory[1] > 2 * memory[2]


def test_the_network_is_differentiated_in_half_precision_too():
    unet, gradients = tiny_unet(learn_sigma=True), []
    for dtype in (torch.float32, torch.bfloat16):
        v = X.clone().requires_grad_()
        network = SamplingNetwork(unet, DIFFUSION, dtype=dtype)
        purified = purify(chain_of(TAU, model_fn=network, noise=noise_of()), v)
        gradients.append(torch.autograd.grad(purified.sum(), v)[0])
    assert torch.cosine_similarity(*(g.flatten() for g in gradients), dim=0) > 0.98


def test_the_papers_cost():
    assert ace_cost(5) == (255, 0, 250) and ace_cost(5, kept_steps=1).each == 455


# -- main.py -----------------------------------------------------------------------------------------------


def test_the_pre_explanations_are_written_where_they_are_asked_for(toy_files, tmp_path):
    flags = main_flags(toy_files, tmp_path / "out") | {"method": "ace", "start_step": 2, "use_logits": False}
    flags |= {"classifier_scales": 1, "save_pre_explanation": True, "iterations": 2, "kept_steps": 1}
    assert "8 network evaluations an attempt" in output_of(run_script("main.py", flags))
    experiment = flags["output_path"] / "Results/exp"
    written = list(experiment.glob("?C/*CF/Pre/*.png"))
    assert len(written) == len(pd.read_csv(experiment / "records.csv")) == 8
    changes = []
    for path in written:
        (original,) = flags["output_path"].glob(f"Original/*/{path.name}")
        changes.append(int((read_image(path).int() - read_image(original).int()).abs().max()))
    assert max(changes) == 2, changes  # two iterations of a grey level


def test_python_refuses_more_kept_steps_than_there_are():
    assert "--kept_steps 5" in refusal(UserError, lambda: explain(kept_steps=5))
