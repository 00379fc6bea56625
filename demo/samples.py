"""A sheet of images that a diffusion model samples from noise, for a model card.

python -m demo.samples --weights models/demo/faces_ddpm.pt --picture samples.png
"""

from dataclasses import replace
from pathlib import Path

import torch

from core.data.sheets import sample_sheet
from guided_diffusion.dist_util import half_precision, pick_device
from guided_diffusion.sampling import SamplingNetwork
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import GPU, SEED, Flag, FlagParser, check_flags
from guided_diffusion.script.run import require_flags, run_script
from guided_diffusion.script_util import DIFFUSION_FLAGS, create_model_and_diffusion, model_and_diffusion_defaults
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


def load_for_sampling(weights, timestep_respacing, device):
    """A weight file that carries its flags -> (SamplingNetwork, diffusion, the flags).

    It computes in half precision where that is fast and the flags say so. UserError for a file without flags.
    """
    trained = flags_of(read_weights(weights))
    if not trained:
        raise UserError(f"{weights} carries no flags, so its network is unknown; give a file that does")
    flags = model_and_diffusion_defaults() | trained | {"timestep_respacing": timestep_respacing}
    unet, diffusion = create_model_and_diffusion(**flags)
    load_diffusion(unet, weights, flags).requires_grad_(False).to(device).eval()
    dtype = half_precision(device) if flags["use_fp16"] else torch.float32
    return SamplingNetwork(unet, diffusion, dtype=dtype), diffusion, flags


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    require_flags(args, *REQUIRED)
    device = pick_device(args.gpu)
    network, diffusion, flags = load_for_sampling(args.weights, args.timestep_respacing, device)
    print(f"drawing {args.count} images in {diffusion.num_timesteps} steps")
    Path(args.picture).parent.mkdir(parents=True, exist_ok=True)
    sample_sheet(diffusion, network, flags["image_size"], args.picture, device, args.count, args.seed)
    print(args.picture)


if __name__ == "__main__":
    run_script(main)
