"""Weight files: the only code that opens one.

A file may come from anywhere, so nothing in it runs, and what is not recognised is refused: every error is a
UserError, one line that names the file and what to do.
"""

import json
import pickle
import shlex
import warnings
from collections import OrderedDict
from contextlib import suppress

import torch

from guided_diffusion.script.errors import UserError, as_user_error, first_sentence, hub_package, require_file

from .diffusion_flags import EVERYWHERE_ELSE, disagreements, infer_flags

# How a file of torch.save begins: a zip archive, or before PyTorch 1.6 a pickled magic number.
ZIP_HEAD = b"PK\x03\x04"
LEGACY_HEAD = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
PUBLISHED_PARTS = ("feat_extract", "classifier")
FIRST_CONVOLUTION = "input_blocks.0.0.weight"  # of a diffusion UNet
KINDS = {  # by a name in it; a VGG19 has all of a VGG16's
    "param_groups": "an optimizer's state",
    FIRST_CONVOLUTION: "a diffusion UNet",
    "features.34.weight": "a VGG19",
    "features.28.weight": "a VGG16",
}
STATE_KEYS = (  # where trainings keep the weights in their files, the first one first
    *("state_dict", "model_state_dict", "model", "model_state", "net", "network", "weights", "params"),
    *("ema_state_dict", "ema"),
)
WRAPPERS = ("module", "_orig_mod")  # prefixes of DistributedDataParallel and torch.compile, which no network has


def read_weights(path, mapped=False):
    """What torch.save wrote to path (tensors and plain containers only), with its tensors on the CPU.

    mapped: leave the tensors' values on the disk until they are used; the zip format alone can do so.
    Reads the zip format, the one before it, and safetensors, of which it makes what torch.save would be given. The
    content tells them apart, not the name. UserError for a path without a file, an empty, damaged or foreign file,
    and one that would run code when it is unpickled.
    """
    head = read_head(path)
    if not head.startswith((ZIP_HEAD, LEGACY_HEAD)) and not is_safetensors(head):
        kind = "a bare pickle, which can run code and is not opened" if head[:1] == b"\x80" else "neither"
        raise UserError(
            f"{path} should be a PyTorch weight file or a safetensors file, but is {kind}; check the path"
        )
    try:
        if is_safetensors(head):
            return _read_safetensors(path)
        with warnings.catch_warnings(action="ignore"):  # of a TorchScript archive, which is refused below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        _, _, words = str(error).partition("GLOBAL ")  # before the Python name that is refused, if any is
        name = f" ({words.split()[0]})" if words else ""
        raise UserError(
            f"{path} is refused: it holds more than tensors and plain values{name}, "
            "so opening it could run code; use a file of the state dict alone: "
            "torch.save(network.state_dict(), FILE)"
        ) from error
    except Exception as error:  # the reader raises nearly anything on damaged bytes
        if "TorchScript" in str(error):
            raise UserError(
                f"{path} is a TorchScript archive, which holds code; save torch.save(network.state_dict(), FILE)"
            ) from error
        # An OSError, of a seek to before the file's beginning, says a number alone.
        reason = "its end is missing" if isinstance(error, OSError) else first_sentence(error)
        raise UserError(
            f"{path} is cut short, damaged or no weight file ({reason}); copy or download it again"
        ) from error


def is_safetensors(head):
    """Whether a file that begins with these bytes is one: the header's length in 8 bytes, of which 4 are always 0,
    and the header, a JSON object."""
    return head[4:9] == bytes(4) + b"{"


