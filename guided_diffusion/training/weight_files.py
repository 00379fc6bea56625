"""Weight files as a training writes them, and reads them back to go on: of torch.save, or safetensors."""

import json

import blobfile as bf
import torch

from ..script.errors import hub_package
from ..script.storage import write_file

SAVE_FORMATS = ("pt", "safetensors")  # --save_format, and the suffix of the files


def save_aside(content, path):
    """Saves content at path, which is always the old file or the new one, never a part (write_file).

    content: tensors and plain values in nested dicts. A path that ends in .safetensors decides the format.
    """
    if str(path).endswith(".safetensors"):
        write_file(path, lambda file: file.write(to_safetensors(content)))
    else:
        write_file(path, lambda file: torch.save(content, file))


def save_weights(content, directory, name, save_format):
    """save_aside as name.<save_format> in the folder. A file in the other format is out of date then, and goes."""
    save_aside(content, bf.join(directory, f"{name}.{save_format}"))
    for other in set(SAVE_FORMATS) - {save_format}:
        remove_if_there(bf.join(directory, f"{name}.{other}"))


def find_weights(directory, name):
    """The path of a file that save_weights wrote, in whichever format; None where there is none."""
    return next(filter(bf.exists, (bf.join(directory, f"{name}.{suffix}") for suffix in SAVE_FORMATS)), None)


def load_weights(path):
    """What was saved at path, its tensors on the CPU. Of safetensors: all tensors and values in one flat dict."""
    with bf.BlobFile(path, "rb") as file:
        if str(path).endswith(".safetensors"):
            return _from_safetensors(file.read())
        return torch.load(file, map_location="cpu", weights_only=True)


def remove_if_there(path):
    if bf.exists(path):
        bf.remove(path)


def to_safetensors(content):
    """The bytes of a safetensors file.

    The names of nested dicts are joined by dots, but for `state_dict`, whose names stay. Values that are no
    tensors, and the flags that a state dict carries in its metadata, go to the header as JSON.
    """
    save = require_safetensors("a .safetensors file").save
    tensors, about = {}, {}

    def collect(values, prefix):
        for name, value in values.items():
            if isinstance(value, dict):
                collect(value, "" if name == "state_dict" else f"{prefix}{name}.")
            elif isinstance(value, torch.Tensor):
                # A copy, since the format has neither other layouts nor tensors that share their memory.
                tensors[prefix + name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
            else:
                about[prefix + name] = json.dumps(value)

    collect(content, "")
    if "flags" in (carried := getattr(content, "_metadata", {}).get("", {})):
        about["flags"] = json.dumps(carried["flags"])
    return save(tensors, {"format": "pt", **about})  # "format" is what other libraries look for


def _from_safetensors(data):
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    about = {name: json.loads(text) for name, text in header.get("__metadata__", {}).items() if name != "format"}
    return about | require_safetensors("a .safetensors file").load(data)


def require_safetensors(user):
    """The module safetensors.torch; UserError, which begins with the user, where it is not installed."""
    with hub_package(user):
        import safetensors.torch
    return safetensors.torch
