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
}
GREY = {"grey": (X[:, :1], "1 channels")}


def classifier(images):
    return stand_in_classifier(8)(images)


def three_classes(images):
    return 20 * images.mean((2, 3))


def guidance_for(x=X, target=TARGET, classify=classifier, **options):
    return make_guidance(x, target, classify, **{"classifier_scale": 3.0} | options)


def noise(like):
    return torch.zeros_like(like)


def all_images(odd):
    return pytest.mark.parametrize("images, said", odd.values(), ids=list(odd))


@pytest.mark.parametrize("method", METHODS)
@all_images(ODD_IMAGES | GREY)
def test_samplers_name_the_images_that_they_cannot_take(method, images, said):
    message = refusal(ValueError, lambda: METHODS[method].sample(DIFFUSION, UNET, images, None, tau=3, noise=noise))
    assert message.startswith("x ") and said in message


def test_a_network_for_sampling_knows_its_channels():
    network = SamplingNetwork(tiny_unet(learn_sigma=True), DIFFUSION)
    refused = refusal(ValueError, lambda: dime_sample(DIFFUSION, network, X[:, :1], None, tau=3, noise=noise))
    assert refused.startswith("x has 1 channels")


@all_images(ODD_IMAGES)
def test_guidance_names_the_images_that_it_cannot_take(images, said):
    message = refusal(ValueError, guidance_for, images)
    assert message.startswith("x ") and said in message


@pytest.mark.parametrize("channels, taken", [(1, 3), (3, 1)], ids=["grey", "rgb"])
def test_guidance_names_the_images_on_which_a_classifier_fails(channels, taken):
    network = torch.nn.Sequential(torch.nn.Conv2d(taken, 2, 8), torch.nn.Flatten())
    guidance = guidance_for(X[:, :channels], classify=network)
    message = refusal(ValueError, guidance, X[:, :channels], X[:, :channels], 1.0)
    assert message.startswith(f"x has shape (2, {channels}, 8, 8), on which the classifier fails: ")


def test_a_lack_of_memory_is_not_blamed_on_the_images():
    def classify(images):
        raise torch.OutOfMemoryError("no memory is left")

    with pytest.raises(torch.OutOfMemoryError):
        guidance_for(classify=classify)(X, X, 1.0)


@all_images(ODD_IMAGES | GREY)
def test_explaining_names_the_images_that_it_cannot_take(images, said):
    message = refusal(ValueError, lambda: explain(images, classifier, DIFFUSION, UNET, tau=3))
    assert message.startswith("images ") and said in message


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
    counted = []

    class Counted(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            counted.append(function.__name__)
            return super().__torch_function__(function, types, args, kwargs or {})

    guidance = guidance_for(target=TARGET.as_subclass(Counted))
    for _ in range(4):
        guidance(X, X, 1.0)
    assert counted.count("aminmax") == 1


@pytest.mark.parametrize(
    "classify, said",
    [
        (lambda images: classifier(images)[:, None], "shape (2, 1) of 2 images"),
        (lambda images: classifier(images)[:1], "shape (1,) of 2 images"),
        (lambda images: classifier(images).sum(), "shape () of 2 images"),
        (lambda images: {"logits": classifier(images)}, "a dict of images"),
    ],
)
def test_a_classifier_that_makes_no_logits_is_told_so(classify, said):
    assert said in refusal(ValueError, lambda: explain(X, classify, DIFFUSION, UNET, tau=3))
    assert said in refusal(ValueError, lambda: guidance_for(classify=classify)(X, X, 1.0))


@pytest.mark.parametrize("scale", ["8", None, torch.ones(3), torch.ones(2, 1)], ids=str)
def test_a_classifier_scale_is_a_number_or_one_for_each_image(scale):
    assert refusal(ValueError, lambda: guidance_for(classifier_scale=scale)).startswith("classifier_scale ")


@pytest.mark.parametrize("tau", [2.0, "3", True, None, 0, -1, 10], ids=repr)
def test_a_depth_that_is_none_is_named(tau):
    refused = refusal(ValueError, lambda: dime_sample(DIFFUSION, UNET, X, None, tau=tau, noise=noise))
    assert refused.startswith(("tau ", "--start_step "))


def test_as_many_ids_as_images():
    assert "ids are 3" in refusal(ValueError, lambda: explain(X, classifier, DIFFUSION, UNET, tau=3, ids=[1, 2, 3]))
