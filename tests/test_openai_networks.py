"""OpenAI's published ImageNet networks, by their published flags: names and shapes of every tensor.

The files are gigabytes, and none was opened for these tests. Their names and shapes are written out below, from
guided-diffusion's layout, a second time and without UNetModel. What is written out is held against the manifest of
the published CelebA network, which has that layout, and against the sizes that Dhariwal & Nichol 2021 give.
"""

import json
from itertools import count

import pytest
import torch
from golden import REFERENCE
from test_checkpoints import CELEBA

from guided_diffusion.script_util import create_gaussian_diffusion, create_model, model_and_diffusion_defaults
from models.diffusion_flags import disagreements, infer_flags

COMMON = {
    "attention_resolutions": "32,16,8",
    "diffusion_steps": 1000,
    "learn_sigma": True,
    "noise_schedule": "linear",
    "num_head_channels": 64,
    "num_res_blocks": 2,
    "resblock_updown": True,
    "use_fp16": True,
    "use_scale_shift_norm": True,
}
# --num_classes and --multiclass are this project's: guided-diffusion has 1,000 classes, one an image, and no flag.
OF_IMAGENET = {"class_cond": True, "num_classes": 1000, "multiclass": False}
PUBLISHED = {
    "256x256_diffusion_uncond": COMMON | {"image_size": 256, "num_channels": 256, "class_cond": False},
    "256x256_diffusion": COMMON | {"image_size": 256, "num_channels": 256} | OF_IMAGENET,
    "512x512_diffusion": COMMON | {"image_size": 512, "num_channels": 256} | OF_IMAGENET,
    # No file of OpenAI's: what others made of 512x512_diffusion by training on without classes.
    "512x512 without classes": COMMON | {"image_size": 512, "num_channels": 256, "class_cond": False},
    "64x64_diffusion": COMMON
    | OF_IMAGENET
    | {
        "image_size": 64,
        "num_channels": 192,
        "num_res_blocks": 3,
        "dropout": 0.1,
        "noise_schedule": "cosine",
        "use_new_attention_order": True,
    },
}
WIDTHS = {512: (0.5, 1, 1, 2, 2, 4, 4), 256: (1, 1, 2, 2, 4, 4), 128: (1, 1, 2, 3, 4), 64: (1, 2, 3, 4)}
# Dhariwal & Nichol 2021, hyperparameters: ADM of ImageNet, class-conditional.
MILLIONS = {"64x64_diffusion": 296, "256x256_diffusion": 554, "512x512_diffusion": 559}


def manifest(flags):
    """name -> shape of every tensor of a network with resblock_updown and use_scale_shift_norm."""
    shapes, width = {}, flags["num_channels"]

    def layer(name, *shape):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = list(shape), [shape[0]]

    def res_block(name, channels, out):
        layer(f"{name}.in_layers.0", channels)
        layer(f"{name}.in_layers.2", out, channels, 3, 3)
        layer(f"{name}.emb_layers.1", 2 * out, 4 * width)
        layer(f"{name}.out_layers.0", out)
        layer(f"{name}.out_layers.3", out, out, 3, 3)
        if channels != out:
            layer(f"{name}.skip_connection", out, channels, 1, 1)

    def attention(name, channels):
        layer(f"{name}.norm", channels)
        layer(f"{name}.qkv", 3 * channels, channels, 1)
        layer(f"{name}.proj_out", channels, channels, 1)

    levels = [int(multiple * width) for multiple in WIDTHS[flags["image_size"]]]
    attended = [
        str(flags["image_size"] // 2**level) in flags["attention_resolutions"].split(",")
        for level in range(len(levels))
    ]
    layer("time_embed.0", 4 * width, width)
    layer("time_embed.2", 4 * width, 4 * width)
    if flags.get("class_cond"):
        shapes["label_emb.weight"] = [flags["num_classes"], 4 * width]

    layer("input_blocks.0.0", levels[0], 3, 3, 3)
    channels, skips, numbers = levels[0], [levels[0]], count(1)
    for level, out in enumerate(levels):
        for _ in range(flags["num_res_blocks"]):
            name = f"input_blocks.{next(numbers)}"
            res_block(f"{name}.0", channels, out)
            if attended[level]:
                attention(f"{name}.1", out)
            channels = out
            skips.append(channels)
        if level < len(levels) - 1:
            res_block(f"input_blocks.{next(numbers)}.0", channels, channels)
            skips.append(channels)

    res_block("middle_block.0", channels, channels)
    attention("middle_block.1", channels)
    res_block("middle_block.2", channels, channels)

    numbers = count()
    for level, out in reversed(list(enumerate(levels))):
        for block in range(flags["num_res_blocks"] + 1):
            name = f"output_blocks.{next(numbers)}"
            res_block(f"{name}.0", channels + skips.pop(), out)
            channels = out
            if attended[level]:
                attention(f"{name}.1", channels)
            if level and block == flags["num_res_blocks"]:
                res_block(f"{name}.{2 if attended[level] else 1}", channels, channels)
    layer("out.0", channels)
    layer("out.2", 6, levels[0], 3, 3)
    return shapes


def parameters(shapes):
    return sum(torch.Size(shape).numel() for shape in shapes.values())


def test_the_layout_is_that_of_a_published_file():
    entries = json.loads((REFERENCE / "ddpm_celeba128.json").read_text())
    assert manifest(CELEBA) == {name: shape for name, (shape, _) in entries.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_network_has_these_tensors_under_its_published_flags(name):
    with torch.device("meta"):
        state = create_model(**model_and_diffusion_defaults() | PUBLISHED[name]).state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == manifest(PUBLISHED[name])
    create_gaussian_diffusion(**{flag: PUBLISHED[name][flag] for flag in ("diffusion_steps", "noise_schedule")})


def test_published_networks_are_as_large_as_the_paper_says_and_unconditional_ones_lack_the_classes_alone():
    for name, millions in MILLIONS.items():
        assert round(parameters(manifest(PUBLISHED[name])) / 1e6) == millions
    for size in (256, 512):
        flags = COMMON | {"image_size": size, "num_channels": 256}
        with_classes, without = manifest(flags | OF_IMAGENET), manifest(flags)
        assert with_classes.keys() - without.keys() == {"label_emb.weight"}
        assert parameters(with_classes) - parameters(without) == 1000 * 1024


@pytest.mark.parametrize("name", PUBLISHED)
def test_flags_are_held_against_a_file_of_these_tensors(name):
    """As load_diffusion holds them: the published ones agree, others are named."""
    flags = model_and_diffusion_defaults() | PUBLISHED[name]
    shapes = {name: torch.empty(shape, device="meta") for name, shape in manifest(flags).items()}
    inferred = infer_flags(shapes, flags["image_size"])
    assert inferred and disagreements(flags, inferred) == []
    for flag, value in {"num_channels": 128, "attention_resolutions": "16,8", "learn_sigma": False}.items():
        assert flag in [each for each, _, _ in disagreements(flags | {flag: value}, inferred)]
    if flags["class_cond"]:
        # The defaults, CelebA's 40 attributes, are not ImageNet's 1,000 classes.
        wrong = disagreements(flags | {"num_classes": 40, "multiclass": True}, inferred)
        assert {flag for flag, _, _ in wrong} == {"num_classes", "multiclass"}
