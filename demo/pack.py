"""Make a small weight file from a trained one: half precision, without the state of the training.

python -m demo.pack --trained DIR/ema_0.999_004000.pt --shipped models/demo/faces_ddpm.pt
"""

from pathlib import Path

import torch

from guided_diffusion.flags import Flag, FlagParser
from guided_diffusion.script_util import require_flags, run_script
from guided_diffusion.weight_files import save_aside
from models.checkpoints import attach_flags, flags_of, read_weights

FLAGS = {
    "trained": Flag(None, "a weight file of one of the training scripts"),
    "shipped": Flag(None, "the file to write, .pt or .safetensors"),
}
REQUIRED = ("trained", "shipped")
KEPT = ("architecture", "attributes", "task", "image_size", "feat_extract", "classifier", "state_dict")


def pack(contents):
    """The contents of a weight file, of a diffusion model or a classifier -> the same with float16 weights."""
    flags = flags_of(contents)
    if "architecture" in contents:
        return {name: _halved(contents[name]) for name in KEPT if name in contents}
    return attach_flags(_halved(contents), flags) if flags else _halved(contents)


def _halved(value):
    if isinstance(value, dict):
        return {name: _halved(each) for name, each in value.items()}
    return value.half() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args = create_argparser().parse_args()
    require_flags(args, *REQUIRED)
    contents = pack(read_weights(args.trained))
    Path(args.shipped).parent.mkdir(parents=True, exist_ok=True)
    save_aside(contents, args.shipped)
    print(f"{args.shipped}: {Path(args.shipped).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    run_script(main)
