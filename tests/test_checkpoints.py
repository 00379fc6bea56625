import json
import os
import pickle
import zipfile
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from assertions import refusal
from golden import REFERENCE
from published_weights import saved
from torch import nn

from guided_diffusion.script.errors import UserError
from guided_diffusion.script_util import create_model, model_and_diffusion_defaults
from models.checkpoints import attach_flags, flags_of, load_diffusion, load_state, read_weights
from models.diffusion_flags import disagreements, infer_flags

DEFAULTS = model_and_diffusion_defaults()
# The README's flags for the published DDPM.
CELEBA = DEFAULTS | {
    "image_size": 128,
    "num_channels": 128,
    "num_res_blocks": 2,
    "num_head_channels": 64,
    "attention_resolutions": "32,16,8",
    "learn_sigma": True,
    "resblock_updown": True,
    "diffusion_steps": 500,
}
TINY = DEFAULTS | {
    "image_size": 16,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1,2",
    "attention_resolutions": "8",
    "num_heads": 1,
}


class Payload:
    """Unpickled, it makes a directory at path."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def linear():
    torch.manual_seed(0)
    return nn.Linear(3, 2)


# ------------------------------------------------------------------------------------------- read_weights


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_reads_both_formats_of_torch_save(tmp_path, zipped):
    state = linear().state_dict()
    path = saved(tmp_path / "w.pt", state, _use_new_zipfile_serialization=zipped)
    read = read_weights(path)
    assert list(read) == ["weight", "bias"] and all(torch.equal(read[name], state[name]) for name in state)


def test_a_path_without_a_file_is_told_apart(tmp_path):
    empty = tmp_path / "empty.pt"
    empty.touch()
    for path, fault in (
        (tmp_path / "missing.pt", "does not exist"),
        (tmp_path, "is a folder, not a file"),
        (empty, "is empty"),
        (empty / "below.pt", "cannot be read"),
    ):
        assert refusal(UserError, read_weights, path).startswith(f"{path} {fault}")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_truncated_file_is_refused(tmp_path, zipped):
    path = saved(tmp_path / "w.pt", linear().state_dict(), _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for size in (0.1 * len(content), 0.5 * len(content), 0.9 * len(content), len(content) - 1):
        path.write_bytes(content[: int(size)])
        message = refusal(UserError, read_weights, path)
        assert f"{path} is cut short" in message and "Errno" not in message


@pytest.mark.parametrize(
    "content", [b"hello\n", b"\x89PNG\r\n\x1a\n", bytes(2000), b"PK", b"\xff\xd8\xff\xe0"], ids=len
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    assert "should be a PyTorch weight file" in refusal(UserError, read_weights, path)


def test_another_zip_archive_is_refused(tmp_path):
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/readme.txt", "not weights")
    assert "no weight file" in refusal(UserError, read_weights, path)


def test_a_malicious_file_is_refused_and_does_not_run(tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "w.pt"
    path.write_bytes(pickle.dumps(Payload(trace)))
    assert "bare pickle" in refusal(UserError, read_weights, path)
    for zipped in (True, False):
        saved(path, {"weight": Payload(trace)}, _use_new_zipfile_serialization=zipped)
        assert "mkdir" in refusal(UserError, read_weights, path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Payload(trace)))  # it was live
    assert trace.exists()


def test_a_whole_pickled_network_is_refused(tmp_path):
    message = refusal(UserError, read_weights, saved(tmp_path / "w.pt", linear()))
    assert "torch.nn.modules.linear.Linear" in message and "state dict" in message


# --------------------------------------------------------------------------------------------- load_state


def test_what_does_not_fit_is_named():
    state = linear().state_dict()
    state["scale"] = state.pop("bias")
    state["weight"] = state["weight"].T
    message = refusal(UserError, load_state, nn.Linear(3, 2), state, "w.pt", "head")
    assert message.startswith("w.pt does not fit this head: ")
    assert "1 missing (bias); 1 unexpected (scale); 1 of another shape (weight: [3, 2] for [2, 3])" in message


def test_many_misfits_are_counted_and_the_first_named():
    message = refusal(UserError, load_state, nn.Sequential(*[nn.Linear(1, 1)] * 4), {}, "w.pt")
    assert "8 missing (0.weight, 0.bias, 1.weight, ...)" in message


@pytest.mark.parametrize(
    "contents", [[torch.ones(1)], torch.ones(1), {"weight": 1.0}, {0: torch.ones(1)}], ids=repr
)
def test_what_is_no_state_dict_is_refused(contents):
    assert "not the weights of a network" in refusal(UserError, load_state, linear(), contents, "w.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value):
    state = linear().state_dict()
    state["bias"][1] = value
    network = nn.Linear(3, 2)
    before = network.weight.clone()
    assert "in bias" in refusal(UserError, load_state, network, state, "w.pt")
    assert torch.equal(network.weight, before)


# -------------------------------------------------------------------------------------- flags in the file


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_flags_travel_with_a_state_dict_that_stays_plain(tmp_path, zipped):
    source, flags = linear(), {"num_heads": 4, "channel_mult": "", "learn_sigma": True, "dropout": 0.1}
    plain = source.state_dict()
    state = attach_flags(plain, flags)
    assert flags_of(plain) is None
    read = read_weights(saved(tmp_path / "w.pt", state, _use_new_zipfile_serialization=zipped))
    assert flags_of(read) == flags
    other = nn.Linear(3, 2)
    other.load_state_dict(read)
    assert list(read) == ["weight", "bias"] and torch.equal(other.weight, source.weight)


@pytest.mark.parametrize("metadata", [None, 3, {}, {"": None}, {"": {"flags": "num_heads"}}], ids=repr)
def test_other_metadata_holds_no_flags(metadata):
    state = OrderedDict()
    state._metadata = metadata
    assert flags_of(state) is None and flags_of({}) is None


# --------------------------------------------------------------------------------------- what flags mean


def names(given, trained):
    return [name for name, _, _ in disagreements(given, trained)]


@pytest.mark.parametrize(
    "change",
    [
        {"attention_resolutions": "8,16,32"},
        {"attention_resolutions": "32.0,16,8"},
        {"attention_resolutions": "32,16,8,4"},  # no level is 4 pixels wide
        {"channel_mult": "1,1,2,3,4"},
        {"num_heads": 7, "num_heads_upsample": 3},  # num_head_channels decides
        {"num_classes": 5, "multiclass": False},  # without class_cond
        {"dropout": 0.5, "use_checkpoint": True, "use_fp16": True},
        {"timestep_respacing": "25", "use_kl": True, "rescale_learned_sigmas": True},
    ],
    ids=str,
)
def test_flags_of_the_same_function_agree(change):
    assert names(CELEBA | change, CELEBA) == []


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": 64},
        {"num_channels": 64},
        {"num_res_blocks": 3},
        {"channel_mult": "1,2,2,3,4"},
        {"attention_resolutions": "16,8"},
        {"num_head_channels": -1},
        {"use_new_attention_order": True},
        {"use_scale_shift_norm": False},
        {"norm_groups": 8},
        {"resblock_updown": False},
        {"class_cond": True},
        {"learn_sigma": False},
        {"diffusion_steps": 1000},
        {"noise_schedule": "cosine"},
        {"predict_xstart": True},
        {"rescale_timesteps": True},
    ],
    ids=str,
)
def test_a_flag_that_changes_the_function_is_named_alone(change):
    assert names(CELEBA | change, CELEBA) == list(change)


FOUR, CONDITIONAL = TINY | {"num_heads": 4}, TINY | {"class_cond": True}
OLDER = {name: value for name, value in TINY.items() if name != "norm_groups"}


@pytest.mark.parametrize(
    "flags, trained, wrong",
    [
        (FOUR | {"num_heads_upsample": 4}, FOUR, []),  # heads on the way up follow num_heads
        (FOUR | {"num_heads_upsample": 2}, FOUR, ["num_heads_upsample"]),
        (TINY, FOUR, ["num_heads"]),
        (TINY | {"norm_groups": 8}, OLDER, []),  # what the weights do not say is not compared
        (CONDITIONAL | {"num_classes": 2}, CONDITIONAL, ["num_classes"]),
    ],
)
def test_a_flag_counts_by_what_the_weights_have(flags, trained, wrong):
    assert names(flags, trained) == wrong


# ------------------------------------------------------------------------------------ what shapes betray


def ddpm_shapes():
    entries = json.loads((REFERENCE / "ddpm_celeba128.json").read_text())
    return {name: SimpleNamespace(shape=shape) for name, (shape, _) in entries.items()}


def test_flags_of_the_published_ddpm_are_inferred():
    assert infer_flags(ddpm_shapes(), image_size=128) == {
        "image_size": 128,
        "num_channels": 128,
        "channel_mult": "1,1,2,3,4",
        "num_res_blocks": 2,
        "attention_resolutions": "32,16,8",
        "learn_sigma": True,
        "use_scale_shift_norm": True,
        "class_cond": False,
        "resblock_updown": True,
    }


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"num_channels": 64, "num_res_blocks": 3, "channel_mult": "1,1,2", "attention_resolutions": "16,4"},
        {"resblock_updown": True, "use_scale_shift_norm": False, "learn_sigma": True},
        {"class_cond": True, "multiclass": True, "num_classes": 7},
        {"class_cond": True, "multiclass": False, "num_classes": 7},
        {"channel_mult": "0.5,1", "num_channels": 64},
        {"channel_mult": "2", "attention_resolutions": ""},
    ],
    ids=str,
)
def test_inferred_flags_are_those_the_unet_was_built_with(change):
    flags = TINY | change
    inferred = infer_flags(create_model(**flags).state_dict(), flags["image_size"])
    assert inferred == {name: flags[name] for name in inferred}
    assert inferred


@pytest.mark.parametrize("size", [64, 128, 256, 512])
def test_the_usual_widths_are_those_that_a_unet_is_built_with(size):
    with torch.device("meta"):
        state = create_model(image_size=size, num_channels=64, num_res_blocks=1).state_dict()
    inferred = infer_flags(state, size)
    assert inferred["channel_mult"] and names({"image_size": size, "channel_mult": ""}, inferred) == []
    assert names({"image_size": size, "channel_mult": "1,7"}, inferred) == ["channel_mult"]


def test_shapes_of_something_else_betray_nothing():
    unfinished = ddpm_shapes()
    del unfinished["out.2.weight"]
    assert infer_flags(unfinished, 128) == infer_flags({"weight": SimpleNamespace(shape=(3, 3))}, 128) == {}


# ----------------------------------------------------------------------------------------- load_diffusion


def tiny_file(path, flags=TINY, carried=None):
    torch.manual_seed(1)
    state = create_model(**flags).state_dict()
    return saved(path, state if carried is None else attach_flags(state, carried)), state


def test_a_diffusion_model_loads_with_and_without_flags(tmp_path):
    for carried in (None, TINY):
        path, state = tiny_file(tmp_path / "w.pt", carried=carried)
        model = load_diffusion(create_model(**TINY), path, TINY)
        assert not model.training
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_flag_that_no_shape_betrays_is_caught_by_the_carried_flags(tmp_path):
    path, _ = tiny_file(tmp_path / "w.pt", carried=TINY)
    flags = TINY | {"num_heads": 4}
    message = refusal(UserError, load_diffusion, create_model(**flags), path, flags)
    assert message == f"--num_heads is 4, but {path} was trained with num_heads 1; give --num_heads 1"


def test_every_disagreeing_flag_is_in_the_line(tmp_path):
    path, _ = tiny_file(tmp_path / "w.pt", TINY | {"learn_sigma": True})
    flags = TINY | {"num_channels": 64, "resblock_updown": True}
    assert refusal(UserError, load_diffusion, create_model(**flags), path, flags) == (
        "--num_channels is 64, --resblock_updown is True, --learn_sigma is False, "
        f"but {path} holds num_channels 32, resblock_updown False, learn_sigma True; "
        "give --num_channels 32 --resblock_updown False --learn_sigma True"
    )


def test_an_empty_remedy_can_be_typed(tmp_path):
    sized = TINY | {"image_size": 64, "channel_mult": ""}
    path, _ = tiny_file(tmp_path / "w.pt", sized, carried=sized)
    flags = sized | {"channel_mult": "1,2"}
    message = refusal(UserError, load_diffusion, create_model(**flags), path, flags)
    assert message.endswith("give --channel_mult ''")


@pytest.mark.parametrize(
    "carried",
    [
        {"channel_mult": "one,two"},
        {"attention_resolutions": "0"},
        {"attention_resolutions": "all"},
        {"image_size": "16 px"},
        {"attention_resolutions": "inf"},
    ],
    ids=str,
)
def test_carried_flags_that_mean_nothing_are_refused(tmp_path, carried):
    path, _ = tiny_file(tmp_path / "w.pt", carried=TINY | carried)
    message = refusal(UserError, load_diffusion, create_model(**TINY), path, TINY)
    assert message.startswith(f"{path} carries flags that no diffusion model has")


def test_a_parallel_half_precision_file_loads_and_one_of_missing_tensors_is_refused(tmp_path):
    _, state = tiny_file(tmp_path / "w.pt")
    path = saved(tmp_path / "w.pt", {f"module.{name}": tensor.half() for name, tensor in state.items()})
    model = load_diffusion(create_model(**TINY), path, TINY)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=2**-11, atol=1e-7)
    del state["out.2.weight"]
    message = refusal(UserError, load_diffusion, model, saved(tmp_path / "w.pt", state), TINY)
    assert "1 missing (out.2.weight)" in message


@pytest.mark.parametrize(
    "contents, called",
    [
        ({"state": {}, "param_groups": []}, "an optimizer's state"),
        ({"feat_extract": {"conv1_7x7_s2.weight": torch.ones(1)}}, "the 40-attribute oracle"),
        ({"architecture": "resnet18", "attributes": ["Young"], "state_dict": {}}, "a resnet18 classifier"),
        ({"features.34.weight": torch.ones(1)}, "a VGG19"),
        ({"a": torch.ones(1), "b": torch.ones(1)}, "a state dict of a, b"),
        ([1, 2], "a list"),
    ],
)
def test_other_weights_are_called_by_name(tmp_path, contents, called):
    path = saved(tmp_path / "w.pt", contents)
    message = refusal(UserError, load_diffusion, create_model(**TINY), path, TINY)
    assert message.startswith(f"{path} is {called}, not a diffusion model")
