"""The methods as explain() and main.py run them: starts, costs, options, masks."""

import inspect
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml
from assertions import refusal
from reference_weights import deterministic_array
from scripts import call_script, contents, error_of, output_of, run_script
from toy_networks import grey_denoiser as network

from core.data.images import read_image
from core.methods.chain import Chain
from core.methods.flags import OPTION_FLAGS
from core.methods.inversion import invert, path_of
from core.methods.registry import METHODS, find_method
from core.running.explainer import Explainer, Settings, explain
from core.running.networks import conditions, require_conditions
from core.running.progress import EvaluationBar, cost_line
from guided_diffusion.script.errors import UserError
from guided_diffusion.script_util import create_gaussian_diffusion

DIFFUSION = create_gaussian_diffusion(diffusion_steps=200, timestep_respacing="12", predict_xstart=True)
TAU, SCALES = 5, (0.001, 0.002)
IMAGES = deterministic_array("faces", (4, 3, 8, 8), 0.3).clamp(-1, 1)
COSTS = [("dime", {}), ("dime", {"inner_steps": 1}), ("dime", {"inner_steps": 2}), ("dime", {"guided_steps": 2})]
COSTS += [(name, {}) for name in METHODS if name != "dime"]
COSTS += [("ace", {"iterations": 5, "kept_steps": 1})]
COSTS += [("ace", {"iterations": 5, "kept_steps": 3, "guided_steps": 2})]


def far(images):
    """A binary question that nothing flips."""
    return images.mean((1, 2, 3)) - 50


def run(method, model_fn=network, **options):
    return explain(
        IMAGES, far, DIFFUSION, model_fn, method=method, tau=TAU, classifier_scales=SCALES, seed=4, **options
    )


@pytest.mark.parametrize("name, options", COSTS)
def test_the_evaluations_that_are_announced_are_those_that_are_made(name, options):
    cost = find_method(name).cost(TAU, **options)
    with EvaluationBar(len(IMAGES), cost) as bar:
        settings = Settings.of(method=name, tau=TAU, classifier_scales=SCALES, **options)
        explainer = Explainer(far, DIFFUSION, bar.wrap(network), settings, on_attempt=bar.follow)
        batches = list(explainer.explain([[0, 1], [2, 3]], lambda ids: (IMAGES[ids], -1, None), batch_size=3))
        made = bar.bar.n
        assert bar.bar.total == made
    assert [job.attempt for jobs in batches for job in jobs] == [2, 2, 2, 2]
    assert f" to {made:,} evaluations" in cost_line(4, 0, cost, len(SCALES))


def test_a_sampler_is_the_method_of_its_name():
    for name in ("dime", "maskdime", "inversion"):
        one, other = run(name), run(METHODS[name].sample)
        assert torch.equal(one.counterfactual, other.counterfactual) and torch.equal(one.start, other.start)
    assert "--method magic" in refusal(UserError, lambda: run("magic"))


def test_the_noise_picture_of_inversion_is_the_end_of_its_path():
    chain = Chain(DIFFUSION, network, IMAGES, None, tau=TAU, noise=None)
    assert torch.equal(run("inversion").start, path_of(chain, invert(chain))[-1])


def test_outside_of_the_mask_is_the_image():
    result = run("maskdime")
    assert result.mask.any() and not result.mask.all()
    outside = ~result.mask.expand_as(IMAGES)
    assert (result.counterfactual - IMAGES)[outside].abs().max() <= 1 / 255 + 1e-6  # 8 bits
    assert run("dime").mask.all()


def test_one_class_an_image_is_the_column_or_of_two_the_other():
    labels, target = torch.tensor([[1, 0], [0, 1]]), torch.tensor([1, 0])
    for column in (0, 1):
        assert conditions(labels, column, target, False).tolist() == [column, 1 - column]
    assert conditions(labels, 0, target, True).tolist() == [[1, 0], [0, 1]]


def test_every_option_of_a_method_is_a_flag_and_every_flag_is_an_option():
    arguments = {flag.argument or name for name, flag in OPTION_FLAGS.items()}
    assert set().union(*(method.options for method in METHODS.values())) == arguments
    assert "fastdime*, inversion, ace: " in OPTION_FLAGS["mask_threshold"].help


@pytest.mark.parametrize("name", METHODS)
def test_the_samplers_share_their_arguments_and_refuse_those_that_there_are_not(name):
    sampler = METHODS[name].sample
    arguments = str(inspect.signature(sampler))
    assert arguments.startswith("(diffusion, model_fn, x, guidance, *, tau, noise, z=None, clip_denoised=True, ")
    assert "guided_steps=None, callback=None, " in arguments
    with pytest.raises(TypeError, match="guided_step"):
        sampler(DIFFUSION, network, IMAGES, None, tau=TAU, noise=None, guided_step=3)
    with pytest.raises(TypeError, match="noise"):
        sampler(DIFFUSION, network, IMAGES, None, tau=TAU)


