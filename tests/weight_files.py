"""What the tests of models/ share: the published checkpoints rebuilt, and refusals read."""
import json
from pathlib import Path

import pytest
import torch
from reference_weights import deterministic_tensor

REFERENCE = Path(__file__).parent / "reference"


def published(name):
    """reference/<name>.json (names, shapes, dtypes) -> such a checkpoint, with deterministic values."""
    return _filled(json.loads((REFERENCE / f"{name}.json").read_text()))


def _filled(entries):
    return {
        name: _filled(entry) if isinstance(entry, dict) else _tensor(name, *entry)
        for name, entry in entries.items()
    }


def _tensor(name, shape, dtype):
    return deterministic_tensor(name, torch.empty(shape, dtype=getattr(torch, dtype)))


def to_half(contents):
    """The contents with floating tensors in float16, as shipped weights are stored."""
    if isinstance(contents, dict):
        return {name: to_half(entry) for name, entry in contents.items()}
    return contents.half() if contents.is_floating_point() else contents


def refusal(error, function, *arguments):
    """The message of the error that function(*arguments) must raise: one line."""
    with pytest.raises(error) as caught:
        function(*arguments)
    message = str(caught.value)
    assert message and "\n" not in message
    return message
