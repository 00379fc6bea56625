"""Weight files as people have them: wrapped, nested, sorted, without what no file says, or cast to another type."""

import pytest
import torch
import torchvision
from assertions import refusal
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel
from toy_networks import TINY_FLAGS, tiny_unet

from guided_diffusion.script.errors import UserError
from guided_diffusion.script_util import create_model
from models.checkpoints import attach_flags, load_diffusion
from models.classifiers import load_classifier
from models.oracles import load_oracle

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=3).eval()


def prefixed(*prefixes):
    return lambda state: {"".join(prefixes) + name: tensor for name, tensor in state.items()}


def averaged(state):
    return {"n_averaged": torch.tensor(3)} | prefixed("module.")(state)


def nested(*keys):
    def nest(state):
        for key in reversed(keys):
            state = {key: state, "epoch": 3}
        return state

    return nest


WRAPPED = {
    "DistributedDataParallel": prefixed("module."),
    "torch.compile": prefixed("_orig_mod."),
    "both": prefixed("module.", "_orig_mod."),
    "AveragedModel": averaged,
    "Lightning": lambda state: nested("state_dict")(prefixed("model.")(state)) | {"hyper_parameters": {"lr": 0.1}},
    "another name": prefixed("backbone."),
    "a loss of its own": lambda state: prefixed("net.")(state) | {"criterion.weight": torch.ones(3)},
    "nested": nested("state_dict", "model"),
    "ema": nested("ema"),
    "net": nested("net"),
}
WAYS = pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)


@WAYS
def test_a_wrapped_classifier_is_the_network_inside(network, tmp_path, wrap):
    torch.save(wrap(network.state_dict()), tmp_path / "c.pt")
    loaded = load_oracle(tmp_path / "c.pt", "resnet18", image_size=32)
    assert torch.equal(loaded(IMAGES), network(IMAGES)) and loaded.attributes == ["0", "1", "2"]
    by_name = load_classifier("torchvision:resnet18", weights=tmp_path / "c.pt", changes={"size": 32})
    assert by_name(IMAGES).shape == (2, 3)


@WAYS
def test_a_wrapped_diffusion_unet_is_the_network_inside(tmp_path, wrap):
    unet = tiny_unet()
    torch.save(wrap(unet.state_dict()), tmp_path / "d.pt")
    loaded = load_diffusion(create_model(**TINY_FLAGS), tmp_path / "d.pt", TINY_FLAGS)
    assert all(torch.equal(tensor, unet.state_dict()[name]) for name, tensor in loaded.state_dict().items())


def test_a_counter_beside_an_averaged_model_is_torchs_own(network):
    assert {"n_averaged", "module.fc.weight"} <= AveragedModel(network).state_dict().keys()


class Own(nn.Module):
    """A network whose own names begin alike, and whose head is not its last tensor by name."""

    def __init__(self, num_outputs):
        super().__init__()
        self.model = nn.ModuleDict({"body": nn.Conv2d(3, 4, 3), "answer": nn.Linear(4, num_outputs)})

    def forward(self, images):
        return self.model["answer"](self.model["body"](images).mean((2, 3)))


def test_a_prefix_that_is_the_networks_own_stays(tmp_path):
    torch.save(Own(3).state_dict(), tmp_path / "c.pt")
    assert load_classifier(tmp_path / "c.pt", "test_foreign_weights:Own", image_size=32)(IMAGES).shape == (2, 3)


@pytest.mark.parametrize("architecture", ["resnet18", "vit_b_16", "densenet121", "test_foreign_weights:Own"])
def test_the_outputs_are_counted_at_the_head_whatever_the_order_of_the_file(tmp_path, architecture):
    own = ":" in architecture
    options = {"image_size": 32} if architecture.startswith("vit") else {}
    made = Own(5) if own else torchvision.models.get_model(architecture, num_classes=5, **options)
    for parameter in made.parameters():
        if not parameter.any():  # the head of a new ViT
            nn.init.normal_(parameter)
    save_file({name: tensor.clone() for name, tensor in made.state_dict().items()}, tmp_path / "c.safetensors")
    loaded = load_classifier(tmp_path / "c.safetensors", architecture, image_size=32)
    assert torch.allclose(loaded(IMAGES), made.eval()(IMAGES), rtol=1e-4) and len(loaded.attributes) == 5


