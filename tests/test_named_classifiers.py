"""Classifiers by their names: of timm, torchvision and transformers, and of a function of the user's."""

import re
import sys

import pytest
import timm
import torch
import torchvision
import transformers
from assertions import refusal
from hub_folders import NAMES, cache, randomize, write_timm, write_transformers
from named_networks import IMAGES, PIXELS, SAVE, linear, named_linear
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms.functional import to_pil_image

from guided_diffusion.script.errors import UserError
from models.classifiers import classifier_checkpoint, load_classifier
from models.oracles import load_oracle


def require_gradient(classifier):
    images = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(classifier(images).square().sum(), images)
    assert gradient.isfinite().all() and all(each.abs().sum() > 0 for each in gradient)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in classifier.parameters())


def require_same(classifier, network, transform):
    """The classifier of images in [-1, 1] is the library's network behind the library's own transform."""
    with torch.no_grad():
        expected = network(torch.stack([transform(to_pil_image(each)) for each in PIXELS]))
        found = classifier(IMAGES)
    assert (found - expected).abs().max() < 0.05 * expected.std()


# -- what is loaded ----------------------------------------------------------------------------------------------


def test_a_folder_of_timm(folders):
    classifier = load_classifier(f"timm:local-dir:{folders / 'timm'}")
    network = timm.create_model(f"local-dir:{folders / 'timm'}", pretrained=True).eval()
    config = timm.data.resolve_data_config({}, model=network)
    require_same(classifier, network, timm.data.create_transform(**config, is_training=False))
    require_gradient(classifier)
    assert (classifier.task, classifier.image_size) == ("classes", None)
    assert classifier.attributes == ["0", "1", "2"]
    assert classifier.features(IMAGES).shape == (2, network.num_features)
    assert classifier.about == (
        f"timm:local-dir:{folders / 'timm'}: 3 classes (0, 1, 2), "
        "images resized to 168 (bilinear), the centre 160 kept, mean 0.5, std 0.5"
    )


@pytest.mark.parametrize("names", [NAMES, {2: "dog", 0: "ape", 1: "cat"}], ids=["list", "dict"])
def test_a_folder_of_timm_says_its_names_and_how_its_images_are_prepared(tmp_path, names):
    write_timm(tmp_path, names=names, mean=(0.1, 0.2, 0.3), crop_pct=1.0, input_size=(3, 64, 64))
    classifier = load_classifier(f"timm:local-dir:{tmp_path}")
    assert classifier.attributes == NAMES
    assert "images resized to 64 (bilinear), mean 0.1,0.2,0.3, std 0.5" in classifier.about


def test_a_pickle_in_a_folder_of_timm_is_read(tmp_path):
    network = write_timm(tmp_path, safe=False)
    assert not (tmp_path / "model.safetensors").exists()
    assert torch.equal(load_classifier(f"timm:local-dir:{tmp_path}").network.fc.weight, network.fc.weight)


