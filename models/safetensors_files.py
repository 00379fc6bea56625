"""Safetensors files: tensors by name, and a header of texts. Nothing in one can run.

Ours say in the header, each as JSON, what a file of torch.save holds besides tensors: the flags of a diffusion
model; the architecture, the attributes and the image size of a classifier.
"""

import json

from guided_diffusion.script.errors import hub_package


def is_safetensors(head):
    """Whether a file that begins with these bytes is one: the header's length in 8 bytes, of which 4 are always 0,
    and the header, a JSON object."""
    return head[4:9] == bytes(4) + b"{"


def read_safetensors(path):
    """Two dicts: name -> tensor on the CPU, and name -> what the header says, as far as that is JSON.

    Raises the library's errors for a damaged file, and UserError where the library is missing.
    """
    with hub_package(path):
        from safetensors import safe_open
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        texts = file.metadata() or {}
    return tensors, {name: value for name, text in texts.items() if (value := _from_json(text)) is not None}


def _from_json(text):
    try:
        return json.loads(text)
    except ValueError:
        return None
