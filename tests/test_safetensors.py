"""Safetensors files, which are taken and written wherever files of torch.save are."""

import json
import pickle
import struct
import sys

import pytest
import torch
from assertions import assert_identical, refusal
from published_weights import published
from safetensors.torch import save_file
from scripts import call_script, error_of
from test_checkpoints import TINY, linear
from torchvision.models import vgg
from toy_training import names, train

from demo.card import pack
from guided_diffusion.script.errors import UserError
from guided_diffusion.script_util import create_model
from guided_diffusion.training.weight_files import (
    SAVE_FORMATS,
    find_weights,
    load_weights,
    save_aside,
    save_weights,
)
from models.checkpoints import attach_flags, flags_of, load_diffusion, read_weights
from models.classifiers import build_classifier, classifier_checkpoint, load_classifier
from models.oracles import load_oracle
from models.perceptual import vgg_layers
from models.vggface2 import load_vggface2


def saved(path, content):
    save_aside(content, path)
    return path


def header_of(path):
    data = path.read_bytes()
    return json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])


# -- reading ---------------------------------------------------------------------------------------------------


def test_a_file_of_the_library_is_read_whatever_its_name(tmp_path):
    state = linear().state_dict()
    for name in ("w.safetensors", "w.pt"):
        save_file(state, tmp_path / name, {"format": "pt", "note": "not JSON", "step": "7"})
        assert_identical(read_weights(tmp_path / name), state)
    save_file(state, tmp_path / "bare.safetensors")
    assert_identical(read_weights(tmp_path / "bare.safetensors"), state)