def _read_safetensors(path):
    """What torch.save would be given. What that has besides tensors, the header says, each value as JSON."""
    with hub_package(path):
        from safetensors import safe_open
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        texts = file.metadata() or {}
    about = {}
    for name, text in texts.items():
        with suppress(ValueError):  # others' headers hold any text
            about[name] = json.loads(text)
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

    What wraps the network is dropped (unwrapped), and half-precision tensors are cast to the model's dtype. Where a
    file lacks the counters of batch norms, which nothing reads in eval mode, they are 0.
    UserError, which calls the model a `kind`, for anything but a state dict, for missing, unexpected or mis-shaped
    tensors, for whole numbers in place of weights, and for values that are not finite.
    """
    if not _is_state_dict(state):
        raise UserError(f"{path} is {describe(state)}, not the weights of a {kind}; check the path")
    wanted = model.state_dict()
    state = unwrapped(state, wanted)
    counters = [name for name in wanted if name.endswith("num_batches_tracked") and name not in state]
    state = state | {name: wanted[name] for name in counters}
    wrong = misfits(
        [name for name in wanted if name not in state],
        [name for name in state if name not in wanted],
        [
            f"{name}: {list(tensor.shape)} for {list(wanted[name].shape)}"
            for name, tensor in state.items()
            if name in wanted and tensor.shape != wanted[name].shape
        ],
    )
    if wrong:
        raise UserError(
            f"{path} does not fit this {kind}: {wrong}; "
            f"it seems to be {describe(state)}: check the path and the flags"
        )
    for name, tensor in state.items():
        if tensor.is_meta or tensor.layout != torch.strided:
            raise UserError(f"{path} has no plain tensor in {name}; save it dense, with its values")
        if tensor.is_complex():
            raise UserError(f"{path} has complex values in {name}; give the weights of a {kind}")
        if wanted[name].is_floating_point() and not tensor.is_floating_point():
            raise UserError(f"{path} has {str(tensor.dtype).removeprefix('torch.')} in {name}; save it in float32")
        if not tensor.float().isfinite().all():  # float(): of 8 bits there is no such check
            raise UserError(f"{path} has NaN or infinite values in {name}; use an earlier checkpoint")
    model.load_state_dict(state)
    return model


def misfits(missing, unexpected, reshaped):
    """Names of tensors that do not fit a network, counted and the first named; "" where there are none."""
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    return "; ".join(f"{len(names)} {kind} ({_first(names)})" for kind, names in kinds.items() if names)


def read_state(path, called, wanted=None):
    """The state dict in a weight file (find_state, unwrapped); UserError where it holds none.

    called: the network's name. wanted: names of its tensors, as far as they are known.
    """
    contents = read_weights(path)
    state = find_state(contents)
    if state is None:
        raise UserError(f"{path} is {describe(contents)}, not the weights of {called}; check the path")
    return unwrapped(state, wanted)


def find_state(contents, depth=3):
    """The state dict in the contents of a weight file: all, or what stands under one of STATE_KEYS; or None.

    depth: how deep it may stand.
    """
    if not isinstance(contents, dict) or not contents or not depth:
        return None
    if _is_state_dict(contents):
        return contents
    states = (find_state(contents[key], depth - 1) for key in STATE_KEYS if key in contents)
    return next((state for state in states if state is not None), None)


def count_rows(state, name):
    """The rows of a tensor of a state dict; None where there is no such tensor, or a number alone."""
    return state[name].shape[0] if name in state and state[name].dim() else None


def load_diffusion(model, path, flags):
    """Load a diffusion UNet (OpenAI's tensor names), and hold it against the flags that it is run with.

    flags: model and diffusion flags, by guided-diffusion's names. Where they decide what is computed, those that
    the file carries (attach_flags), or else those that its shapes betray, must agree; otherwise UserError names all
    to change. Returns model in eval mode.
    """
    contents = read_weights(path)
    state = find_state(contents) or contents
    trained, verb = flags_of(state), "was trained with"
    state = unwrapped(state, [FIRST_CONVOLUTION])
    if not _is_state_dict(state) or FIRST_CONVOLUTION not in state or state[FIRST_CONVOLUTION].dim() != 4:
        raise UserError(
            f"{path} is {describe(state)}, not a diffusion model; give one that the diffusion training saved"
        )
    channels = state[FIRST_CONVOLUTION].shape[1]
    if channels != 3:
        raise UserError(f"{path} is a diffusion UNet of {channels} channels; give one of RGB images, which have 3")
    if trained is None:
        trained, verb = infer_flags(state, flags["image_size"]), "holds"
    else:
        trained = EVERYWHERE_ELSE | trained
    with as_user_error(f"{path} carries flags that no diffusion model has", "use another file", ValueError):
        wrong = disagreements(flags, trained)
    if wrong:
        asked = ", ".join(f"--{name} is {shlex.quote(str(value))}" for name, value, _ in wrong)
        held = ", ".join(f"{name} {shlex.quote(str(value))}" for name, _, value in wrong)
        remedy = shell_words({name: value for name, _, value in wrong})
        raise UserError(f"{asked}, but {path} {verb} {held}; give {remedy}")
    return load_state(model, state, path, kind="diffusion model").eval()


def attach_flags(state, flags):
    """A copy of a state dict that carries flags (str -> str, int, bool or float) wherever it is saved.

    They lie in `_metadata`, which torch.save keeps and load_state_dict ignores.
    """
    tagged = OrderedDict(state)
    metadata = getattr(state, "_metadata", {})
    tagged._metadata = OrderedDict(metadata)
    tagged._metadata[""] = {**metadata.get("", {}), "flags": dict(flags)}
    return tagged


def flags_of(state):
    """The flags that attach_flags put into a state dict, or None."""
    try:
        return dict(state._metadata[""]["flags"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def read_flags(path):
    """The flags that a weight file carries (attach_flags), without reading the values of its tensors.

    None where it carries none or cannot be read: loading it says why.
    """
    try:
        return flags_of(read_weights(path, mapped=True))
    except UserError:
        return None


def unwrapped(state, wanted=None):
    """A state dict by the names of the network inside a wrapper, whose prefix, such as `module.`, all names share.

    So it is in files of DistributedDataParallel, torch.compile, AveragedModel, which adds a counter, and Lightning.
    wanted: names of the network's tensors. A prefix goes where all of them stand under it, or none of them without
    it; None: only WRAPPERS go.
    """
    if not _is_state_dict(state):
        return state
    needed = [name for name in wanted or () if not name.endswith("num_batches_tracked")]
    starts = {name.removesuffix(needed[0]) for name in state if name.endswith(f".{needed[0]}")} if needed else ()
    starts = [start for start in starts if all(start + name in state for name in needed)]
    if len(starts) == 1:  # beside the network there may be a loss with weights of its own
        (start,) = starts
        return {name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)}
    inner = {name: tensor for name, tensor in state.items() if name != "n_averaged"}
    while inner and not (wanted and inner.keys() & set(wanted)):
        prefixes = {name.partition(".")[0] for name in inner}
        if len(prefixes) > 1 or prefixes & inner.keys() or not (wanted or prefixes <= set(WRAPPERS)):
            return state
        inner = {name.partition(".")[2]: tensor for name, tensor in inner.items()}
    return inner


def describe(contents):
    """What the contents of a weight file seem to be, as the object of a sentence."""
    match contents:
        case {"feat_extract": {"conv1_7x7_s2.weight": _}}:
            return "the 40-attribute oracle"
        case {"feat_extract": {"feat_extract.features.conv0.weight": _}}:
            return "a densenet121 classifier"
        case {"architecture": str(architecture), "state_dict": _}:
            return f"a {architecture} classifier"
        case {}:
            kinds = (kind for name, kind in KINDS.items() if name in contents)
            kind = "a state dict" if _is_state_dict(contents) else "a dict"
            return next(kinds, f"{kind} of {_first(list(contents)) or 'nothing'}")
    return f"a {type(contents).__name__}"


def read_head(path):
    """The first bytes of a file; UserError where it is not there, cannot be read or is empty."""
    if not str(path):
        raise UserError("the path of a weight file is empty; name the file")
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


def _is_state_dict(contents):
    return isinstance(contents, dict) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in contents.items()
    )


def _first(names, shown=3):
    return ", ".join([*map(str, names[:shown]), *(["..."] if len(names) > shown else [])])


def shell_words(flags):
    """Flags -> `--name value --name value`, as a shell reads them."""
    return " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in flags.items())
