import math

import pytest
import torch
import torchvision
from assertions import refusal
from published_weights import published, to_half
from reference_weights import deterministic_array
from torch import nn

from guided_diffusion.script.errors import UserError
from models.classifiers import build_classifier, classifier_checkpoint
from models.oracles import load_oracle

IMAGES = deterministic_array("oracle.images", (4, 3, 128, 128), 0.4).clamp(-1, 1)


def saved(path, contents):
    torch.save(contents, path)
    return path


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "oracle.pth"
    return load_oracle(saved(path, published("oracle_resnet50_128")))


def caffe_resnet50(state):
    """torchvision's ResNet-50 turned into the Caffe one: other strides, other pooling, 128 features."""
    network = torchvision.models.resnet50()
    network.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    network.fc = nn.Linear(2048, 128, bias=False)
    for layer in (network.layer2, network.layer3, network.layer4):
        layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    parts = {"1": "1x1_reduce", "2": "3x3", "3": "1x1_increase"}
    renamed = {"fc.weight": state["feat_extract.weight"].flatten(1)}
    for name in network.state_dict():
        words = name.split(".")
        if words[0] in ("conv1", "bn1"):
            renamed[name] = state[f"conv1_7x7_s2{'_bn' * (words[0] == 'bn1')}.{words[1]}"]
        elif words[0].startswith("layer"):
            block = f"conv{int(words[0][-1]) + 1}_{int(words[1]) + 1}"
            if words[2] == "downsample":
                layer = f"1x1_proj{'_bn' * (words[3] == '1')}"
            else:
                layer = f"{parts[words[2][-1]]}{'_bn' * words[2].startswith('bn')}"
            renamed[name] = state[f"{block}_{layer}.{words[-1]}"]
    network.load_state_dict(renamed)
    return network.eval()


def test_features_are_those_of_a_caffe_resnet50(oracle):
    reference = caffe_resnet50(published("oracle_resnet50_128")["feat_extract"])
    inputs = deterministic_array("oracle.inputs", (2, 3, 224, 224), 0.4)
    with torch.no_grad():
        features = oracle.network.feat_extract(inputs)
        torch.testing.assert_close(features, reference(inputs), rtol=1e-4, atol=1e-4)


def network_input(oracle, images):
    """What the first layer of the oracle gets."""
    seen = []
    trunk = oracle.network.feat_extract
    hook = trunk.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    oracle(images)
    hook.remove()
    return seen[0]


def test_input_is_bgr_in_unit_range_minus_its_means(oracle):
    images = deterministic_array("oracle.full", (1, 3, 224, 224), 0.4).clamp(-1, 1)
    red, green, blue = ((images + 1) / 2)[0]
    expected = torch.stack([blue - 131.0912 / 255, green - 103.8827 / 255, red - 91.4953 / 255])
    torch.testing.assert_close(network_input(oracle, images)[0], expected)


def cubic_convolution(size, new_size, a=-0.75):
    """The matrix (new_size, size) that resamples a line of pixels (Keys, 1981), borders repeated."""
    matrix = torch.zeros(new_size, size)
    for row in range(new_size):
        centre = (row + 0.5) * size / new_size - 0.5
        for pixel in range(math.floor(centre) - 1, math.floor(centre) + 3):
            d = abs(centre - pixel)
            near = (a + 2) * d**3 - (a + 3) * d**2 + 1
            far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
            matrix[row, min(max(pixel, 0), size - 1)] += near if d <= 1 else far
    return matrix


def test_input_is_scaled_to_224_bicubically(oracle):
    red = (IMAGES[0, 0] + 1) / 2 - 91.4953 / 255
    matrix = cubic_convolution(128, 224)
    scaled = network_input(oracle, IMAGES)[0, 2]
    torch.testing.assert_close(scaled, matrix @ red @ matrix.T, rtol=0, atol=1e-4)


def test_logits_are_linear_in_the_features(oracle):
    contents, features = published("oracle_resnet50_128"), oracle.features(IMAGES)
    logits = features @ contents["classifier"]["weight"].T + contents["classifier"]["bias"]
    assert features.shape == (4, 128)
    torch.testing.assert_close(oracle(IMAGES), logits, rtol=1e-4, atol=1e-4)


def test_logits_do_not_depend_on_the_batch(oracle):
    alone = torch.cat([oracle(image[None]) for image in IMAGES])
    torch.testing.assert_close(oracle(IMAGES), alone, rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_images_and_no_parameter(oracle):
    images = IMAGES[:1].clone().requires_grad_()
    oracle(images).sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in oracle.parameters())


def test_a_half_precision_file_computes_the_same(oracle, tmp_path):
    half = load_oracle(saved(tmp_path / "half.pth", to_half(published("oracle_resnet50_128"))))
    logits = oracle(IMAGES)
    assert (half(IMAGES) - logits).abs().max() < 0.01 * logits.std()


def test_any_classifier_can_be_an_oracle(tmp_path):
    network = build_classifier("resnet18", 2)
    path = saved(tmp_path / "o.pt", classifier_checkpoint(network, "resnet18", ["Smiling", "Young"], 64))
    oracle = load_oracle(path)
    assert oracle.attributes == ["Smiling", "Young"]
    assert torch.equal(oracle(IMAGES), network.eval()(IMAGES))
    assert "not a densenet121" in refusal(UserError, load_oracle, path, "densenet121")


def test_an_oracle_of_other_outputs_than_celebas_must_name_them(tmp_path):
    contents = published("oracle_resnet50_128")
    contents["classifier"] = {name: tensor[:5] for name, tensor in contents["classifier"].items()}
    path = saved(tmp_path / "five.pth", contents)
    assert f"{path} names none for 5 outputs" in refusal(UserError, load_oracle, path)


def test_what_is_no_oracle_is_refused(tmp_path):
    contents = published("oracle_resnet50_128")
    del contents["feat_extract"]["conv3_1_3x3.weight"]
    path = saved(tmp_path / "o.pt", contents)
    assert "1 missing (conv3_1_3x3.weight)" in refusal(UserError, load_oracle, path)
    path = saved(tmp_path / "u.pt", {"input_blocks.0.0.weight": torch.ones(1)})
    assert f"{path} is a diffusion UNet" in refusal(UserError, load_oracle, path)
