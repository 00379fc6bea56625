"""Train a small UNet2DModel of diffusers on a folder of images, and save it as diffusers does.

    python -m demo.digits_ddpm --data_dir DIR/images --output_path DIR/ddpm

DIR/ddpm/pipeline is then a --model_path of main.py. Network, scheduler and format are diffusers'; the training loop
is that of celeba-train-diffusion.py, so a training that was stopped goes on.
"""

from functools import partial
from pathlib import Path

import torch

from core.data.loading import TRAINING_DATA_FLAGS, load_training_data
from guided_diffusion.dist_util import pick_device
from guided_diffusion.script.errors import hub_package
from guided_diffusion.script.flags import GPU, Flag, FlagParser, group_flags, with_defaults
from guided_diffusion.script.run import run_script
from guided_diffusion.script_util import create_gaussian_diffusion
from guided_diffusion.training.batches import Batches, loading_options
from guided_diffusion.training.flags import TRAIN_FLAGS, check_train_flags
from guided_diffusion.training.loop import TrainLoop
from guided_diffusion.training.objectives import DenoisingObjective
from guided_diffusion.training.resample import UniformSampler
from models.diffusers_models import DiffusersNetwork

STEPS = 500  # of the diffusion
SIZE = 16  # of the images in pixels
NETWORK = {
    "sample_size": SIZE,
    "block_out_channels": (32, 64, 64),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
}
SCHEDULER = {"num_train_timesteps": STEPS, "beta_schedule": "squaredcos_cap_v2"}  # the betas of "cosine" here
SCHEDULE = {"lr": 1e-3, "lr_warmup_steps": 100, "lr_anneal_steps": 1500}
FLAGS = group_flags(
    data=with_defaults(TRAINING_DATA_FLAGS, random_flip=False),
    training=with_defaults(TRAIN_FLAGS, **SCHEDULE, ema_rate="0.995", grad_clip=1.0, save_interval=500),
    output={"output_path": Flag(None, "where pipeline/, checkpoints and progress.csv go")},
    speed={"gpu": GPU},
)
REQUIRED = ("data_dir", "output_path")


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args = create_argparser().parse_args()
    check_train_flags(args)
    with hub_package("demo.digits_ddpm"):
        from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
    device = pick_device(args.gpu)
    [dataset] = load_training_data(args.data_dir, ["train"], SIZE)
    torch.manual_seed(args.seed)
    diffusion = create_gaussian_diffusion(diffusion_steps=STEPS, noise_schedule="cosine")
    sampler = UniformSampler(STEPS)

    def save_pipeline(step, ema_model):
        pipeline = DDPMPipeline(ema_model.network, DDPMScheduler(**SCHEDULER))
        pipeline.save_pretrained(Path(args.output_path) / "pipeline")

    TrainLoop(
        model=DiffusersNetwork(UNet2DModel(**NETWORK)),
        batches=partial(Batches, dataset, **loading_options(args), device=device, with_noise=True),
        objective=DenoisingObjective(diffusion, sampler),
        output_path=args.output_path,
        device=device,
        named_state=lambda model: model.state_dict(),
        on_save=save_pipeline,
        flags=vars(args),
    ).run_loop()


if __name__ == "__main__":
    run_script(main, hint="the same command goes on from the last checkpoint")
