"""Classifiers: images (N, 3, H, W) in [-1, 1] -> logits (N, K), one per binary attribute or one per class.

Two kinds of file. The published DenseNet-121 is {"feat_extract": ..., "classifier": ...}; ours is
{"architecture", "attributes", "task", "image_size", "state_dict"}, where a densenet121 has the published two keys
in place of the last, so that the authors' code reads it as well.
"""
import copy
import difflib
import importlib

import torch
import torchvision
from torch import nn

from guided_diffusion.errors import UserError

from .checkpoints import describe, load_state, read_weights
from .small import ARCHITECTURES

DENSENET = "densenet121"
CELEBA_OUTPUTS = 40
TASKS = ("attributes", "classes")  # a yes or no for each output; or one of K, by softmax

# Without their auxiliary heads, these two return plain logits like every other network.
_OPTIONS = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}


class Classifier(nn.Module):
    """A frozen classifier in eval mode: images (N, 3, H, W) in [-1, 1] -> logits (N, K).

    attributes: the K names, or None where the file gives none (the published networks: CelebA's 40 in order).
    image_size: pixels it was trained on, or None where the file does not say.
    task: "attributes", a yes or no for each output, "classes", one of K, or None where the file does not say.
    """

    def __init__(self, network, architecture, attributes=None, image_size=None, task=None):
        super().__init__()
        self.network = network
        self.architecture = architecture
        self.attributes = attributes
        self.image_size = image_size
        self.task = task
        self.eval().requires_grad_(False)

    def forward(self, images):
        return self.network(images)

    def features(self, images):
        """images (N, 3, H, W) in [-1, 1] -> (N, D), what the last linear layer reads."""
        linear = [module for module in self.network.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise UserError(f"{self.architecture} has no linear layer to take features from; use another")
        read = []
        hook = linear[-1].register_forward_pre_hook(lambda module, inputs: read.extend(inputs))
        try:
            self.network(images)
        finally:
            hook.remove()
        return read[0]


class BinaryQuestion(nn.Module):
    """One attribute of a classifier: images (N, 3, H, W) in [-1, 1] -> logits (N,), positive for yes."""

    def __init__(self, classifier, index):
        super().__init__()
        self.classifier = classifier
        self.index = index

    def forward(self, images):
        return self.classifier(images)[:, self.index]


def build_classifier(architecture, num_outputs, image_size=None):
    """An untrained network: images (N, 3, H, W) -> logits (N, num_outputs).

    architecture: small_cnn or tiny_cnn, a torchvision classification network by name, or `module:function`, called
    as function(num_outputs). The latter imports code: pass what the user typed, never what a file says.
    image_size: pixels; those with a fixed input, such as vit_b_16, are built for it, and any is tried at it.
    Raises UserError for an unknown name, code that builds no network, and an image_size that does not fit.
    """
    if ":" in architecture:
        network = _call_function(architecture, num_outputs)
    elif architecture in ARCHITECTURES:
        network = ARCHITECTURES[architecture](num_outputs)
    else:
        network = _build_torchvision(architecture, num_outputs, image_size)
    if image_size is not None:
        _try(network.eval(), architecture, num_outputs, image_size)
    return network.train()


def require_trainable(network, architecture, image_size, batch_size):
    """UserError where a network cannot be trained on as few images at a time as batch_size; leaves it as it is."""
    copied = copy.deepcopy(network).train()
    with torch.random.fork_rng(devices=[]):
        try:
            copied(torch.zeros(min(batch_size, 2), 3, image_size, image_size))
        except Exception as error:
            raise UserError(
                f"{architecture} cannot be trained at --image_size {image_size} on {batch_size} image(s) at a time "
                f"({_first_line(error)}); raise --batch_size (or --microbatch), or the size"
            ) from error


def _build_torchvision(architecture, num_outputs, image_size):
    known = torchvision.models.list_models(module=torchvision.models)
    if architecture not in known:
        close = difflib.get_close_matches(architecture, [*known, *ARCHITECTURES]) or [DENSENET]
        raise UserError(
            f"{architecture} is no torchvision classification network; "
            f"name one (such as {', '.join(close)}), small_cnn, tiny_cnn, or module:function"
        )
    options = dict(_OPTIONS.get(architecture, {}))
    if image_size is not None and architecture.startswith("vit_"):
        options["image_size"] = image_size
    if image_size is not None and architecture.startswith("maxvit_"):
        options["input_size"] = (image_size, image_size)
    try:
        return torchvision.models.get_model(architecture, weights=None, num_classes=num_outputs, **options)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise _misfit(architecture, image_size, error) from error


def _try(network, architecture, num_outputs, image_size):
    """UserError unless the network, in eval mode, makes logits of images of this size."""
    try:
        with torch.no_grad():
            logits = network(torch.zeros(1, 3, image_size, image_size))
    except Exception as error:  # it may be anybody's code
        raise _misfit(architecture, image_size, error) from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, num_outputs):
        found = f"shape {list(logits.shape)}" if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UserError(f"{architecture} makes {found} of an image; it should be logits (1, {num_outputs})")


