"""What the functions of the Python interface are given by mistake: a ValueError names the argument."""

import numpy as np
import pytest
import torch
from assertions import refusal
from reference_weights import deterministic_array
from toy_networks import stand_in_classifier, tiny_unet

from core.methods.decisions import choose_target
from core.methods.dime import dime_sample
from core.methods.guidance import make_guidance
from core.methods.inputs import require_images
from core.methods.registry import METHODS
from core.running.explainer import explain
from guided_diffusion.sampling import SamplingNetwork
from guided_diffusion.script_util import create_gaussian_diffusion

X = deterministic_array("test_inputs.x", (2, 3, 8, 8), 0.4).clamp(-1, 1)
TARGET = torch.tensor([1, 0])
DIFFUSION = create_gaussian_diffusion(diffusion_steps=100, timestep_respacing="10", learn_sigma=True)
UNET = tiny_unet(learn_sigma=True).requires_grad_(False)
GREY = "1 channels"
BYTES = ((X + 1) * 127.5).round()
ODD_IMAGES = {
    "0 to 255": (BYTES, "[-1, 1]"),
    "uint8": (BYTES.to(torch.uint8), "torch.uint8"),
    "double": (X.double(), "torch.float64"),
    "half": (X.half(), "torch.float16"),
    "no batch": (X[0], "[None]"),
    "empty": (X[:0], "empty"),
    "NaN": (X * float("nan"), "NaN"),
    "numpy": (X.numpy(), "ndarray"),
    "list": (X.tolist(), "list"),
    "grey": (X[:, :1], GREY),
}


classifier = stand_in_classifier(8)


def three_classes(images):
    return 20 * images.mean((2, 3))


def guidance_for(x=X, target=TARGET, classify=classifier, **options):
    return make_guidance(x, target, classify, **{"classifier_scale": 3.0} | options)


def refused_by(sampler, images=X, network=UNET, tau=3):
    return refusal(ValueError, lambda: sampler(DIFFUSION, network, images, None, tau=tau, noise=torch.zeros_like))


@pytest.mark.parametrize("images, fault", ODD_IMAGES.values(), ids=list(ODD_IMAGES))
def test_images_that_cannot_be_taken_are_named(images, fault):
    messages = [refused_by(method.sample, images) for method in METHODS.values()]
    if fault != GREY:
        messages.append(refusal(ValueError, guidance_for, images))
    assert all(message.startswith("x ") and fault in message for message in messages)
    message = refusal(ValueError, lambda: explain(images, classifier, DIFFUSION, UNET, tau=3))
    assert message.startswith("images ") and fault in message


def test_a_network_for_sampling_knows_its_channels():
    assert refused_by(dime_sample, X[:, :1], SamplingNetwork(UNET, DIFFUSION)).startswith("x has 1 channels")


def test_images_that_rounding_has_moved_a_little_are_taken():
    require_images(torch.tensor([1.005, -1.005]).view(1, 2, 1, 1))


ODD_TARGETS = [99, -2, "Smiling", 0.5, None, torch.tensor([1.0, 0.0]), torch.tensor([1, 0, 1]), 2**70, [[1], [0]]]


@pytest.mark.parametrize("target", ODD_TARGETS, ids=str)
def test_a_target_that_is_no_class_is_named(target):
    for classify in (classifier, three_classes):
        for refused in (
            refusal(ValueError, choose_target, classify(X), target),
            refusal(ValueError, lambda c=classify: explain(X, c, DIFFUSION, UNET, tau=3, target=target)),
            refusal(ValueError, lambda c=classify: guidance_for(target=target, classify=c)(X, X, 1.0)),
        ):
            assert refused.startswith("target ")


@pytest.mark.parametrize("target", [-1, 3, torch.tensor([0, 3]), torch.tensor([-1, 0])], ids=str)
def test_guidance_needs_a_class_for_each_image(target):
    refused = refusal(ValueError, lambda: guidance_for(target=target, classify=three_classes)(X, X, 1.0))
    assert refused.endswith("it must be from 0 to 2")


def test_a_target_may_be_a_number_or_of_any_whole_type():
    expected = guidance_for()(X, X, 1.0)
    for target in (TARGET.to(torch.uint8), TARGET.bool(), [1, 0], np.array([1, 0])):
        assert torch.equal(guidance_for(target=target)(X, X, 1.0), expected)
    assert choose_target(classifier(X), 1).tolist() == choose_target(classifier(X), np.int64(1)).tolist() == [1, 1]


def test_targets_are_looked_at_once_a_guidance():
    guidance = guidance_for()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(4):
            guidance(X, X, 1.0)
    assert [event.name for event in profile.events()].count("aten::aminmax") == 1


@pytest.mark.parametrize(
    "classify, fault",
    [
        (lambda images: classifier(images)[:, None], "shape (2, 1) of 2 images"),
        (lambda images: classifier(images)[:1], "shape (1,) of 2 images"),
        (lambda images: classifier(images).sum(), "shape () of 2 images"),
        (lambda images: {"logits": classifier(images)}, "a dict of images"),
    ],
)
def test_a_classifier_that_makes_no_logits_is_told_so(classify, fault):
    assert fault in refusal(ValueError, lambda: explain(X, classify, DIFFUSION, UNET, tau=3))
    assert fault in refusal(ValueError, lambda: guidance_for(classify=classify)(X, X, 1.0))


@pytest.mark.parametrize("scale", [torch.ones(3), torch.ones(2, 1)], ids=str)
def test_a_classifier_scale_is_a_number_or_one_for_each_image(scale):
    assert refusal(ValueError, lambda: guidance_for(classifier_scale=scale)).startswith("classifier_scale ")


@pytest.mark.parametrize("tau", [2.0, "3", True, None], ids=repr)
def test_a_depth_that_is_no_whole_number_is_named(tau):
    assert refused_by(dime_sample, tau=tau).startswith("tau ")


def test_as_many_ids_as_images():
    assert "ids are 3" in refusal(ValueError, lambda: explain(X, classifier, DIFFUSION, UNET, tau=3, ids=[1, 2, 3]))
