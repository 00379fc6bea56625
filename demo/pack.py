"""Make a small weight file from a trained one: half precision, without the state of the training.

python -m demo.pack --trained DIR/ema_0.999_004000.pt --shipped models/demo/faces_ddpm.pt
"""

from pathlib import Path

import torch

from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag, FlagParser, check_flags
from guided_diffusion.script.run import require_flags, run_script
from guided_diffusion.script_util import create_model
from guided_diffusion.training.weight_files import save_aside
from models.checkpoints import attach_flags, flags_of, read_weights

FLAGS = {
    "trained": Flag(None, "a weight file of one of the training scripts"),
    "shipped": Flag(None, "the file to write, .pt or .safetensors"),
    "norm_groups": Flag(
        0,
        "what a diffusion model's file says of its norms, for a training that goes on with others",
        low=0,
        high=4096,
    ),
}
REQUIRED = ("trained", "shipped")
KEPT = ("architecture", "attributes", "task", "image_size", "feat_extract", "classifier", "state_dict")


def pack(contents, changes=None):
    """The contents of a weight file, of a diffusion model or a classifier -> the same with float16 weights.

    changes: flags that a diffusion model's file carries in place of its own.
    """
    flags = flags_of(contents)
    if "architecture" in contents:
        return {name: _halved(contents[name]) for name in KEPT if name in contents}
    return attach_flags(_halved(contents), flags | (changes or {})) if flags else _halved(contents)


def _halved(value):
    if isinstance(value, dict):
        return {name: _halved(each) for name, each in value.items()}
    return value.half() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def regrouped(contents, norm_groups, path):
    """The flag that changes; UserError where the network of these contents cannot have so many norm groups."""
    flags = flags_of(contents)
    if not flags or "architecture" in contents:
        raise UserError(
            f"--norm_groups {norm_groups}: {path} is no diffusion model that carries flags; leave it out"
        )
    changed = {"norm_groups": norm_groups}
    create_model(**flags | changed)
    return changed


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    require_flags(args, *REQUIRED)
    trained = read_weights(args.trained)
    contents = pack(trained, regrouped(trained, args.norm_groups, args.trained) if args.norm_groups else {})
    Path(args.shipped).parent.mkdir(parents=True, exist_ok=True)
    save_aside(contents, args.shipped)
    print(f"{args.shipped}: {Path(args.shipped).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    run_script(main)
