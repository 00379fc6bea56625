"""Networks by their names: `timm:NAME`, `torchvision:NAME`, `transformers:NAME-OR-FOLDER`, `module:function`."""

import re
from pathlib import Path

import torch

from guided_diffusion.script.errors import UserError

from .classifier import Classifier
from .from_code import load_code
from .from_timm import load_timm
from .from_torchvision import load_torchvision
from .from_transformers import load_transformers
from .network import first_line, require_logits

LIBRARIES = {"timm": load_timm, "torchvision": load_torchvision, "transformers": load_transformers}


def is_named(path):
    """Whether a path is the name of a network, not a file."""
    prefix, colon, _ = str(path).partition(":")
    code = re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", str(path)) and not Path(path).exists()
    return bool(colon and prefix in LIBRARIES or code)


def require_no_weights(path, weights, role):
    """UserError where weights are given for a file, which has its own."""
    if weights is not None:
        raise UserError(
            f"--{role}_weights {weights} is for a network by name, such as timm:NAME, "
            f"but --{role}_path {path} is a file, which has its own; leave out one"
        )


def load_by_name(path, architecture, weights, changes, image_size, run_code, role):
    """load_classifier for a name, with the flags of the role, classifier or oracle, in its errors."""
    if architecture is not None:
        raise UserError(
            f"--{role}_architecture {architecture} is for a file, "
            f"but --{role}_path {path} is the name of a network; leave out one"
        )
    prefix, _, name = path.partition(":")
    if not name:
        raise UserError(f"--{role}_path {path} names no network; write {prefix}:NAME")
    if prefix not in LIBRARIES and not run_code:
        raise UserError(
            f"--{role}_path is {path} there, code that is run only where you name it: give --{role}_path {path}"
        )
    if prefix in LIBRARIES:
        loaded = LIBRARIES[prefix](name, weights, changes or {}, role)
    else:
        loaded = load_code(path, weights, changes or {})
    how = loaded.preprocessing
    own_size = image_size if how.resize is None else None
    classifier = Classifier(loaded.network, path, loaded.names, own_size, loaded.task, how, loaded.task_is_said)
    logits = _try(classifier, image_size or (how.resize and 64), role)
    num_outputs = logits.shape[1]
    if loaded.names is None:
        classifier.attributes = [str(index) for index in range(num_outputs)]
    elif len(loaded.names) != num_outputs:
        raise UserError(f"{path} names {len(loaded.names)} outputs, but makes {num_outputs}; let it name each")
    if num_outputs == 1:  # a softmax over one class would say nothing: the logit's sign answers a yes/no question
        classifier.task = "attributes"
    classifier.announced = True
    may_end_so = classifier.task == "attributes" or prefix not in LIBRARIES  # no library's classes end in sigmoids
    if may_end_so and ((logits >= 0) & (logits <= 1)).all():
        classifier.remark = "; it gives values from 0 to 1: if they are probabilities, leave out its last sigmoid"
    return classifier


@torch.no_grad()
def _try(classifier, size, role):
    """The logits of four images of a size; UserError, with the flags of the role, where it makes none."""
    name, preprocess = classifier.architecture, classifier.preprocess
    if size is None:
        raise UserError(f"{name} takes images at their own size, which is not known; give image_size")
    noise = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0)) - 0.5
    contrast, brightness = torch.tensor([[2, 1, 0.2, 1], [0, 0.5, 0, -0.5]]).view(2, 4, 1, 1, 1)
    images = noise * contrast + brightness
    try:
        output = classifier(images)
    except Exception as error:  # it may be anybody's code
        height, width = (images if preprocess is None else preprocess(images)).shape[2:]
        raise UserError(
            f"{name} does not take images of {height} x {width} ({first_line(error)}); "
            f"give --{role}_size, the pixels that it takes"
        ) from error
    return require_logits(output, name)
