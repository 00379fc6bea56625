"""Networks by their names: `timm:NAME`, `torchvision:NAME`, `transformers:NAME-OR-FOLDER`, `module:function`."""

import re
from pathlib import Path

from guided_diffusion.script.errors import UserError

from .classifier import probe_classifier
from .from_code import load_code
from .from_timm import load_timm
from .from_torchvision import load_torchvision
from .from_transformers import load_transformers

LIBRARIES = {"timm": load_timm, "torchvision": load_torchvision, "transformers": load_transformers}


def load_by_name(path, architecture, weights, changes, image_size, run_code, role):
    """load_classifier where the path is a name of a network; None where it is a file.

    role: classifier or oracle, whose flags errors name.
    """
    prefix, colon, name = str(path).partition(":")
    from_library = colon and prefix in LIBRARIES
    if not from_library and (not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", str(path)) or Path(path).exists()):
        if weights is not None:
            raise UserError(
                f"--{role}_weights {weights} is for a network by name, such as timm:NAME, "
                f"but --{role}_path {path} is a file, which has its own; leave out one"
            )
        return None
    if architecture is not None:
        raise UserError(
            f"--{role}_architecture {architecture} is for a file, "
            f"but --{role}_path {path} is the name of a network; leave out one"
        )
    if not name:
        raise UserError(f"--{role}_path {path} names no network; write {prefix}:NAME")
    if from_library:
        classifier = LIBRARIES[prefix](name, weights, changes or {}, role)
    elif run_code:
        classifier = load_code(path, weights, changes or {})
    else:
        raise UserError(
            f"--{role}_path is {path} there, code that is run only where you name it: give --{role}_path {path}"
        )
    resized = classifier.preprocessing.resize is not None
    classifier.image_size = None if resized else image_size
    size = image_size or (64 if resized else None)
    if size is None:
        name = classifier.architecture
        raise UserError(f"{name} takes images at their own size, which is not known; give image_size")
    classifier.remark = ""
    num_outputs = probe_classifier(classifier, size, role, from_library).shape[1]
    if classifier.attributes is None:
        classifier.attributes = [str(index) for index in range(num_outputs)]
    elif len(classifier.attributes) != num_outputs:
        raise UserError(
            f"{path} names {len(classifier.attributes)} outputs, but makes {num_outputs}; let it name each"
        )
    if num_outputs == 1:  # a softmax over one class would say nothing: the logit's sign answers a yes/no question
        classifier.task = "attributes"
    return classifier
