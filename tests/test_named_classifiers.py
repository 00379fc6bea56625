"""Classifiers by their names: of timm, torchvision and transformers, and of a function of the user's."""

import json
import re
import shutil
import sys

import pytest
import timm
import torch
import torchvision
import transformers
from assertions import refusal
from hub_folders import NAMES, cache, randomize, write_processor, write_timm, write_transformers
from safetensors.torch import load_file, save_file
from test_checkpoints import Payload
from torch import nn
from torchvision.transforms.functional import to_pil_image

from guided_diffusion.script.errors import UserError
from models.classifiers import classifier_checkpoint, load_classifier
from models.oracles import load_oracle

PIXELS = (255 * torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))).to(torch.uint8)
PIXELS = PIXELS.repeat_interleave(8, 2).repeat_interleave(8, 3)  # (2, 3, 72, 72)
IMAGES = PIXELS / 127.5 - 1
SAVE = {"pt": torch.save, "safetensors": save_file}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """timm/ and vit/, as their libraries save a network; resnet18.pt and .safetensors of 4 classes."""
    root = tmp_path_factory.mktemp("folders")
    write_timm(root / "timm")
    write_transformers(root / "vit")
    state = randomize(torchvision.models.resnet18(num_classes=4)).state_dict()
    torch.save(state, root / "resnet18.pt")
    save_file(state, root / "resnet18.safetensors")
    return root


@pytest.fixture
def module(tmp_path, monkeypatch):
    """module(body of build()) -> `own_networks:build`; module.trace is there once it was imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(body, signature="build()"):
        trace = "Path(__file__).with_name('trace').touch()"
        imports = ["import torch", "from torch import nn", "from pathlib import Path"]
        lines = [*imports, trace, f"def {signature}:", *(f"    {line}" for line in body)]
        (tmp_path / "own_networks.py").write_text("\n".join(lines))
        return "own_networks:build"

    write.trace = tmp_path / "trace"
    yield write
    sys.modules.pop("own_networks", None)


def linear(num_outputs, *after):
    return [f"return nn.Sequential(nn.Flatten(), nn.Linear(3 * 72 * 72, {num_outputs}), {', '.join(after)})"]


def named_linear(num_outputs):
    return linear(num_outputs)[0].replace("return", "network =")


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


# -- what is refused ---------------------------------------------------------------------------------------------


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
