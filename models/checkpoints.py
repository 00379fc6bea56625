"""Weight files: the only code that opens one.

A file may come from anywhere, so nothing in it runs, and what is not recognised is refused: every error is a
UserError, one line that names the file and what to do.
"""

import pickle
from collections import OrderedDict
from pathlib import Path

import torch

from guided_diffusion.script.errors import UserError, require_file

from .diffusion_flags import disagreements, infer_flags
from .safetensors_files import is_safetensors, read_safetensors

# How a file of torch.save begins: a zip archive, or before PyTorch 1.6 a pickled magic number.
ZIP_HEAD = b"PK\x03\x04"
LEGACY_HEAD = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
PUBLISHED_PARTS = ("feat_extract", "classifier")


def read_weights(path, mapped=False):
    """What torch.save wrote to path (tensors and plain containers only), with its tensors on the CPU.

    mapped: leave the tensors' values on the disk until they are used; the zip format alone can do so.
    Reads the zip format, the one before it, and safetensors, of which it makes what torch.save would be given. The
    content tells them apart, not the name. Raises UserError for a path without a file, an empty, damaged or foreign
    file, and one that would run code when it is unpickled.
    """
    head = read_head(path)
    if not head.startswith((ZIP_HEAD, LEGACY_HEAD)) and not is_safetensors(head):
        found = "a bare pickle, which can run code and is not opened" if head[:1] == b"\x80" else "neither"
        raise UserError(
            f"{path} should be a PyTorch weight file or a safetensors file, but is {found}; check the path"
        )
    try:
        if is_safetensors(head):
            return _contents(*read_safetensors(path))
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is refused: it holds more than tensors and plain values{_refused_name(error)}, "
            "so opening it could run code; use a file of the state dict alone: "
            "torch.save(network.state_dict(), FILE)"
        ) from error
    except Exception as error:  # the reader raises nearly anything on damaged bytes
        reason = str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__
        if isinstance(error, OSError):  # a seek to before the file's beginning, of which only a number is said
            reason = "its end is missing"
        raise UserError(
            f"{path} is cut short, damaged or no weight file ({reason}); copy or download it again"
        ) from error


def _contents(tensors, about):
    """The tensors of a safetensors file and what its header says -> what torch.save would be given."""
    if "architecture" not in about:
        state = _published_parts(tensors) or tensors
        return attach_flags(state, about["flags"]) if isinstance(about.get("flags"), dict) else state
    parts = _published_parts(tensors) if about["architecture"] == "densenet121" else None
    return about | (parts or {"state_dict": tensors})


def _published_parts(tensors):
    """The two state dicts of the published DenseNet and oracle, whose names are joined by a dot; None of others."""
    parts = {
        part: {name.removeprefix(f"{part}."): each for name, each in tensors.items() if name.startswith(f"{part}.")}
        for part in PUBLISHED_PARTS
    }
    whole = all(parts.values()) and sum(len(part) for part in parts.values()) == len(tensors)
    return parts if whole else None


def load_state(model, state, path, kind="network"):
    """Copy a state dict, read from path, into model; names and shapes must match exactly. Returns model.

    The `module.` that DistributedDataParallel puts before every name is dropped, and half-precision tensors
    are cast to the model's dtype. Raises UserError for anything but a state dict, for missing,
    unexpected or mis-shaped tensors, and for values that are not finite; kind is what the error calls model.
    """
    if not _is_state_dict(state):
        raise UserError(f"{path} is {describe(state)}, not the weights of a {kind}; check the path")
    state = without_module_prefix(state)
    wanted = model.state_dict()
    problems = [
        _some("missing", [name for name in wanted if name not in state]),
        _some("unexpected", [name for name in state if name not in wanted]),
        _some(
            "of another shape",
            [
                f"{name}: {list(tensor.shape)} for {list(wanted[name].shape)}"
                for name, tensor in state.items()
                if name in wanted and tensor.shape != wanted[name].shape
            ],
        ),
    ]
    if any(problems):
        raise UserError(
            f"{path} does not fit this {kind}: {'; '.join(filter(None, problems))}; "
            f"it seems to be {describe(state)}: check the path and the flags"
        )
    for name, tensor in state.items():
        if tensor.is_complex():
            raise UserError(f"{path} has complex values in {name}; give the weights of a {kind}")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"{path} has NaN or infinite values in {name}; use an earlier checkpoint")
    model.load_state_dict(state)
    return model


