import pytest
import torch
import torchvision
from assertions import refusal
from published_weights import published, saved
from reference_weights import deterministic_array, deterministic_state

from guided_diffusion.script.errors import UserError
from models.classifiers import (
    BinaryQuestion,
    build_classifier,
    classifier_checkpoint,
    classifier_state,
    load_classifier,
    require_trainable,
)
from models.oracles import load_oracle

ATTRIBUTES = ["Smiling", "Young", "Male"]
OWN = (["return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_outputs))"], "build(num_outputs)")
IMAGES = deterministic_array("images", (8, 3, 32, 32), 0.4).clamp(-1, 1)


def trained(architecture, num_outputs=3):
    network = build_classifier(architecture, num_outputs)
    network.load_state_dict(deterministic_state(network))
    return network


@pytest.fixture(scope="module")
def published_path(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("models") / "classifier.pth", published("classifier_densenet121"))


# ------------------------------------------------------------------------------------- the published file


def test_the_published_densenet_is_torchvisions(published_path):
    contents = published("classifier_densenet121")
    reference = torchvision.models.densenet121()
    reference.classifier = torch.nn.Identity()
    trunk = contents["feat_extract"]
    reference.load_state_dict({name.split(".", 1)[1]: tensor for name, tensor in trunk.items()})
    reference.classifier = torch.nn.Linear(1024, 40)
    reference.classifier.load_state_dict(contents["classifier"])
    reference.eval()
    classifier = load_classifier(published_path)
    with torch.no_grad():
        torch.testing.assert_close(classifier(IMAGES), reference(IMAGES))
    assert classifier.architecture == "densenet121"
    assert classifier.attributes is None and classifier.image_size is None
    message = refusal(UserError, load_classifier, published_path, "resnet18")
    assert message.startswith(f"{published_path} holds a densenet121, not a resnet18")


def test_a_question_is_one_attribute_and_features_are_what_the_last_layer_reads(published_path):
    classifier = load_classifier(published_path)
    answer = BinaryQuestion(classifier, 31)(IMAGES)
    assert answer.shape == (8,) and torch.equal(answer, classifier(IMAGES)[:, 31])
    features = classifier.features(IMAGES)
    assert features.shape == (8, 1024)
    assert torch.equal(classifier.network.classifier(features), classifier(IMAGES))
    assert not classifier.network.classifier._forward_pre_hooks


# ---------------------------------------------------------------------------------------------- our files


@pytest.mark.parametrize("architecture", ["densenet121", "resnet18", "squeezenet1_1"])
def test_a_saved_classifier_comes_back(tmp_path, architecture):
    network = trained(architecture)
    path = saved(tmp_path / "c.pt", classifier_checkpoint(network, architecture, tuple(ATTRIBUTES), 32))
    for named in (None, architecture):
        classifier = load_classifier(path, named)
        assert torch.equal(classifier(IMAGES), network.eval()(IMAGES))
        assert (classifier.attributes, classifier.image_size) == (ATTRIBUTES, 32)
        assert classifier.architecture == architecture


def test_our_densenet_file_is_one_of_the_authors():
    ours = classifier_checkpoint(trained("densenet121", 40), "densenet121", ["a"] * 40, 128)
    theirs = published("classifier_densenet121")
    for part in ("feat_extract", "classifier"):
        assert {name: tensor.shape for name, tensor in ours[part].items()} == {
            name: tensor.shape for name, tensor in theirs[part].items()
        }


def test_a_custom_network_loads_where_the_caller_names_it(tmp_path, module):
    name = module(*OWN)
    network = build_classifier(name, len(ATTRIBUTES))
    path = saved(tmp_path / "c.pt", classifier_checkpoint(network, name, ATTRIBUTES, 32))
    assert torch.equal(load_classifier(path, name)(IMAGES), network(IMAGES))


def test_a_file_cannot_import_code(tmp_path, module):
    name = module(*OWN)
    contents = {"architecture": name, "attributes": ATTRIBUTES, "image_size": 32, "state_dict": {}}
    for each in (contents, classifier_state(torch.nn.Linear(2, 3), name, ATTRIBUTES, 32)):
        path = saved(tmp_path / "c.pt", each)
        assert f"{path} needs the code of {name}" in refusal(UserError, load_classifier, path)
        refusal(UserError, load_classifier, path, "resnet18")
    assert not module.trace.exists()
    build_classifier(name, 1)  # the trace is live
    assert module.trace.exists()


