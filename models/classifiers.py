"""Classifiers: images (N, 3, H, W) in [-1, 1] -> logits (N, K), one per binary attribute.

Two kinds of file. The published DenseNet-121 is {"feat_extract": ..., "classifier": ...}; ours is
{"architecture", "attributes", "image_size", "state_dict"}, where a densenet121 has the published two keys in
place of the last, so that the authors' code reads it as well.
"""
import difflib
import importlib

import torch
import torchvision
from torch import nn

from .checkpoints import CheckpointError, ModelError, describe, load_state, read_weights
from .small import ARCHITECTURES

DENSENET = "densenet121"

# Without their auxiliary heads, these two return plain logits like every other network.
_OPTIONS = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}


class Classifier(nn.Module):
    """A frozen classifier in eval mode: images (N, 3, H, W) in [-1, 1] -> logits (N, K).

    attributes: the K names, or None where the file gives none (the published networks: CelebA's 40 in order).
    image_size: pixels it was trained on, or None where the file does not say.
    """

    def __init__(self, network, architecture, attributes=None, image_size=None):
        super().__init__()
        self.network = network
        self.architecture = architecture
        self.attributes = attributes
        self.image_size = image_size
        self.eval().requires_grad_(False)

    def forward(self, images):
        return self.network(images)

    def features(self, images):
        """images (N, 3, H, W) in [-1, 1] -> (N, D), what the last linear layer reads."""
        linear = [module for module in self.network.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise ModelError(f"{self.architecture} has no linear layer to take features from; use another")
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


def build_classifier(architecture, num_outputs):
    """An untrained network: images (N, 3, H, W) -> logits (N, num_outputs).

    architecture: small_cnn or tiny_cnn, a torchvision classification network by name (those with a fixed input,
    such as vit_b_16, take only that size), or `module:function`, called as function(num_outputs). The latter
    imports code: pass what the user typed, never what a file says. Raises ModelError for an unknown name.
    """
    if ":" in architecture:
        return _import_function(architecture)(num_outputs)
    if architecture in ARCHITECTURES:
        return ARCHITECTURES[architecture](num_outputs)
    known = torchvision.models.list_models(module=torchvision.models)
    if architecture not in known:
        close = difflib.get_close_matches(architecture, [*known, *ARCHITECTURES]) or [DENSENET]
        raise ModelError(
            f"{architecture} is no torchvision classification network; "
            f"name one (such as {', '.join(close)}), small_cnn, tiny_cnn, or module:function"
        )
    options = _OPTIONS.get(architecture, {})
    return torchvision.models.get_model(architecture, weights=None, num_classes=num_outputs, **options)


def classifier_checkpoint(network, architecture, attributes, image_size):
    """What to torch.save for load_classifier to read; attributes: the names of the network's outputs."""
    about = {"architecture": architecture, "attributes": list(attributes), "image_size": image_size}
    state = network.state_dict()
    if architecture != DENSENET:
        return {**about, "state_dict": state}
    return {**_to_published(state), **about}


def load_classifier(path, architecture=None):
    """A file of either kind -> Classifier.

    architecture: None for what the file names; otherwise the file must hold that one, and only then may it be
    a `module:function`. Raises CheckpointError for any other file.
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
            raise CheckpointError(
                f"{path} is {describe(contents)}, not a classifier; "
                "give the published DenseNet121 or a file that the classifier training saved"
            )
    if architecture is None and ":" in trained:
        raise CheckpointError(
            f"{path} needs the code of {trained}, which is never imported because a file says so; "
            "give that name as the architecture"
        )
    if architecture not in (None, trained):
        raise CheckpointError(
            f"{path} holds a {trained}, not a {architecture}; name {trained}, or give another file"
        )
    if attributes is not None and len(attributes) != num_outputs:
        raise CheckpointError(
            f"{path} names {len(attributes)} attributes for {num_outputs} outputs; save it with all names"
        )
    try:
        network = build_classifier(trained, num_outputs)
    except ModelError as error:
        raise CheckpointError(f"{path} cannot be built: {error}") from error
    load_state(network, state, path, kind=f"{trained} classifier")
    return Classifier(network, trained, attributes, contents.get("image_size"))


def _import_function(location):
    """`module:function` -> the function."""
    module, _, function = location.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(f"{location} cannot be imported ({error}); give module:function") from error


def _from_published(contents):
    """The published two entries -> the state dict of torchvision's densenet121."""
    trunk = {name.removeprefix("feat_extract."): tensor for name, tensor in contents["feat_extract"].items()}
    return {**trunk, **{f"classifier.{name}": tensor for name, tensor in contents["classifier"].items()}}


def _to_published(state):
    """The inverse of _from_published."""
    trunk = {f"feat_extract.{name}": tensor for name, tensor in state.items() if name.startswith("features.")}
    head = {name: state[f"classifier.{name}"] for name in ("weight", "bias")}
    return {"feat_extract": trunk, "classifier": head}