def load_diffusion(model, path, flags):
    """Load a diffusion UNet (OpenAI's tensor names) and hold it against the flags it is run with.

    flags: the command line's model and diffusion flags, by guided-diffusion's names. Those that the file
    carries (attach_flags), or else those that its shapes betray, must agree where they decide what is
    computed; otherwise UserError names every flag to change. Returns model in eval mode.
    """
    state = read_weights(path)
    trained, verb = flags_of(state), "was trained with"
    state = without_module_prefix(state)
    if not _is_unet(state):
        raise UserError(
            f"{path} is {describe(state)}, not a diffusion model; give one that the diffusion training saved"
        )
    if trained is None:
        trained, verb = infer_flags(state, flags["image_size"]), "holds"
    try:
        wrong = disagreements(flags, trained)
    except ValueError as error:
        raise UserError(f"{path} carries flags that no diffusion model has ({error}); use another file") from error
    if wrong:
        given = ", ".join(f"--{name} is {_shell(value)}" for name, value, _ in wrong)
        found = ", ".join(f"{name} {_shell(value)}" for name, _, value in wrong)
        remedy = shell_words({name: value for name, _, value in wrong})
        raise UserError(f"{given}, but {path} {verb} {found}; give {remedy}")
    return load_state(model, state, path, kind="diffusion model").eval()


def attach_flags(state, flags):
    """A copy of a state dict that carries flags (str -> str, int, bool or float) wherever it is saved.

    They lie in the dict's `_metadata`, which torch.save keeps and load_state_dict ignores: to other code the
    file is a plain state dict.
    """
    tagged = OrderedDict(state)
    metadata = getattr(state, "_metadata", {})
    tagged._metadata = OrderedDict(metadata)
    tagged._metadata[""] = {**metadata.get("", {}), "flags": dict(flags)}
    return tagged


def flags_of(state):
    """The flags that attach_flags put into a state dict, or None."""
    metadata = getattr(state, "_metadata", None)
    own = metadata.get("") if isinstance(metadata, dict) else None
    flags = own.get("flags") if isinstance(own, dict) else None
    return dict(flags) if isinstance(flags, dict) else None


def read_flags(path):
    """The flags that a weight file carries (attach_flags), without reading the values of its tensors.

    None where it carries none, and where it cannot be read: whoever loads it is told why.
    """
    try:
        return flags_of(read_weights(path, mapped=True))
    except UserError:
        return None


def without_module_prefix(state):
    """The state dict of the network inside DistributedDataParallel; any other comes back as it is."""
    if not _is_state_dict(state) or not all(name.startswith("module.") for name in state):
        return state
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def describe(contents):
    """What the contents of a weight file seem to be, as the object of a sentence."""
    match contents:
        case {"feat_extract": {"conv1_7x7_s2.weight": _}}:
            return "the 40-attribute oracle"
        case {"feat_extract": {"feat_extract.features.conv0.weight": _}}:
            return "a densenet121 classifier"
        case {"architecture": str(architecture), "state_dict": _}:
            return f"a {architecture} classifier"
        case {"param_groups": _}:
            return "an optimizer's state"
        case {"input_blocks.0.0.weight": _}:
            return "a diffusion UNet"
        case {"features.34.weight": _}:
            return "a VGG19"
        case {"features.28.weight": _}:
            return "a VGG16"
        case {}:
            kind = "a state dict" if _is_state_dict(contents) else "a dict"
            return f"{kind} of {_first(list(contents)) or 'nothing'}"
    return f"a {type(contents).__name__}"


def read_head(path):
    """The first bytes of a file; UserError where it is not there, cannot be read or is empty."""
    if not str(path):
        raise UserError("the path of a weight file is empty; name the file")
    if Path(path).is_dir():
        raise UserError(f"{path} is a directory; give the weight file inside it")
    require_file(path)
    try:
        with open(path, "rb") as file:
            head = file.read(len(LEGACY_HEAD))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; check the path, or put the file there") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    if not head:
        raise UserError(f"{path} is empty; copy or download it again")
    return head


def _refused_name(error):
    """The Python name in the unpickler's refusal, in parentheses, where it gives one."""
    words = str(error).split()
    return f" ({words[words.index('GLOBAL') + 1]})" if "GLOBAL" in words[:-1] else ""


def _is_state_dict(contents):
    return isinstance(contents, dict) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in contents.items()
    )


def _is_unet(contents):
    return _is_state_dict(contents) and "input_blocks.0.0.weight" in contents


def _some(what, names):
    """`2 missing (a, b)`, with the first few names; "" without any."""
    return f"{len(names)} {what} ({_first(names)})" if names else ""


def _first(names, shown=3):
    return ", ".join([*map(str, names[:shown]), *(["..."] if len(names) > shown else [])])


def shell_words(flags):
    """Flags -> `--name value --name value`, as a shell reads them."""
    return " ".join(f"--{name} {_shell(value)}" for name, value in flags.items())


def _shell(value):
    return '""' if value == "" else str(value)
