"""Classification networks of torchvision: untrained, with the weights that it publishes, or with a user's."""

import difflib
import re

import torchvision

from guided_diffusion.script.errors import UserError, as_user_error

from .checkpoints import count_rows, load_state, read_state
from .classifier import Classifier
from .downloads import published_weights
from .preprocessing import Preprocessing, settle

# Without their auxiliary heads, these two return plain logits like every other network.
NORMALISING = ("googlenet", "inception_v3")  # torchvision's weights were trained with their transform_input on
_OPTIONS = {name: {"aux_logits": False, "init_weights": True} for name in NORMALISING}
_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
# DenseNets were published before their layers had today's names.
_OLD_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def list_networks():
    return torchvision.models.list_models(module=torchvision.models)


def build_torchvision(architecture, num_outputs, image_size=None, flag="image_size", **options):
    """An untrained network of list_networks(): images (N, 3, H, W) -> logits (N, num_outputs).

    image_size: pixels, for those with a fixed input. UserError, naming the flag, for a size that does not fit.
    """
    options |= _OPTIONS.get(architecture, {})
    if image_size is not None and architecture.startswith("vit_"):
        options["image_size"] = image_size
    if image_size is not None and architecture.startswith("maxvit_"):
        options["input_size"] = (image_size, image_size)
    with as_user_error(f"{architecture} does not take --{flag} {image_size}", "change either"):
        return torchvision.models.get_model(architecture, weights=None, num_classes=num_outputs, **options)


def load_torchvision(name, weights, changes, role):
    """`NETWORK`, or `NETWORK.WEIGHTS` such as resnet50.IMAGENET1K_V1 -> Classifier.

    weights: a file of its state dict, for any number of classes; None for torchvision's, downloaded unless they are
    in torch.hub's cache. The images are prepared as torchvision does for WEIGHTS either way, but for the changes
    (Preprocessing.changed). UserError, with the flags of the role, for what cannot be had or does not fit.
    """
    architecture, called = name.partition(".")[0], f"torchvision:{name}"
    published = _published(name, called)
    categories, transform = list(published.meta["categories"]), published.transforms()
    how = settle(_preprocessing(transform), transform, changes, called, role)
    if weights is None:
        weights = published_weights(published.url, called, f"{role}_weights")
    size = how.resize[0] if "size" in changes else how.crop[0]

    def build(num_outputs):
        # These two normalise again, after torchvision's transform, what the published weights were trained on.
        options = {"transform_input": True} if architecture in _OPTIONS else {}
        return build_torchvision(architecture, num_outputs, size, f"{role}_size", **options)

    network = build(len(categories))
    wanted = list(network.state_dict())
    state = todays_names(read_state(weights, called, wanted), wanted)
    head = wanted[-1]  # in every one of them the last tensor has a row for each class
    num_outputs = count_rows(state, head) or len(categories)
    if num_outputs != len(categories):
        network, categories = build(num_outputs), None
    load_state(network, state, weights, kind=called)
    return Classifier(network, called, categories, None, "classes", how, False)


def _published(name, called):
    """torchvision's entry for the weights that a name means; UserError for an unknown one."""
    architecture, _, entry = name.partition(".")
    if architecture not in list_networks():
        close = ", ".join(difflib.get_close_matches(architecture, list_networks()) or ["resnet50"])
        raise UserError(f"{called} is no classification network of torchvision; name one, such as {close}")
    entries = torchvision.models.get_model_weights(architecture)
    if not entry:
        return entries.DEFAULT
    if entry not in entries.__members__:
        names = ", ".join(f"{architecture}.{each.name}" for each in entries)
        raise UserError(f"torchvision has no weights {called}; name {names}")
    return entries[entry]


def _preprocessing(transform):
    """Preprocessing of torchvision's ImageClassification transform."""
    side, crop = transform.resize_size[0], transform.crop_size[0]
    mean, std = tuple(transform.mean), tuple(transform.std)
    return Preprocessing((side, side), (crop, crop), mean, std, transform.interpolation.value)


def todays_names(state, wanted):
    """A published state dict with the names of today's network, as torchvision itself loads it."""
    today = {_OLD_DENSE_LAYER.sub(r"\1\2", str(name)): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in today.items() if name in wanted or not name.startswith(_AUXILIARY)}
