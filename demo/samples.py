"""A sheet of images that a diffusion model samples from noise, for a model card.

python -m demo.samples --weights models/demo/faces_ddpm.pt --picture samples.png
"""

from dataclasses import replace

from core.training.sheets import sample_sheet
from guided_diffusion.dist_util import pick_device
from guided_diffusion.errors import UserError
from guided_diffusion.flags import GPU, SEED, Flag, FlagParser, check_flags
from guided_diffusion.script_util import (
    DIFFUSION_FLAGS,
    create_model_and_diffusion,
    model_and_diffusion_defaults,
    require_flags,
    run_script,
)
from models.checkpoints import flags_of, load_diffusion, read_weights

FLAGS = {
    "weights": Flag(None, "a weight file of celeba-train-diffusion.py, which carries its flags"),
    "picture": Flag(None, "the PNG to write"),
    "count": Flag(16, "how many images", low=1, high=10_000),
    "timestep_respacing": replace(DIFFUSION_FLAGS["timestep_respacing"], default="100"),
    "seed": SEED,
    "gpu": GPU,
}
REQUIRED = ("weights", "picture")


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    require_flags(args, *REQUIRED)
    trained = flags_of(read_weights(args.weights))
    if not trained:
        raise UserError(f"{args.weights} carries no flags, so its network is unknown; give a file that does")
    flags = model_and_diffusion_defaults() | trained | {"timestep_respacing": args.timestep_respacing}
    device = pick_device(args.gpu)
    model, diffusion = create_model_and_diffusion(**flags)
    load_diffusion(model, args.weights, flags).requires_grad_(False).to(device).eval()
    print(f"drawing {args.count} images in {diffusion.num_timesteps} steps")
    sample_sheet(diffusion, model, flags["image_size"], args.picture, device, args.count, args.seed)
    print(args.picture)


if __name__ == "__main__":
    run_script(main)
