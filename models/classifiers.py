"""Classifiers: images (N, 3, H, W) in [-1, 1] -> logits (N, K), one per yes/no attribute or one per class.

A classifier is a file, or has a name, such as timm:resnet50 (by_name.py). There are three kinds of file. The
published DenseNet-121 is {"feat_extract": ..., "classifier": ...}; ours is {"architecture", "attributes",
"task", "image_size", "state_dict"}, where a densenet121 has the published two keys in place of the last, so that
the authors' code reads it as well. The third is a state dict, of which the user names the architecture, unless it
carries what ours says as flags (attach_flags).
"""

import copy
import difflib
from contextlib import suppress

import torch

from guided_diffusion.script.choices import TASKS
from guided_diffusion.script.errors import UserError, as_user_error

from .by_name import load_by_name
from .checkpoints import (
    attach_flags,
    count_rows,
    describe,
    find_state,
    flags_of,
    load_state,
    read_weights,
    unwrapped,
)
from .classifier import CELEBA_OUTPUTS, Classifier, probe_classifier, require_logits
from .classifier import BinaryQuestion as BinaryQuestion
from .from_code import call_function
from .from_torchvision import NORMALISING, build_torchvision, list_networks, todays_names
from .preprocessing import Preprocessing
from .small import ARCHITECTURES

DENSENET = "densenet121"
UNSAID = (  # which no state dict says
    "; its transform_input is off: a network that was fine-tuned from torchvision's weights has it on, "
    "and is torchvision:NAME with this file as its weights"
)


def build_classifier(architecture, num_outputs, image_size=None):
    """An untrained network: images (N, 3, H, W) -> logits (N, num_outputs).

    architecture: small_cnn or tiny_cnn, a torchvision classification network by name, or `module:function`, called
    as function(num_outputs). The latter imports code: pass what the user typed, never what a file says.
    image_size: pixels; those with a fixed input, such as vit_b_16, are built for it, and any is tried at it.
    Raises UserError for an unknown name, code that builds no network, and an image_size that does not fit.
    """
    if ":" in architecture:
        network = call_function(architecture, num_outputs)
    elif architecture in ARCHITECTURES:
        network = ARCHITECTURES[architecture](num_outputs)
    elif architecture in list_networks():
        network = build_torchvision(architecture, num_outputs, image_size)
    else:
        close = difflib.get_close_matches(architecture, [*list_networks(), *ARCHITECTURES]) or [DENSENET]
        raise UserError(
            f"{architecture} is no torchvision classification network; "
            f"name one (such as {', '.join(close)}), small_cnn, tiny_cnn, or module:function"
        )
    if image_size is not None:
        fault = f"{architecture} does not take --image_size {image_size}"
        with torch.no_grad(), as_user_error(fault, "change either"):
            logits = network.eval()(torch.zeros(1, 3, image_size, image_size))
        require_logits(logits, architecture, num_outputs)
    return network.train()


def require_trainable(network, architecture, image_size, batch_size):
    """UserError where a network cannot be trained on as few images at a time as batch_size; leaves it as it is."""
    copied = copy.deepcopy(network).train()
    fault = f"{architecture} cannot be trained at --image_size {image_size} on {batch_size} image(s) at a time"
    remedy = "raise --batch_size (or --microbatch), or the size"
    with torch.random.fork_rng(devices=[]), as_user_error(fault, remedy):
        copied(torch.zeros(min(batch_size, 2), 3, image_size, image_size))


def classifier_checkpoint(network, architecture, attributes, image_size, task="attributes"):
    """What to torch.save for load_classifier to read; attributes: the names of the network's outputs."""
    state = network.state_dict()
    content = _to_published(state) if architecture == DENSENET else {"state_dict": state}
    return _about(architecture, attributes, image_size, task) | content


def classifier_state(network, architecture, attributes, image_size, task="attributes"):
    """The state dict of a network in training, which says what classifier_checkpoint says and goes on training."""
    return attach_flags(network.state_dict(), _about(architecture, attributes, image_size, task))


def _about(architecture, attributes, image_size, task):
    return {"architecture": architecture, "attributes": list(attributes), "task": task, "image_size": image_size}


def load_classifier(path, architecture=None, weights=None, changes=None, image_size=None, run_code=True):
    """A file of any kind, or a network by name -> Classifier.

    architecture: None for what the file names; otherwise the file must hold that one, and only then may it be
    a `module:function`. A state dict that names none needs it. weights: a file of the weights of a network by name,
    None for those that it comes with. changes: what is done to its images instead of what its library says (see
    Preprocessing.changed). image_size: pixels of the images to come. run_code: whether the path may be a
    `module:function`; False where a file says the path. UserError for any other file or name, with the flags
    --classifier_... of what should change.
    """
    named = load_by_name(path, architecture, weights, changes, image_size, run_code, "classifier")
    return named or classifier_from(read_weights(path), path, architecture, changes, image_size)


