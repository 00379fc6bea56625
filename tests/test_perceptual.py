from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
from assertions import refusal
from published_weights import to_half
from reference_weights import deterministic_array, deterministic_tensor
from torchvision.models import vgg

from guided_diffusion.script.errors import UserError
from models.perceptual import vgg19_features

IMAGES = deterministic_array("perceptual.images", (2, 3, 48, 48), 0.8)  # some beyond [-1, 1]
STATE = {
    name: deterministic_tensor(name, tensor)
    for name, tensor in vgg.make_layers(vgg.cfgs["E"]).state_dict(prefix="features.").items()
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "vgg19.pth"
    torch.save(STATE, path)
    return path


def vgg19(images, layer):
    """VGG-19 written out: 2, 2, 4, 4 and 4 convolutions with their ReLUs, and a pooling after each group."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (((images.clamp(-1, 1) + 1) / 2).movedim(1, -1) - mean) / std
    x, index = x.movedim(-1, 1), 0
    for convolutions in (2, 2, 4, 4, 4):
        for step in ["conv", "relu"] * convolutions + ["pool"]:
            if index == layer:
                return x
            if step == "conv":
                name = f"features.{index}"
                x = F.conv2d(x, STATE[f"{name}.weight"], STATE[f"{name}.bias"], padding=1)
            else:
                x = x.relu() if step == "relu" else F.max_pool2d(x, 2)
            index += 1
    return x


@pytest.mark.parametrize("layer", [1, 2, 5, 18, 37])
def test_features_are_vgg19s(path, layer):
    features = vgg19_features(layer, path)
    torch.testing.assert_close(features(IMAGES), vgg19(IMAGES, layer), rtol=1e-4, atol=1e-5)
    assert not any(module.training for module in features.modules())


def test_gradients_reach_the_images_and_no_parameter(path):
    features = vgg19_features(18, path)
    images, other = IMAGES.clone().requires_grad_(), IMAGES.clone().requires_grad_()
    features(images).square().mean().backward()
    vgg19(other, 18).square().mean().backward()
    torch.testing.assert_close(images.grad, other.grad, rtol=1e-3, atol=1e-7)
    assert (images.grad[IMAGES.abs() > 1] == 0).all() and (images.grad != 0).any()
    clipped = IMAGES.clamp(-1, 1).requires_grad_()
    features(clipped).square().mean().backward()
    assert torch.equal(clipped.grad, images.grad)  # a pixel at the end of the range is at its end, not within it
    assert all(parameter.grad is None for parameter in features.parameters())


def test_a_whole_vgg19_and_a_half_precision_file_serve(path, tmp_path):
    expected = vgg19_features(18, path)(IMAGES)
    torch.save({**to_half(STATE), "classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "whole.pth")
    half = vgg19_features(18, tmp_path / "whole.pth")(IMAGES)
    assert (half - expected).abs().max() < 0.01 * expected.std()


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Where torch.hub keeps its copy."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints" / "vgg19-dcbb9e9d.pth"


def test_without_a_path_torch_hubs_copy_serves(path, copy):
    copy.parent.mkdir(parents=True)
    copy.symlink_to(path)
    torch.testing.assert_close(vgg19_features(5)(IMAGES), vgg19(IMAGES, 5), rtol=1e-4, atol=1e-5)


def test_without_a_copy_it_is_downloaded_to_torch_hub_and_checked(copy, monkeypatch):
    def download(url, destination, hash_prefix):
        assert url == "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth" and hash_prefix == "dcbb9e9d"
        assert destination == str(copy)
        torch.save(STATE, destination)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert vgg19_features(1)(IMAGES).shape == (2, 64, 48, 48)


@pytest.mark.parametrize("error", [URLError("no network"), RuntimeError("invalid hash value")], ids=repr)
def test_a_failed_download_names_the_flag_and_the_place(copy, monkeypatch, error):
    def download(*arguments, **options):
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    message = refusal(UserError, vgg19_features, 18)
    assert "--perceptual_path" in message and str(copy) in message


@pytest.mark.parametrize("layer", [-1, 0, 38])
def test_a_layer_out_of_range_names_the_flag(path, layer):
    message = refusal(UserError, vgg19_features, layer, path)
    assert message.startswith(f"--l_perc_layer is {layer}; give 1 to 37")


@pytest.mark.parametrize("layer, smallest", [(4, 1), (5, 2), (18, 4), (19, 8), (37, 32)])
def test_a_layer_too_deep_for_the_images_names_the_flag(path, layer, smallest):
    assert vgg19_features(layer, path, smallest)(torch.zeros(1, 3, smallest, smallest)).numel() > 0
    message = refusal(UserError, vgg19_features, layer, path, smallest - 1)
    assert f"--l_perc_layer {layer}" in message and f"--image_size {smallest - 1}" in message


def test_other_weights_are_refused(tmp_path):
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.ones(1)}, other)
    message = refusal(UserError, vgg19_features, 5, other)
    assert message.startswith(f"{other} is a state dict of weight, not a VGG19")
    vgg16 = vgg.make_layers(vgg.cfgs["D"]).state_dict(prefix="features.")
    torch.save(vgg16, other)  # the same tensors as far as layer 5
    assert "does not fit this VGG19" in refusal(UserError, vgg19_features, 5, other)