# -- a state dict -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "state_dict", "model_state_dict", "model"])
def test_a_state_dict_and_its_architecture_are_a_classifier(tmp_path, module, key):
    for name in ("resnet18", "densenet121", module(*OWN)):
        network = build_classifier(name, 3).eval()
        state = network.state_dict()
        path = saved(tmp_path / "c.pt", {key: state, "epoch": 3} if key else state)
        classifier = load_classifier(path, name, image_size=32)
        torch.testing.assert_close(classifier(IMAGES), network(IMAGES))
        assert (classifier.attributes, classifier.task, classifier.image_size) == (["0", "1", "2"], None, None)
        assert f"{name}: 3 " in classifier.about


def test_what_lies_beside_a_state_dict_is_used(tmp_path):
    beside = {"attributes": ATTRIBUTES, "task": "classes", "image_size": 32}
    path = saved(tmp_path / "c.pt", {"state_dict": trained("resnet18").state_dict(), "acc": 0.9} | beside)
    classifier = load_classifier(path, "resnet18")
    assert (classifier.attributes, classifier.task, classifier.image_size) == (ATTRIBUTES, "classes", 32)


def test_a_state_dict_of_a_training_says_all_by_itself(tmp_path):
    network = trained("resnet18").eval()
    state = classifier_state(network, "resnet18", ATTRIBUTES, 32, "classes")
    classifier = load_classifier(saved(tmp_path / "model000001.pt", state))
    assert torch.equal(classifier(IMAGES), network(IMAGES))
    assert (classifier.attributes, classifier.task, classifier.image_size) == (ATTRIBUTES, "classes", 32)
    message = refusal(UserError, load_classifier, tmp_path / "model000001.pt", "resnet34")
    assert "model000001.pt holds a resnet18, not a resnet34" in message


@pytest.mark.parametrize("role, load", [("classifier", load_classifier), ("oracle", load_oracle)])
def test_a_state_dict_alone_says_that_its_network_is_to_be_named(tmp_path, role, load):
    path = saved(tmp_path / "c.pt", trained("resnet18").state_dict())
    message = refusal(UserError, load, path)
    assert f"--{role}_architecture" in message and f"--{role}_weights" in message
    message = refusal(UserError, load, path, "resnet34", None, None, 32)
    assert "c.pt does not fit this resnet34 classifier" in message
    message = refusal(UserError, load, saved(tmp_path / "bias.pt", {"bias": torch.ones(())}), "resnet18")
    assert "bias.pt does not fit" in message


# ---------------------------------------------------------------------------------------- what is refused


UNNAMED = {"architecture": "resnet18", "attributes": [], "state_dict": {}}
UNKNOWN = {"architecture": "resnet19", "attributes": ATTRIBUTES, "state_dict": {}}


