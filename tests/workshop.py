"""What the tests of the scripts share: small data and weights on disk, and running a script as a user would."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from core.data.datasets import CELEBA_ATTRIBUTES
from guided_diffusion.script_util import create_model
from models.checkpoints import attach_flags

ROOT = Path(__file__).parent.parent
MODEL_FLAGS = {
    "image_size": 16,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1,1",
    "attention_resolutions": "8",
    "num_heads": 2,
    "resblock_updown": True,
    "learn_sigma": True,
    "diffusion_steps": 40,
    "noise_schedule": "linear",
}
SMILING = CELEBA_ATTRIBUTES.index("Smiling")


class Brightness(torch.nn.Module):
    """A classifier of 40 attributes, each of them "the image is brighter than a threshold"."""

    def __init__(self, num_outputs):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((num_outputs,), 20.0))
        self.threshold = torch.nn.Parameter(torch.linspace(-0.1, 0.1, num_outputs))

    def forward(self, images):
        return self.scale * (images.mean((1, 2, 3))[:, None] - self.threshold)


def write_data(root, counts=(0, 8, 0)):
    """A CelebA of `counts` train, val and test images, some brighter, some darker, Smiling where bright."""
    (root / "img_align_celeba").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names, splits, labels = [], [], []
    for split, count in enumerate(counts):
        for _ in range(count):
            names.append(f"{len(names):06d}.png")
            level = rng.integers(90, 165)
            pixels = np.clip(level + rng.normal(0, 30, (5, 4, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).resize((18, 22)).save(root / "img_align_celeba" / names[-1])
            splits.append(split)
            labels.append([1 if level > 127 else -1] * 40)
    _write_csv(root / "list_attr_celeba.csv", [["image_id", *CELEBA_ATTRIBUTES]] + [
        [name, *row] for name, row in zip(names, labels, strict=True)])  # fmt: skip
    _write_csv(root / "list_eval_partition.csv", [["image_id", "partition"], *zip(names, splits, strict=True)])
    return root


def _write_csv(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_weights(root):
    """ddpm.pt and classifier.pt, of random weights and of Brightness."""
    torch.manual_seed(0)
    unet = create_model(**MODEL_FLAGS)
    for parameter in unet.parameters():
        if not parameter.any():  # what begins at zero, so that every layer matters
            torch.nn.init.normal_(parameter, std=0.02)
    torch.save(attach_flags(unet.state_dict(), MODEL_FLAGS), root / "ddpm.pt")
    classifier = {
        "architecture": "workshop:Brightness",
        "attributes": list(CELEBA_ATTRIBUTES),
        "image_size": 16,
        "state_dict": Brightness(40).state_dict(),
    }
    torch.save(classifier, root / "classifier.pt")
    return root


def as_argv(flags):
    """name -> value as words of a command line."""
    return [word for name, value in flags.items() for word in (f"--{name}", str(value))]


def environment(**extra):
    """One thread a process, and the tests' modules importable, as in this process."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **extra}


def start_script(script, flags, **extra):
    """A root script as a process of its own."""
    command = [sys.executable, str(ROOT / script), *as_argv(flags)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**extra)
    )


def run_script(script, flags, **extra):
    """Runs a root script to its end -> (exit code, stdout, stderr)."""
    process = start_script(script, flags, **extra)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def contents(root):
    """Every file below a folder: relative path -> bytes."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*"))
            if path.is_file() and not path.name.endswith("lock")}


def logged(folder):
    """The rows of progress.csv without what depends on the machine's mood."""
    with open(folder / "progress.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name not in ("images_per_s", "memory_mib")}
                for row in csv.DictReader(file)]  # fmt: skip