def classifier_from(contents, path, architecture=None, changes=None, image_size=None, role="classifier"):
    """load_classifier for contents that were read from path already, with the flags of the role in its errors."""
    own_state = _bare_state(contents)
    if own_state is not None:
        contents = _with_flags(contents, own_state, architecture)
    match contents:
        case {
            "feat_extract": {"feat_extract.features.conv0.weight": _},
            "classifier": {"bias": torch.Tensor(shape=[num_outputs])},
        }:
            trained, state, attributes = DENSENET, _from_published(contents), contents.get("attributes")
        case {"architecture": str(trained), "attributes": [_, *_] as attributes, "state_dict": state}:
            num_outputs = len(attributes)
        case _ if own_state is not None:
            raise UserError(
                f"{path} is {describe(own_state)}, not a classifier by itself; say which network it is of: "
                f"--{role}_architecture (torchvision's name or module:function), or --{role}_path "
                f"with its name, such as timm:NAME, and this file as its weights (--{role}_weights)"
            )
        case {"architecture": str(trained), "state_dict": _}:
            raise UserError(
                f"{path} is a classifier ({trained}), but does not name its outputs; save it with attributes, the "
                "list of their names"
            )
        case _:
            raise UserError(
                f"{path} is {describe(contents)}, not a classifier; "
                "give the published DenseNet121, a file that the classifier training saved, "
                "or a state dict and its network"
            )
    if architecture is None and ":" in trained:
        raise UserError(
            f"{path} needs the code of {trained}, which is never imported because a file says so; "
            "give that name as the architecture"
        )
    if architecture not in (None, trained):
        raise UserError(f"{path} holds a {trained}, not a {architecture}; name {trained}, or give another file")
    require_names(attributes, num_outputs, path)
    own_size, task = contents.get("image_size"), contents.get("task")  # no task in files of before there were two
    if task not in (None, *TASKS):
        raise UserError(f"{path} says that its task is {task!r}; save it with {' or '.join(TASKS)}")
    if task == "classes" and num_outputs == 1:
        raise UserError(f"{path} says that it tells classes, but has one output; save it with task attributes")
    size = own_size or (changes or {}).get("size", image_size)
    try:
        network = build_classifier(trained, num_outputs, size)
    except UserError as error:
        raise UserError(f"{path} cannot be built: {error}") from error
    load_state(network, state, path, kind=f"{trained} classifier")
    classifier = from_file(network, trained, attributes, own_size, task, changes)
    if own_state is not None:
        classifier.remark = UNSAID * (trained in NORMALISING)
    if size is not None:
        probe_classifier(classifier, size, role, from_library=":" not in trained)
    return classifier


def _bare_state(contents):
    """The state dict that is all of a file, or that a training put beside its progress; None where it says more."""
    if not isinstance(contents, dict) or {"architecture", "feat_extract", "param_groups"} & contents.keys():
        return None
    state = find_state(contents)
    return None if state is None or "input_blocks.0.0.weight" in state else state


def _with_flags(contents, state, architecture):
    """What a file of ours holds, of a file of a state dict: the names are its flags', or else numbers."""
    about = (flags_of(state) or {}) | {
        name: contents[name] for name in ("attributes", "task", "image_size") if name in contents
    }
    if architecture is not None and "architecture" not in about:
        state, rows = _state_and_outputs(state, architecture)
        about = {"architecture": architecture, "attributes": [str(number) for number in range(rows)]} | about
    return about | {"state_dict": state}


def _state_and_outputs(state, architecture):
    """(a state dict by the names of the architecture, how many outputs it has).

    They are the rows of the last tensor that has more of them where the network is built with more outputs. Of code
    that cannot be built so, they are the rows of the file's last tensor.
    """
    few = more = {}
    with suppress(Exception), torch.device("meta"):  # nothing is computed; it may be anybody's code
        few, more = (build_classifier(architecture, count).state_dict() for count in (2, 3))
    state = unwrapped(state, few) if few else state
    if architecture in list_networks():
        state = todays_names(state, few)
    heads = [name for name in few if name in more and few[name].shape != more[name].shape and name in state]
    rows = (count for name in [*reversed(heads), *reversed(state)] if (count := count_rows(state, name)))
    return state, next(rows, 1)


def from_file(network, architecture, attributes=None, image_size=None, task=None, changes=None):
    """The Classifier of a file: nothing is done to its images but the changes; resized, they may have any size."""
    how = Preprocessing().changed(**changes or {})
    own_size = image_size if how.resize is None else None
    classifier = Classifier(network, architecture, attributes, own_size, task, how, task is not None)
    if changes:
        classifier.remark = ""
    return classifier


def require_names(attributes, num_outputs, path):
    """UserError unless there is a name for each output; None are CelebA's 40."""
    if num_outputs != (CELEBA_OUTPUTS if attributes is None else len(attributes)):
        names = "none" if attributes is None else f"{len(attributes)} attributes"
        raise UserError(f"{path} names {names} for {num_outputs} outputs; save it with all names")
    for name in attributes or ():
        if not isinstance(name, str) or len(name.splitlines()) != 1:
            raise UserError(f"{path} calls an output {name!r}; save it with names, each a text of one line")
    if len(set(attributes or ())) < len(attributes or ()):
        raise UserError(f"{path} calls two outputs alike; save it with a name of its own for each")


def _from_published(contents):
    """The published two entries -> the state dict of torchvision's densenet121."""
    trunk = {name.removeprefix("feat_extract."): tensor for name, tensor in contents["feat_extract"].items()}
    return trunk | {f"classifier.{name}": tensor for name, tensor in contents["classifier"].items()}


def _to_published(state):
    """The inverse of _from_published."""
    trunk = {f"feat_extract.{name}": tensor for name, tensor in state.items() if name.startswith("features.")}
    head = {name: state[f"classifier.{name}"] for name in ("weight", "bias")}
    return {"feat_extract": trunk, "classifier": head}