def _misfit(architecture, image_size, error):
    reason = _first_line(error)
    return UserError(f"{architecture} does not take --image_size {image_size} ({reason}); change either")


def _first_line(error):
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


def classifier_checkpoint(network, architecture, attributes, image_size, task="attributes"):
    """What to torch.save for load_classifier to read; attributes: the names of the network's outputs."""
    about = {"architecture": architecture, "attributes": list(attributes), "task": task, "image_size": image_size}
    state = network.state_dict()
    if architecture != DENSENET:
        return {**about, "state_dict": state}
    return {**_to_published(state), **about}


def load_classifier(path, architecture=None):
    """A file of either kind -> Classifier.

    architecture: None for what the file names; otherwise the file must hold that one, and only then may it be
    a `module:function`. Raises UserError for any other file.
    """
    return classifier_from(read_weights(path), path, architecture)


def classifier_from(contents, path, architecture=None):
    """load_classifier for contents that were read from path already."""
    match contents:
        case {
            "feat_extract": {"feat_extract.features.conv0.weight": _},
            "classifier": {"bias": torch.Tensor(shape=[num_outputs])},
        }:
            trained, state, attributes = DENSENET, _from_published(contents), contents.get("attributes")
        case {"architecture": str(trained), "attributes": [_, *_] as attributes, "state_dict": state}:
            num_outputs = len(attributes)
        case _:
            raise UserError(
                f"{path} is {describe(contents)}, not a classifier; "
                "give the published DenseNet121 or a file that the classifier training saved"
            )
    if architecture is None and ":" in trained:
        raise UserError(
            f"{path} needs the code of {trained}, which is never imported because a file says so; "
            "give that name as the architecture"
        )
    if architecture not in (None, trained):
        raise UserError(
            f"{path} holds a {trained}, not a {architecture}; name {trained}, or give another file"
        )
    require_names(attributes, num_outputs, path)
    image_size = contents.get("image_size")
    if image_size is not None and not (isinstance(image_size, int) and image_size > 0):
        raise UserError(f"{path} was trained at {image_size!r} pixels, it says; save it with a whole number")
    task = contents.get("task")
    if task not in (None, *TASKS):
        raise UserError(f"{path} says that its task is {task!r}; save it with {' or '.join(TASKS)}")
    try:
        network = build_classifier(trained, num_outputs, image_size)
    except UserError as error:
        raise UserError(f"{path} cannot be built: {error}") from error
    load_state(network, state, path, kind=f"{trained} classifier")
    return Classifier(network, trained, attributes, image_size, task)


def require_names(attributes, num_outputs, path):
    """UserError unless there is a name for each output; None are CelebA's 40."""
    named = CELEBA_OUTPUTS if attributes is None else len(attributes)
    if named != num_outputs:
        told = "none" if attributes is None else f"{named} attributes"
        raise UserError(f"{path} names {told} for {num_outputs} outputs; save it with all names")


def _call_function(location, num_outputs):
    """`module:function` -> the network that function(num_outputs) builds."""
    module, _, function = location.partition(":")
    try:
        build = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{location} cannot be imported ({error}); give module:function") from error
    try:
        network = build(num_outputs)
    except Exception as error:  # it is anybody's code
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise UserError(f"{location} fails when called with {num_outputs} outputs ({reason})") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{location} builds a {type(network).__name__}, not a torch.nn.Module")
    return network


def _from_published(contents):
    """The published two entries -> the state dict of torchvision's densenet121."""
    trunk = {name.removeprefix("feat_extract."): tensor for name, tensor in contents["feat_extract"].items()}
    return {**trunk, **{f"classifier.{name}": tensor for name, tensor in contents["classifier"].items()}}


def _to_published(state):
    """The inverse of _from_published."""
    trunk = {f"feat_extract.{name}": tensor for name, tensor in state.items() if name.startswith("features.")}
    head = {name: state[f"classifier.{name}"] for name in ("weight", "bias")}
    return {"feat_extract": trunk, "classifier": head}
