"""Classifiers by their names: what is refused, in one line that says what to do, and without running code."""

import json
import shutil
import sys

import pytest
import torch
import torchvision
from assertions import refusal
from hub_folders import NAMES, write_processor, write_transformers
from named_networks import IMAGES, linear, named_linear
from safetensors.torch import load_file, save_file
from test_checkpoints import Payload
from torch import nn

from guided_diffusion.script.errors import UserError
from models.classifiers import classifier_checkpoint, load_classifier
from models.oracles import load_oracle


@pytest.mark.parametrize(
    "name, words",
    [
        ("timm:resnet19", ["Unknown model (resnet19)", "timm.list_models()"]),
        ("timm:test_resnet.r999", ["Invalid pretrained tag (r999) for test_resnet"]),
        ("timm:", ["--classifier_path timm: names no network"]),
        ("timm:timm/resnet18", ["hf-hub:REPOSITORY"]),
        ("timm:hf-hub:timm/no_such", ["cannot be had", "timm:local-dir:FOLDER"]),
        ("timm:local-dir:nowhere", ["cannot be had", "nowhere"]),
        ("timm:test_resnet", ["timm/test_resnet.r160_in1k", "--classifier_weights"]),
        ("timm:vit_small_patch14_dinov2", ["makes features, not classes"]),
        ("torchvision:resnet19", ["no classification network of torchvision", "resnet18"]),
        ("torchvision:resnet50.IMAGENET", ["no weights", "resnet50.IMAGENET1K_V2"]),
        ("torchvision:fasterrcnn_resnet50_fpn", ["no classification network"]),
        ("transformers:google/vit-base-patch16-224", ["no folder", "the Hub cannot be asked", "save_pretrained"]),
        ("transformers:", ["names no network; write transformers:NAME"]),
        ("no_such_module:build", ["no_such_module:build cannot be imported"]),
        ("math:sqrt", ["fails when called without arguments"]),
        ("os:getcwd", ["builds a str, not a torch.nn.Module"]),
        ("nowhere:no/function", ["does not exist"]),
    ],
)
def test_a_name_that_is_not_there_is_one_line(name, words, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    message = refusal(UserError, load_classifier, name)
    assert all(word in message for word in words), message


def test_a_torchvision_network_without_weights_or_connection_says_where_they_would_lie(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    message = refusal(UserError, load_oracle, "torchvision:resnet18")
    assert str(tmp_path) in message and "no route" in message and message.endswith("or give --oracle_weights")


@pytest.mark.parametrize("package, name", [("timm", "timm:resnet18"), ("transformers", "transformers:vit")])
def test_a_missing_package_says_what_to_install(monkeypatch, package, name):
    monkeypatch.setitem(sys.modules, package, None)
    message = refusal(UserError, load_classifier, name)
    assert name in message and message.endswith("pip install -r requirements-hub.txt")


@pytest.mark.parametrize(
    "name", ["timm:test_vit", "timm:test_resnet", "torchvision:resnet34", "transformers:vit", "code"]
)
def test_weights_that_do_not_fit_are_refused(folders, module, monkeypatch, name):
    monkeypatch.chdir(folders)
    name = module(linear(4)) if name == "code" else name
    for weights in ("resnet18.pt", "resnet18.safetensors"):
        message = refusal(UserError, load_classifier, name, None, weights, None, 72)
        assert message.startswith(f"{weights} does not fit") and name in message and "missing" in message


@pytest.mark.parametrize("contents", [[1], {"a": 1}, {}, {"state_dict": {"a": "b"}}], ids=str)
def test_weights_that_are_no_state_dict_are_refused(folders, module, tmp_path, contents):
    torch.save(contents, tmp_path / "w.pt")
    for name in ("timm:test_vit", "torchvision:resnet18", f"transformers:{folders / 'vit'}", module(linear(4))):
        message = refusal(UserError, load_classifier, name, None, tmp_path / "w.pt")
        assert "not the weights of" in message


def test_weights_of_another_number_of_classes_than_a_config_says_are_refused(folders, tmp_path):
    torch.save(write_transformers(tmp_path, id2label={0: "a", 1: "b"}).state_dict(), tmp_path / "w.pt")
    message = refusal(UserError, load_classifier, f"transformers:{folders / 'vit'}", None, tmp_path / "w.pt")
    assert "2 of another shape (classifier.bias, classifier.weight)" in message


def test_damaged_safetensors_are_refused(folders, tmp_path):
    for kind in ("timm", "vit"):
        shutil.copytree(folders / kind, tmp_path / kind)
        content = (tmp_path / kind / "model.safetensors").read_bytes()
        (tmp_path / kind / "model.safetensors").write_bytes(content[: len(content) // 2])
    for name in (f"timm:local-dir:{tmp_path / 'timm'}", f"transformers:{tmp_path / 'vit'}"):
        assert "download" in refusal(UserError, load_classifier, name)


def test_weights_and_architectures_are_given_where_they_belong(folders, tmp_path):
    network = torchvision.models.resnet18(num_classes=3)
    torch.save(classifier_checkpoint(network, "resnet18", NAMES, 32), tmp_path / "c.pt")
    for load, role in ((load_classifier, "classifier"), (load_oracle, "oracle")):
        message = refusal(UserError, load, tmp_path / "c.pt", None, "w.pt")
        assert message.startswith(f"--{role}_weights w.pt is for a network by name") and "c.pt is a file" in message
        message = refusal(UserError, load, "timm:test_vit", "toy:build")
        assert message.startswith(f"--{role}_architecture toy:build is for a file")


def returning(output):
    return ["class Own(nn.Module):", "    def forward(self, x):", f"        return {output}", "return Own()"]


@pytest.mark.parametrize(
    "body, words",
    [
        (linear(3, "nn.Softmax(1)"), "makes probabilities, which add up to 1, of images, not logits"),
        (
            returning("{'logits': x, 'loss': 0}"),
            "makes a dict of logits, loss of images, not logits; let it return the tensor alone",
        ),
        (returning("x, x"), "makes a tuple of images"),
        (linear(1, "nn.Flatten(0)"), "makes shape [4] of images"),
        (["return nn.Identity()"], "makes shape [4, 3, 72, 72] of images"),
        (returning("x.flatten(1)[:, :3] * torch.nan"), "makes NaN or infinite values"),
        ([named_linear(3), "network.class_names = ['a', 'b']", "return network"], "names 2 outputs, but makes 3"),
        (
            [named_linear(3), "network.task = 'numbers'", "return network"],
            "of task 'numbers'; it should be attributes or classes",
        ),
    ],
    ids=["softmax", "dict", "tuple", "flat", "images", "nan", "names", "task"],
)
def test_what_is_no_classifier_is_refused_by_name(module, body, words):
    name = module(body)
    message = refusal(UserError, load_classifier, name, None, None, None, 72)
    assert message.startswith("own_networks:build") and words in message


@pytest.mark.parametrize("outputs", [1, 3])
def test_outputs_of_a_sigmoid_are_remarked_on(module, outputs):
    classifier = load_classifier(module(linear(outputs, "nn.Sigmoid()")), image_size=72)
    assert classifier.about.endswith("if they are probabilities, leave out its last sigmoid")


def test_a_custom_network_of_a_file_that_makes_probabilities_is_refused(tmp_path, module):
    module(linear("num_outputs", "nn.Softmax(1)"), "make(num_outputs)")
    state = nn.Sequential(nn.Flatten(), nn.Linear(3 * 72 * 72, 3)).state_dict()
    contents = {"architecture": "own_networks:make", "attributes": NAMES, "image_size": 72, "state_dict": state}
    torch.save(contents, tmp_path / "c.pt")
    message = refusal(UserError, load_classifier, tmp_path / "c.pt", "own_networks:make")
    assert "own_networks:make makes probabilities" in message


def test_sizes_that_do_not_fit_are_refused_with_the_flag(folders, module):
    vit = f"transformers:{folders / 'vit'}"
    message = refusal(UserError, load_classifier, vit, None, None, {"size": 40})
    assert "does not take images of 40 x 40" in message and "give --classifier_size" in message
    for name in ("timm:test_vit", "torchvision:vit_b_16"):
        message = refusal(UserError, load_oracle, name, None, folders / "resnet18.pt", {"size": 60})
        assert "--oracle_size" in message or "does not fit" in message
    message = refusal(UserError, load_classifier, module(linear(3)), None, None, None, 64)
    assert "own_networks:build does not take images of 64 x 64" in message and "--classifier_size" in message
    assert "give image_size" in refusal(UserError, load_classifier, module(linear(3)))


# -- code that a file or a folder names --------------------------------------------------------------------------


def test_a_pickle_in_a_folder_or_among_weights_runs_nothing(folders, tmp_path):
    trace = tmp_path / "trace"
    for kind in ("timm", "vit"):
        shutil.copytree(folders / kind, tmp_path / kind)
        (tmp_path / kind / "model.safetensors").unlink()
        torch.save({"weight": Payload(trace)}, tmp_path / kind / "pytorch_model.bin")
    payload = tmp_path / "timm/pytorch_model.bin"
    for name, weights in (
        (f"timm:local-dir:{tmp_path / 'timm'}", None),
        (f"transformers:{tmp_path / 'vit'}", None),
        ("timm:test_resnet", payload),
        ("torchvision:resnet18", payload),
        (f"transformers:{folders / 'vit'}", payload),
    ):
        message = refusal(UserError, load_classifier, name, None, weights)
        assert "opening it could run code" in message and "mkdir" in message
    assert not trace.exists()


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_code_in_a_folder_of_transformers_is_never_run(folders, tmp_path, file):
    shutil.copytree(folders / "vit", tmp_path / "own")
    (tmp_path / "own/own.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\n")
    about = json.loads((tmp_path / "own" / file).read_text())
    about.pop("image_processor_type", None)
    kinds = ("AutoConfig", "AutoModelForImageClassification", "AutoImageProcessor")
    about |= {"model_type": "own", "auto_map": dict.fromkeys(kinds, "own.Own")}
    (tmp_path / "own" / file).write_text(json.dumps(about))
    message = refusal(UserError, load_classifier, f"transformers:{tmp_path / 'own'}")
    assert "code of its own, which is never run" in message
    assert not (tmp_path / "trace").exists()


def test_code_that_a_file_names_is_not_imported(module):
    name = module(linear(3))
    message = refusal(UserError, load_classifier, name, None, None, None, 72, False)
    assert message.endswith(f"run only where you name it: give --classifier_path {name}")
    assert not module.trace.exists()
    load_classifier(name, image_size=72)
    assert module.trace.exists()


# -- folders that are not whole ----------------------------------------------------------------------------------


def test_a_folder_without_an_image_processor_is_refused_unless_everything_is_said(tmp_path):
    write_transformers(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    message = refusal(UserError, load_classifier, f"transformers:{tmp_path}")
    assert "has no image processor" in message
    assert "give --classifier_size, --classifier_mean and --classifier_std" in message
    asked = {"size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    assert load_classifier(f"transformers:{tmp_path}", None, None, asked)(IMAGES).shape == (2, 3)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model_type": "bert"}, "is a bert, of which no image classifier can be built"),
        ({"model_type": "nonsense"}, "has no config.json of an image classifier"),
        ({"problem_type": "regression"}, "was trained to predict a number"),
        ({"id2label": {"0": "a"}}, "was trained to predict a number"),
        ({"hidden_act": "nonsense"}, "no image classifier can be built"),
    ],
    ids=str,
)
def test_a_folder_of_another_model_is_refused(folders, tmp_path, change, words):
    shutil.copytree(folders / "vit", tmp_path, dirs_exist_ok=True)
    about = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(about))
    assert words in refusal(UserError, load_classifier, f"transformers:{tmp_path}")


def test_a_folder_without_weights_or_without_those_of_the_head_is_refused(folders, tmp_path):
    shutil.copytree(folders / "vit", tmp_path, dirs_exist_ok=True)
    state = load_file(tmp_path / "model.safetensors")
    trunk = {key: tensor for key, tensor in state.items() if not key.startswith("classifier")}
    save_file(trunk, tmp_path / "model.safetensors", {"format": "pt"})
    message = refusal(UserError, load_classifier, f"transformers:{tmp_path}")
    assert "2 missing (classifier.bias, classifier.weight)" in message
    (tmp_path / "model.safetensors").unlink()
    message = refusal(UserError, load_classifier, f"transformers:{tmp_path}")
    assert "has no weights that can be had" in message and "--classifier_weights" in message


def test_a_processor_with_a_step_of_its_own_is_refused(tmp_path):
    write_transformers(tmp_path)
    write_processor(tmp_path, {"image_processor_type": "EfficientNetImageProcessor"})
    assert "in a way that is not known here" in refusal(UserError, load_classifier, f"transformers:{tmp_path}")