def test_the_defaults_of_the_samplers_are_the_published_ones():
    options = {name: method.options for name, method in METHODS.items()}
    shared = {"sampling_scale": 1.0, "rescale_gradient": False, "background_lag": 0}
    masked = {"mask_threshold": 0.15, "mask_dilation": 5} | shared
    dime = {"inner_stochastic": True, "inner_ddim": False, "inner_steps": None, "sampling_scale": 1.0}
    ace = {"iterations": 50, "kept_steps": None, "mask_threshold": 0.15, "mask_dilation": 15}
    assert options["dime"] == dime and options["ace"] == ace
    assert options["fastdime2"] == masked
    assert options["fastdime"] == options["fastdime2plus"] == masked | {"mask_warm_up": None}
    assert {"mask_share": 0.05, "mask_dilation": 5, "rescale_gradient": True}.items() <= options["maskdime"].items()


@pytest.mark.parametrize("count, target, possible", [(2, -1, True), (3, 1, True), (3, -1, False), (3, 0, False)])
def test_a_network_of_classes_can_be_told_where_to_go_only_where_that_is_one_class(count, target, possible):
    own = {"class_cond": True, "multiclass": False, "num_classes": count, "data_dir": "data"}
    args = own | {"target_label": target}
    dataset = SimpleNamespace(attributes=[*"abc"[:count]], labels=torch.eye(count).long(), names=[*"123"])
    if possible:
        require_conditions(args, dataset)
    else:
        message = refusal(UserError, lambda: require_conditions(args, dataset))
        assert f"--target_label {target}" in message and "2 to go to; give --target_label 1" in message


@pytest.mark.parametrize(
    "given, said",
    [
        ({"method": "maskdime", "mask_share": 0.2, "save_masks": True}, "4 network evaluations an attempt"),
        ({"method": "inversion", "margin": 3}, "4 an image and 3 network evaluations an attempt"),
    ],
)
def test_a_method_fills_the_folder(flags, given, said):
    assert said in output_of(run_script("main.py", flags | given))
    experiment = flags["output_path"] / "Results/exp"
    assert len(pd.read_csv(experiment / "records.csv")) == 8
    assert yaml.safe_load((experiment / "summary.yaml").read_text())["n"] == 8
    masks = list(experiment.glob("?C/*CF/Mask/*.png"))
    assert len(masks) == (8 if "save_masks" in given else 0)
    assert all(set(read_image(path).unique().tolist()) <= {0, 255} for path in masks)
    before = contents(flags["output_path"])
    assert run_script("main.py", flags | given)[0] == 0 and contents(flags["output_path"]) == before


@pytest.mark.parametrize(
    "change, words",
    [
        ({"method": "magic"}, ["--method magic", "maskdime"]),
        ({"margin": 4}, ["--margin", "--method dime", "inversion"]),
        ({"growth": 2}, ["--growth", "--method dime", "inversion"]),
        ({"method": "maskdime", "inner_steps": 1}, ["--inner_steps", "maskdime"]),
        ({"method": "inversion", "sampling_scale": 0.5}, ["--sampling_scale", "inversion"]),
        ({"inner_steps": 9}, ["--inner_steps 9", "from 1 to 3"]),
        ({"method": "maskdime", "mask_share": 0}, ["--mask_share 0"]),
        ({"method": "fastdime", "mask_share": 0.1}, ["--mask_share", "fastdime", "maskdime"]),
        ({"method": "fastdime2", "mask_warm_up": 1}, ["--mask_warm_up", "fastdime2", "fastdime2plus"]),
        ({"method": "fastdime", "mask_dilation": 4}, ["--mask_dilation 4", "odd"]),
        ({"method": "inversion", "growth": 0.5}, ["--growth 0.5"]),
        ({"method": "inversion", "margin": "wide"}, ["--margin", "'wide'"]),
        ({"save_masks": True}, ["--save_masks", "dime"]),
        ({"method": "ace", "kept_steps": 5}, ["--kept_steps 5", "from 1 to 4"]),
        ({"method": "ace", "kept_steps": 0}, ["--kept_steps 0"]),
        ({"method": "ace", "iterations": -1}, ["--iterations -1"]),
        ({"iterations": 9}, ["--iterations", "--method dime", "ace"]),
        ({"save_pre_explanation": True}, ["--save_pre_explanation", "--method dime", "ace"]),
        (
            {"method": "ace", "save_pre_explanation": True, "save_images": False},
            ["--save_pre_explanation", "--save_images"],
        ),
        ({"class_cond": True, "num_classes": 40, "multiclass": False}, ["--multiclass False"]),
    ],
    ids=str,
)
def test_bad_choices_are_one_line_and_write_nothing(flags, change, words):
    line = error_of(call_script("main.py", flags | change))
    assert all(word in line for word in words)
    assert not flags["output_path"].exists()
