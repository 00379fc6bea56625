import math

import pytest
import torch
import torch.nn.functional as F
from assertions import refusal
from published_weights import published, saved, to_half
from reference_weights import deterministic_array

from guided_diffusion.script.errors import UserError
from models.classifiers import build_classifier, classifier_checkpoint, load_classifier
from models.oracles import load_oracle

IMAGES = deterministic_array("oracle.images", (4, 3, 128, 128), 0.4).clamp(-1, 1)


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "oracle.pth"
    return load_oracle(saved(path, published("oracle_resnet50_128")))


PUBLISHED = {"classifier_densenet121": load_classifier, "oracle_resnet50_128": load_oracle}


@pytest.fixture(scope="module", params=PUBLISHED)
def network(request, tmp_path_factory):
    """(a published network, the name of its file)."""
    path = tmp_path_factory.mktemp("models") / "published.pth"
    return PUBLISHED[request.param](saved(path, published(request.param))), request.param


def caffe_resnet50(images, state):
    """ResNet-50 in Caffe's layout, written out: (N, 3, 224, 224) -> (N, 2048). state: by Caffe's names."""

    def conv(name, x, **options):
        x = F.conv2d(x, state[f"{name}.weight"], **options)
        norm = (state[f"{name}_bn.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *norm)

    x = conv("conv1_7x7_s2", images, stride=2, padding=3).relu()
    x = F.max_pool2d(x, 3, stride=2, ceil_mode=True)
    for stage, depth in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for block in range(1, depth + 1):
            name, stride = f"conv{stage}_{block}", 2 if block == 1 and stage > 2 else 1
            y = conv(f"{name}_1x1_reduce", x, stride=stride).relu()
            y = conv(f"{name}_1x1_increase", conv(f"{name}_3x3", y, padding=1).relu())
            x = (y + (conv(f"{name}_1x1_proj", x, stride=stride) if block == 1 else x)).relu()
    return x.mean((2, 3))


def test_features_are_those_of_a_caffe_resnet50(oracle):
    state = published("oracle_resnet50_128")["feat_extract"]
    inputs = deterministic_array("oracle.inputs", (2, 3, 224, 224), 0.4)
    expected = caffe_resnet50(inputs, state) @ state["feat_extract.weight"].flatten(1).T
    torch.testing.assert_close(oracle.network.feat_extract(inputs), expected, rtol=1e-4, atol=1e-4)


def network_input(oracle, images):
    """What the first layer of the oracle gets."""
    read = []
    trunk = oracle.network.feat_extract
    hook = trunk.register_forward_pre_hook(lambda module, inputs: read.extend(inputs))
    oracle(images)
    hook.remove()
    return read[0]


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


def test_logits_do_not_depend_on_the_batch(network):
    network, _ = network
    alone = torch.cat([network(image[None]) for image in IMAGES])
    torch.testing.assert_close(network(IMAGES), alone, rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_images_and_no_parameter(network):
    network, _ = network
    images = IMAGES[:1].clone().requires_grad_()
    network(images).sum().backward()
    assert images.grad.isfinite().all() and images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module.training for module in network.modules())


def test_a_half_precision_file_computes_the_same(network, tmp_path):
    network, name = network
    half = PUBLISHED[name](saved(tmp_path / "half.pth", to_half(published(name))))
    logits = network(IMAGES)
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
    assert "1 missing (layer2.0.conv2.weight)" in refusal(UserError, load_oracle, path)
    path = saved(tmp_path / "u.pt", {"input_blocks.0.0.weight": torch.ones(1)})
    assert f"{path} is a diffusion UNet" in refusal(UserError, load_oracle, path)
