"""The published checkpoints rebuilt from their names, shapes and dtypes, with deterministic values."""

import json
from functools import cache

import torch
from golden import REFERENCE
from reference_weights import deterministic_tensor


def published(name):
    """reference/<name>.json (names, shapes, dtypes) -> such a checkpoint, with deterministic values."""
    return _filled(json.loads((REFERENCE / f"{name}.json").read_text()))


def _filled(entries):
    return {
        name: _filled(entry) if isinstance(entry, dict) else _tensor(name, entry[1], *entry[0])
        for name, entry in entries.items()
    }


@cache
def _tensor(name, dtype, *shape):
    """Kept, as several tests want the same networks; nobody may change it."""
    return deterministic_tensor(name, torch.empty(shape, dtype=getattr(torch, dtype)))


def saved(path, contents, **options):
    """torch.save(contents, path) -> path."""
    torch.save(contents, path, **options)
    return path


def to_half(contents):
    """The contents with floating tensors in float16, as shipped weights are stored."""
    if isinstance(contents, dict):
        return {name: to_half(entry) for name, entry in contents.items()}
    return contents.half() if contents.is_floating_point() else contents