def test_a_name_of_timm_in_the_cache_of_the_hub(tmp_path, monkeypatch):
    network = randomize(timm.create_model("test_vit"))
    (tmp_path / "folder").mkdir()
    save_file(network.state_dict(), tmp_path / "folder/model.safetensors")
    cache(network.pretrained_cfg["hf_hub_id"], tmp_path / "folder", tmp_path / "cache", monkeypatch)
    classifier = load_classifier("timm:test_vit")
    assert torch.equal(classifier.network.head.weight, network.head.weight)
    assert len(classifier.attributes) == 1000 and classifier.attributes[0] == "tench, Tinca tinca"
    smaller = load_classifier("timm:test_vit", changes={"size": 64})  # timm interpolates the positions
    assert smaller.network.pos_embed.shape[1] == 1 + (64 // 16) ** 2


@pytest.mark.parametrize("kind", SAVE)
def test_weights_of_timms_network_may_have_any_number_of_classes(tmp_path, kind):
    network = randomize(timm.create_model("test_vit", num_classes=7))
    path = tmp_path / f"vit.{kind}"
    SAVE[kind](network.state_dict(), path)
    classifier = load_classifier("timm:test_vit", None, path)
    assert classifier.attributes == list("0123456")
    assert torch.equal(classifier.network.head.weight, network.head.weight)
    require_gradient(classifier)


@pytest.mark.parametrize("kind", SAVE)
def test_weights_of_torchvisions_network_may_have_any_number_of_classes(folders, kind):
    classifier = load_classifier("torchvision:resnet18", None, folders / f"resnet18.{kind}")
    network = torchvision.models.resnet18(num_classes=4).eval()
    network.load_state_dict(torch.load(folders / "resnet18.pt"))
    require_same(classifier, network, torchvision.models.ResNet18_Weights.DEFAULT.transforms())
    require_gradient(classifier)
    assert (classifier.task, classifier.attributes) == ("classes", list("0123"))
    assert "images resized to 256 (bilinear), the centre 224 kept, mean 0.485,0.456,0.406" in classifier.about


def test_what_a_training_put_beside_the_weights_is_passed_over(folders, tmp_path):
    state = torch.load(folders / "resnet18.pt")
    torch.save({"state_dict": {f"module.{name}": state[name] for name in state}, "epoch": 3}, tmp_path / "last.pt")
    classifier = load_classifier("torchvision:resnet18", None, tmp_path / "last.pt")
    assert torch.equal(classifier.network.fc.weight, state["fc.weight"])


def test_a_name_of_torchvision_in_its_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    network = randomize(torchvision.models.squeezenet1_1())
    for weights in torchvision.models.SqueezeNet1_1_Weights:
        torch.save(network.state_dict(), tmp_path / "hub/checkpoints" / weights.url.rpartition("/")[2])
    for name in ("torchvision:squeezenet1_1", "torchvision:squeezenet1_1.IMAGENET1K_V1"):
        classifier = load_classifier(name)
        assert torch.equal(classifier.network.classifier[1].weight, network.classifier[1].weight)
        assert len(classifier.attributes) == 1000 and classifier.attributes[:2] == ["tench", "goldfish"]


def test_the_names_of_published_densenets_are_todays(tmp_path):
    """They are of before PyTorch had batch norms that count, and have a dot more."""
    state = randomize(torchvision.models.densenet121(num_classes=2)).state_dict()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", name): tensor
        for name, tensor in state.items()
        if "num_batches" not in name
    }
    torch.save(old, tmp_path / "old.pth")
    classifier = load_classifier("torchvision:densenet121", None, tmp_path / "old.pth", {"size": 64})
    found = classifier.network.state_dict()
    assert all(torch.equal(found[name], state[name]) for name in state) and old.keys() != state.keys()


def test_the_auxiliary_heads_of_published_networks_are_left_out(tmp_path):
    whole = randomize(torchvision.models.googlenet(num_classes=2, aux_logits=True, init_weights=False))
    torch.save(whole.state_dict(), tmp_path / "google.pth")
    classifier = load_classifier("torchvision:googlenet", None, tmp_path / "google.pth", {"size": 64})
    assert classifier.network.transform_input and torch.equal(classifier.network.fc.weight, whole.fc.weight)


def test_a_folder_of_transformers(folders):
    classifier = load_classifier(f"transformers:{folders / 'vit'}")
    network = transformers.AutoModelForImageClassification.from_pretrained(folders / "vit").eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folders / "vit")
    require_same(
        classifier,
        lambda images: network(images).logits,
        lambda image: processor(image, return_tensors="pt")["pixel_values"][0],
    )
    require_gradient(classifier)
    assert (classifier.task, classifier.attributes, classifier.image_size) == ("classes", NAMES, None)
    assert "3 classes (ape, cat, dog), images resized to 32 (bilinear), mean 0.5, std 0.5" in classifier.about


def test_a_name_of_transformers_in_the_cache_of_the_hub(folders, tmp_path, monkeypatch):
    cache("someone/animals", folders / "vit", tmp_path, monkeypatch)
    assert load_classifier("transformers:someone/animals").attributes == NAMES


@pytest.mark.parametrize("kind", ["folder with a pickle", "pt", "safetensors"])
def test_weights_of_a_network_of_transformers(folders, tmp_path, kind):
    network = write_transformers(tmp_path)
    network.classifier.bias.data += 1
    state = network.state_dict()
    if kind == "folder with a pickle":
        (tmp_path / "model.safetensors").unlink()
        torch.save(state, tmp_path / "pytorch_model.bin")
        classifier = load_classifier(f"transformers:{tmp_path}")
    else:
        path = tmp_path / f"weights.{kind}"
        SAVE[kind](state, path)
        classifier = load_classifier(f"transformers:{folders / 'vit'}", None, path)
    found = classifier.network.model.state_dict()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_labels_with_a_sigmoid_each_are_attributes_and_half_precision_is_read_as_single(tmp_path):
    network = write_transformers(tmp_path, problem_type="multi_label_classification")
    network.half().save_pretrained(tmp_path)
    classifier = load_oracle(f"transformers:{tmp_path}")
    assert (classifier.task, classifier.attributes) == ("attributes", NAMES)
    assert "3 attributes (ape, cat, dog)" in classifier.about
    assert classifier(IMAGES).dtype == torch.float32