def test_a_truncated_file_is_refused(tmp_path):
    path = saved(tmp_path / "w.safetensors", linear().state_dict())
    content = path.read_bytes()
    for share in (0.2, 0.5, 0.9, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        assert refusal(UserError, read_weights, path).startswith(f"{path} is cut short, damaged or no weight file")


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**31) + b"{}",  # a header longer than the file
        struct.pack("<Q", 4) + b"{no}",
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}     ' + bytes(4),
    ],
    ids=["long", "no JSON", "short data"],
)
def test_a_header_that_lies_is_refused(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    assert str(path) in refusal(UserError, read_weights, path)


def test_a_pickle_by_the_name_of_safetensors_does_not_run(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(pickle.dumps({"weight": 1.0}))
    assert "bare pickle" in refusal(UserError, read_weights, path)


def test_without_the_library_a_line_says_what_to_install(tmp_path, monkeypatch):
    path = saved(tmp_path / "w.safetensors", linear().state_dict())
    for name in ("safetensors", "safetensors.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    remedy = "which is not installed: pip install -r requirements-hub.txt"
    assert refusal(UserError, read_weights, path) == f"{path} needs safetensors, {remedy}"
    assert remedy in refusal(UserError, save_aside, {}, path)
    # A training stops before it has written anything.
    flags = {"data_dir": tmp_path, "output_path": tmp_path / "out", "save_format": "safetensors"}
    line = error_of(call_script("celeba-train-classifier.py", flags))
    assert "--save_format safetensors needs safetensors.torch, " + remedy in line
    assert not (tmp_path / "out").exists()


# -- what is taken ---------------------------------------------------------------------------------------------


def test_a_diffusion_model_keeps_its_flags_in_the_header(tmp_path):
    state = create_model(**TINY).state_dict()
    path = saved(tmp_path / "ddpm.safetensors", attach_flags(state, TINY))
    header = header_of(path)
    assert json.loads(header["__metadata__"]["flags"]) == TINY and header["__metadata__"]["format"] == "pt"
    assert header.keys() - {"__metadata__"} == state.keys()
    assert flags_of(read_weights(path)) == TINY
    loaded = load_diffusion(create_model(**TINY), path, TINY)
    assert_identical(dict(loaded.state_dict()), dict(state))
    flags = TINY | {"num_heads": 4}
    assert "give --num_heads 1" in refusal(UserError, load_diffusion, create_model(**flags), path, flags)
    shipped = read_weights(saved(tmp_path / "packed.safetensors", pack(attach_flags(state, TINY))))
    assert flags_of(shipped) == TINY and {tensor.dtype for tensor in shipped.values()} == {torch.float16}


@pytest.mark.parametrize("architecture", ["small_cnn", "densenet121"])
def test_a_classifier_comes_back_as_it_was(tmp_path, architecture):
    names = ["Smiling", 'Ünïcode, "quoted"']
    network = build_classifier(architecture, 2).eval()
    content = classifier_checkpoint(network, architecture, names, 64) | {"balanced_accuracy": 0.1 + 0.2}
    path = saved(tmp_path / "classifier.safetensors", content)
    assert_identical(read_weights(path), content)
    loaded, images = load_classifier(path), torch.rand(1, 3, 64, 64)
    assert (loaded.attributes, loaded.image_size, loaded.architecture) == (names, 64, architecture)
    assert torch.equal(loaded(images), network(images))


def test_a_densenet_by_torchvisions_names_is_taken_too(tmp_path):
    network = build_classifier("densenet121", 2).eval()
    about = {"architecture": "densenet121", "attributes": ["a", "b"], "image_size": 32}
    path = saved(tmp_path / "densenet.safetensors", about | {"state_dict": network.state_dict()})
    assert "features.conv0.weight" in header_of(path)
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(load_classifier(path)(images), network(images))


def test_the_published_networks_may_be_safetensors(tmp_path):
    oracle = saved(tmp_path / "oracle.safetensors", published("oracle_resnet50_128"))
    assert "classifier.weight" in header_of(oracle) and "feat_extract.conv1_7x7_s2.weight" in header_of(oracle)
    assert load_oracle(oracle).architecture == "oracle_resnet50_128"
    classifier = saved(tmp_path / "classifier.safetensors", published("classifier_densenet121"))
    assert load_classifier(classifier).architecture == "densenet121"
    faces = saved(tmp_path / "faces.safetensors", published("vggface2_resnet50_ft"))
    with torch.no_grad():
        assert load_vggface2(faces)(torch.zeros(1, 3, 224, 224)).shape == (1, 2048)
    layers = vgg.make_layers(vgg.cfgs["D"])
    state = {f"features.{name}": tensor for name, tensor in layers.state_dict().items()}
    loaded, _ = vgg_layers("VGG16", saved(tmp_path / "vgg.safetensors", state), "vgg_path")
    assert_identical(dict(loaded.state_dict()), dict(layers.state_dict()))


# -- writing ---------------------------------------------------------------------------------------------------


def test_tensors_in_any_layout_and_sharing_memory_are_written(tmp_path):
    weight = torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)
    content = {"a": weight, "b": weight, "part": weight[:, 1], "count": torch.tensor(3)}
    assert_identical(read_weights(saved(tmp_path / "w.safetensors", content)), content)


def test_a_name_has_one_file_whose_format_is_the_last_one_asked_for(tmp_path):
    for number, save_format in enumerate([*SAVE_FORMATS, "pt"]):
        save_weights({"a": torch.tensor(number)}, tmp_path, "last", save_format)
        assert names(tmp_path) == [f"last.{save_format}"]
        assert load_weights(find_weights(tmp_path, "last"))["a"] == number
    assert find_weights(tmp_path, "best") is None


# -- training --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_tensorboard")
def test_a_training_goes_on_from_either_format_in_either(tmp_path):
    train(tmp_path / "whole", 6, save_interval=3)
    for before, after in (SAVE_FORMATS, SAVE_FORMATS[::-1]):
        parts = tmp_path / after
        train(parts, 3, save_interval=3, save_format=before)
        train(parts, 6, save_interval=3, save_format=after)
        for name in ("model", "ema_0.5_"):
            assert find_weights(parts, f"{name}000003").endswith(before)
            assert find_weights(parts, f"{name}000006").endswith(after)
            whole = torch.load(tmp_path / f"whole/{name}000006.pt")
            assert_identical(dict(load_weights(find_weights(parts, f"{name}000006"))), dict(whole))
        assert (parts / "opt000006.pt").exists()


@pytest.mark.usefixtures("no_tensorboard")
def test_the_oldest_of_either_format_go(tmp_path):
    train(tmp_path, 2, keep_checkpoints=2)
    train(tmp_path, 4, keep_checkpoints=2, save_format="safetensors")
    weights = [f"{name}00000{step}.safetensors" for name in ("ema_0.5_", "model") for step in (3, 4)]
    kept = {name for name in names(tmp_path) if name.endswith(SAVE_FORMATS)}
    assert kept == {*weights, "opt000003.pt", "opt000004.pt"}