def test_counters_of_batch_norms_may_be_missing(network, tmp_path):
    state = {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "c.pt")
    assert torch.equal(load_classifier(tmp_path / "c.pt", "resnet18", image_size=32)(IMAGES), network(IMAGES))


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_a_switch_that_no_state_dict_has_is_said(tmp_path, name):
    made = torchvision.models.get_model(name, num_classes=3, init_weights=False, aux_logits=True)
    state = made.state_dict()
    for part in (state, {name: state[name] for name in state if not name.lower().startswith("aux")}):
        torch.save(part, tmp_path / "c.pt")
        about = load_classifier(tmp_path / "c.pt", name).about
        assert "transform_input is off" in about and "torchvision:NAME" in about
    torch.save(torchvision.models.resnet18(num_classes=3).state_dict(), tmp_path / "c.pt")
    assert "transform_input" not in load_classifier(tmp_path / "c.pt", "resnet18").about


def test_a_file_without_flags_leaves_to_the_user_what_it_does_not_say(tmp_path):
    flags = TINY_FLAGS | {"norm_groups": 8}
    state = create_model(**flags).state_dict()
    torch.save(dict(state), tmp_path / "d.pt")
    load_diffusion(create_model(**flags), tmp_path / "d.pt", flags)
    torch.save(attach_flags(state, TINY_FLAGS), tmp_path / "d.pt")  # of before there was the flag
    message = refusal(UserError, load_diffusion, create_model(**flags), tmp_path / "d.pt", flags)
    assert "was trained with norm_groups 32" in message


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_a_unet_of_other_channels_is_named_without_a_remedy_that_leads_nowhere(tmp_path, channels):
    state = create_model(**TINY_FLAGS).state_dict()
    state["input_blocks.0.0.weight"] = torch.zeros(32, channels, 3, 3)
    state["out.2.weight"], state["out.2.bias"] = torch.zeros(2 * channels, 32, 3, 3), torch.zeros(2 * channels)
    torch.save(state, tmp_path / "d.pt")
    message = refusal(UserError, load_diffusion, create_model(**TINY_FLAGS), tmp_path / "d.pt", TINY_FLAGS)
    assert f"a diffusion UNet of {channels} channels" in message and "--" not in message.replace(str(tmp_path), "")


def test_torchscript_is_called_what_it_is(network, tmp_path):
    torch.jit.save(torch.jit.trace(network, IMAGES), tmp_path / "c.pt")
    message = refusal(UserError, load_classifier, tmp_path / "c.pt", "resnet18")
    assert "is a TorchScript archive" in message and "network.state_dict()" in message


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool])
def test_weights_that_are_no_fractions_are_refused(network, tmp_path, dtype):
    state = dict(network.state_dict())
    torch.save(state | {"conv1.weight": state["conv1.weight"].to(dtype)}, tmp_path / "c.pt")
    message = refusal(UserError, load_classifier, tmp_path / "c.pt", "resnet18")
    assert f"has {str(dtype).removeprefix('torch.')} in conv1.weight" in message


def test_weights_in_8_bits_of_fractions_are_read(network, tmp_path):
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state["fc.weight"] = state["fc.weight"].to(torch.float8_e4m3fn)
    save_file(state, tmp_path / "c.safetensors")
    loaded = load_classifier(tmp_path / "c.safetensors", "resnet18", image_size=32)
    assert torch.equal(loaded.network.fc.weight, state["fc.weight"].float())


def test_two_outputs_of_one_name_are_refused(network, tmp_path):
    content = {"architecture": "resnet18", "attributes": ["a", "b", "a"], "state_dict": network.state_dict()}
    torch.save(content, tmp_path / "c.pt")
    assert "calls two outputs alike" in refusal(UserError, load_classifier, tmp_path / "c.pt")


def circular():
    contents = {}
    contents["model"] = contents
    return contents


def deep():
    contents = {"fc.weight": torch.zeros(1)}
    for _ in range(200):
        contents = {"state_dict": contents}
    return contents


UNET = "input_blocks.0.0.weight"


@pytest.mark.parametrize(
    "contents",
    [circular(), deep(), {UNET: torch.tensor(1.0)}, {UNET: torch.ones(3)}],
    ids=["a circle", "deep", "a number", "a row"],
)
def test_what_only_looks_like_weights_is_refused_in_one_line(tmp_path, contents):
    torch.save(contents, tmp_path / "w.pt")
    path, unet = tmp_path / "w.pt", create_model(**TINY_FLAGS)
    assert str(path) in refusal(UserError, load_diffusion, unet, path, TINY_FLAGS)
    assert str(path) in refusal(UserError, load_classifier, path, "resnet18")


def test_sparse_weights_are_refused(network, tmp_path):
    state = dict(network.state_dict())
    torch.save(state | {"fc.weight": state["fc.weight"].to_sparse()}, tmp_path / "c.pt")
    assert "no plain tensor in fc.weight" in refusal(UserError, load_classifier, tmp_path / "c.pt", "resnet18")
