"""A sheet of images that a diffusion model draws from nothing, for a card.

    python -m demo.samples --weights models/demo/faces_ddpm.pt --picture samples.png
"""

import argparse

from core.training.sheets import sample_sheet
from guided_diffusion.dist_util import pick_device
from guided_diffusion.errors import UserError
from guided_diffusion.script_util import (
    add_dict_to_argparser,
    check_ranges,
    create_model_and_diffusion,
    model_and_diffusion_defaults,
    require_flags,
    run_script,
)
from models.checkpoints import flags_of, load_diffusion, read_weights

FLAGS = {
    "weights": (None, "a weight file of celeba-train-diffusion.py, which carries its flags"),
    "picture": (None, "the PNG to write"),
    "count": (16, "how many images"),
    "timestep_respacing": ("100", "steps to sample with"),
    "seed": (0, "of the noise"),
    "gpu": ("0", "index of the GPU; without one the CPU is used"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    add_dict_to_argparser(parser, FLAGS)
    args = parser.parse_args()
    require_flags(args, "weights", "picture")
    check_ranges(args, {"count": (1, None), "seed": (0, None)})
    trained = flags_of(read_weights(args.weights))
    if not trained:
        raise UserError(f"{args.weights} carries no flags, so there is no telling what network it is of")
    flags = model_and_diffusion_defaults() | trained | {"timestep_respacing": args.timestep_respacing}
    device = pick_device(args.gpu)
    model, diffusion = create_model_and_diffusion(**flags)
    load_diffusion(model, args.weights, flags).requires_grad_(False).to(device).eval()
    print(f"drawing {args.count} images in {diffusion.num_timesteps} steps")
    sample_sheet(diffusion, model, flags["image_size"], args.picture, device, args.count, args.seed)
    print(args.picture)


if __name__ == "__main__":
    run_script(main)