def test_a_function_gets_the_images_as_they_are(module):
    name = module(linear(3))
    classifier = load_classifier(name, image_size=72)
    with torch.no_grad():
        assert torch.equal(classifier(IMAGES), classifier.network(IMAGES))
    require_gradient(classifier)
    assert (classifier.task, classifier.attributes, classifier.image_size) == ("classes", list("012"), 72)
    assert "images at their own size, mean 0.5, std 0.5" in classifier.about


def test_a_function_may_name_its_answers_and_say_what_they_are(module):
    cases = {
        "network.class_names = ['a', 'b', 'c']": "classes",
        "network.attributes = ['a', 'b', 'c']": "attributes",
        "network.attributes, network.task = ['a', 'b', 'c'], 'classes'": "classes",
        "network.class_names, network.task = 'abc', 'attributes'": "attributes",
    }
    for line, task in cases.items():
        sys.modules.pop("own_networks", None)
        classifier = load_classifier(module([named_linear(3), line, "return network"]), image_size=72)
        assert (classifier.task, classifier.attributes) == (task, ["a", "b", "c"])


def test_a_function_gets_weights_and_images_as_asked(module, tmp_path):
    state = nn.Sequential(nn.Flatten(), nn.Linear(3 * 72 * 72, 2)).state_dict()
    torch.save(state, tmp_path / "weights.pt")
    asked = {"size": 72, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    classifier = load_classifier(module(linear(2)), None, tmp_path / "weights.pt", asked, 32)
    assert torch.equal(classifier.network[1].weight, state["1.weight"]) and classifier.image_size is None
    torch.testing.assert_close(classifier(IMAGES), classifier.network((IMAGES + 1) / 2))
    assert classifier(IMAGES[..., :32, :32]).shape == (2, 2)


def test_a_single_logit_is_a_yes_or_no_question(module, tmp_path):
    """Of one class a softmax would always say 1; the sign of the one logit is the answer."""
    classifier = load_classifier(module(linear(1)), image_size=72)
    assert (classifier.task, classifier.attributes) == ("attributes", ["0"])
    assert "1 attribute (0)" in classifier.about
    torch.save(timm.create_model("test_vit", num_classes=1).state_dict(), tmp_path / "vit.pt")
    assert load_classifier("timm:test_vit", None, tmp_path / "vit.pt").task == "attributes"


def test_what_is_asked_replaces_what_the_library_says(folders):
    asked = {"size": 64, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "interpolation": "bicubic"}
    for name in (f"timm:local-dir:{folders / 'timm'}", "torchvision:resnet18"):
        weights = None if name.startswith("timm") else folders / "resnet18.pt"
        classifier = load_classifier(name, None, weights, asked)
        assert classifier.about.endswith("images resized to 64 (bicubic), mean 0.1,0.2,0.3, std 0.4,0.5,0.6")
        assert classifier.preprocess(IMAGES).shape == (2, 3, 64, 64)


def test_a_plain_file_is_prepared_as_asked_too(tmp_path):
    network = randomize(torchvision.models.resnet18(num_classes=3))
    torch.save(classifier_checkpoint(network, "resnet18", NAMES, 32), tmp_path / "c.pt")
    plain, asked = load_classifier(tmp_path / "c.pt"), load_oracle(tmp_path / "c.pt", None, None, {"size": 32})
    assert (plain.about, plain.image_size, plain.preprocess, plain.task) == ("", 32, None, "attributes")
    assert asked.image_size is None and "images resized to 32 (bilinear)" in asked.about
    torch.testing.assert_close(asked(IMAGES[..., :32, :32]), plain(IMAGES[..., :32, :32]))


def test_a_file_says_its_task(tmp_path):
    network = randomize(torchvision.models.resnet18(num_classes=3))
    contents = classifier_checkpoint(network, "resnet18", NAMES, 32, "classes")
    torch.save(contents, tmp_path / "c.pt")
    assert load_classifier(tmp_path / "c.pt").task == "classes"
    torch.save(contents | {"task": "numbers"}, tmp_path / "c.pt")
    assert "its task is 'numbers'" in refusal(UserError, load_classifier, tmp_path / "c.pt")
    one = classifier_checkpoint(torchvision.models.resnet18(num_classes=1), "resnet18", ["a"], 32, "classes")
    torch.save(one, tmp_path / "c.pt")
    assert "tells classes, but has one output" in refusal(UserError, load_classifier, tmp_path / "c.pt")