@pytest.mark.parametrize(
    "contents, words",
    [
        ({"feat_extract": {"conv1_7x7_s2.weight": torch.ones(1)}}, "is the 40-attribute oracle, not a classifier"),
        ({"input_blocks.0.0.weight": torch.ones(1)}, "is a diffusion UNet, not a classifier"),
        ({"weight": torch.ones(1)}, "is a state dict of weight, not a classifier"),
        (torch.ones(1), "is a Tensor, not a classifier"),
        (UNNAMED, "is a classifier (resnet18), but does not name its outputs"),
        (UNKNOWN, "cannot be built: resnet19 is no torchvision classification network; name one (such as resnet18"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_of_no_classifier_is_called_what_it_is(tmp_path, contents, words):
    path = saved(tmp_path / "c.pt", contents)
    assert refusal(UserError, load_classifier, path).startswith(f"{path} {words}")


def test_attributes_that_are_not_as_many_as_the_logits_are_refused(tmp_path):
    faults = {"densenet121": "2 attributes for 3 outputs", "resnet18": "fc.weight: [3, "}
    for architecture, fault in faults.items():
        contents = classifier_checkpoint(trained(architecture), architecture, ATTRIBUTES[:2], 32)
        assert fault in refusal(UserError, load_classifier, saved(tmp_path / "c.pt", contents))


@pytest.mark.parametrize("architecture", ["googlenet", "inception_v3", "shufflenet_v2_x0_5"])
def test_networks_return_plain_logits_when_training_too(architecture, recwarn):
    network = build_classifier(architecture, 2).train()
    assert network(torch.zeros(2, 3, 96, 96)).shape == (2, 2)
    assert not recwarn


@pytest.mark.slow
@pytest.mark.parametrize("architecture", torchvision.models.list_models(module=torchvision.models))
def test_every_classification_network_of_torchvision_trains_at_another_size_than_its_own(architecture):
    # These sizes are the smallest that all heads, patches and windows divide, 128 where that is one.
    image_size = {"vit_h_14": 126, "maxvit_t": 224}.get(architecture, 128)
    network = build_classifier(architecture, 2, image_size)
    assert network.training
    images = deterministic_array("pictures", (2, 3, image_size, image_size), 0.4)
    network(images).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    "architecture", ["squeezenet1_1", "alexnet", "inception_v3", "maxvit_t", "convnext_tiny", "densenet121"]
)
def test_a_network_too_deep_for_the_size_is_refused_by_its_name_and_the_flags(architecture):
    message = refusal(UserError, build_classifier, architecture, 2, 16)
    assert message.startswith(f"{architecture} does not take --image_size 16 (")


@pytest.mark.slow
def test_a_transformer_of_another_size_comes_back_and_at_no_multiple_of_its_patch_is_refused(tmp_path):
    assert "vit_b_16 does not take --image_size 40" in refusal(UserError, build_classifier, "vit_b_16", 2, 40)
    network = build_classifier("vit_b_16", 3, 32)
    torch.nn.init.normal_(network.heads.head.weight)  # a new one has a head of zeros, which cannot guide
    contents = classifier_checkpoint(network, "vit_b_16", ATTRIBUTES, 32)
    loaded = load_classifier(saved(tmp_path / "c.pt", contents))
    torch.testing.assert_close(loaded(IMAGES), network.eval()(IMAGES), rtol=1e-4, atol=1e-4)
    message = refusal(UserError, load_classifier, saved(tmp_path / "d.pt", contents | {"image_size": 40}))
    assert "d.pt cannot be built: vit_b_16 does not take --image_size 40" in message
    message = refusal(UserError, load_classifier, saved(tmp_path / "e.pt", contents | {"image_size": "big"}))
    assert "e.pt cannot be built: vit_b_16 does not take --image_size big" in message


def test_trying_a_network_changes_nothing():
    torch.manual_seed(0)
    plain = build_classifier("resnet18", 2)
    after = torch.rand(1)
    torch.manual_seed(0)
    tried = build_classifier("resnet18", 2, 32)
    require_trainable(tried, "resnet18", 32, 4)
    assert torch.rand(1) == after
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, tried.state_dict()[name])


def test_batch_norms_that_see_one_value_are_refused():
    network = build_classifier("resnet18", 2, 32)
    assert "on 1 image(s) at a time" in refusal(UserError, require_trainable, network, "resnet18", 32, 1)
    require_trainable(network, "resnet18", 64, 1)  # 2 x 2 values in the last layers
    require_trainable(network, "resnet18", 32, 2)


OTHER_NETWORKS = ("densenet", "fasterrcnn_resnet50_fpn", "quantized_resnet18", "")
NO_FUNCTIONS = ("no_such_module:build", "math:no_such_function", ":build", "math:")


@pytest.mark.parametrize(
    "name, words",
    [
        *((name, "is no torchvision classification network") for name in OTHER_NETWORKS),
        *((name, "cannot be imported") for name in NO_FUNCTIONS),
        ("os:getcwd", "fails when called with 2 outputs (TypeError"),
        ("math:sqrt", "builds a float, not a torch.nn.Module"),
        ("torch.nn:PixelShuffle", "does not take --image_size 16"),  # its 3 channels, in fact
        ("torch.nn:Identity", "makes shape [1, 3, 16, 16] of images; it should be logits (N, 2)"),
    ],
)
def test_a_name_that_builds_no_classifier_is_refused(name, words):
    message = refusal(UserError, build_classifier, name, 2, 16)
    assert message.startswith(name) and words in message


def test_features_need_a_linear_layer(tmp_path):
    contents = classifier_checkpoint(trained("squeezenet1_1"), "squeezenet1_1", ATTRIBUTES, 32)
    classifier = load_classifier(saved(tmp_path / "c.pt", contents))
    assert "squeezenet1_1" in refusal(UserError, classifier.features, IMAGES)
