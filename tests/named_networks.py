"""Networks by their names, as the tests of classifiers need them: fixtures, images, and code that builds one."""

import sys

import pytest
import torch
import torchvision
from safetensors.torch import save_file

PIXELS = (255 * torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))).to(torch.uint8)
PIXELS = PIXELS.repeat_interleave(8, 2).repeat_interleave(8, 3)  # (2, 3, 72, 72)
IMAGES = PIXELS / 127.5 - 1
SAVE = {"pt": torch.save, "safetensors": save_file}


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Read-only: timm/ and vit/, as their libraries save a network; resnet18.pt and .safetensors of 4 classes."""
    from hub_folders import randomize, write_timm, write_transformers  # seconds, which few tests need

    root = tmp_path_factory.mktemp("folders")
    write_timm(root / "timm")
    write_transformers(root / "vit")
    state = randomize(torchvision.models.resnet18(num_classes=4)).state_dict()
    torch.save(state, root / "resnet18.pt")
    save_file(state, root / "resnet18.safetensors")
    return root


@pytest.fixture
def module(tmp_path, monkeypatch):
    """module(body of build()) -> `own_networks:build`; module.trace is there once it was imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(body, signature="build()"):
        trace = "Path(__file__).with_name('trace').touch()"
        imports = ["import torch", "from torch import nn", "from pathlib import Path"]
        lines = [*imports, trace, f"def {signature}:", *(f"    {line}" for line in body)]
        (tmp_path / "own_networks.py").write_text("\n".join(lines))
        return "own_networks:build"

    write.trace = tmp_path / "trace"
    yield write
    sys.modules.pop("own_networks", None)


def linear(num_outputs, *after):
    return [f"return nn.Sequential(nn.Flatten(), nn.Linear(3 * 72 * 72, {num_outputs}), {', '.join(after)})"]


def named_linear(num_outputs):
    return linear(num_outputs)[0].replace("return", "network =")
