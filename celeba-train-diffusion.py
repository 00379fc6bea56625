"""Train a DDPM on CelebA, a folder of images, or the images that a csv lists."""

import argparse
from functools import partial
from pathlib import Path

import torch

from core.sheets import sample_sheet
from core.training_data import TRAINING_DATA_FLAGS, load_training_data, require_labels
from guided_diffusion.dist_util import pick_device
from guided_diffusion.resample import SAMPLERS, create_named_schedule_sampler
from guided_diffusion.script_util import (
    DIFFUSION_FLAGS,
    MODEL_FLAGS,
    add_dict_to_argparser,
    args_to_dict,
    create_gaussian_diffusion,
    create_model_and_diffusion,
    model_and_diffusion_defaults,
    require_flags,
    run_script,
)
from guided_diffusion.train_data import Batches
from guided_diffusion.train_util import TRAIN_FLAGS, TrainLoop
from models.checkpoints import CheckpointError, attach_flags, load_diffusion

FLAGS = {
    "output_path": (None, "where checkpoints, progress.csv and sheets of samples go"),
    "gpus": ("0", "index of the GPU; without one the CPU is used"),
    "resume_checkpoint": (None, "weights to begin from, of this project, DiME or OpenAI; an output_path that"
                          " already has checkpoints goes on from those"),
    "schedule_sampler": ("uniform", f"which timesteps to train on: {' or '.join(SAMPLERS)}"),
    "sample_steps": (50, "steps of the samples drawn at each checkpoint; 0: draw none"),
}


def create_argparser():
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_dict_to_argparser(parser, TRAINING_DATA_FLAGS | FLAGS | TRAIN_FLAGS | MODEL_FLAGS | DIFFUSION_FLAGS)
    return parser


def main():
    args = create_argparser().parse_args()
    require_flags(args, "data_dir", "output_path")
    device = pick_device(args.gpus)
    flags = args_to_dict(args, model_and_diffusion_defaults())
    torch.manual_seed(args.seed)
    model, diffusion = create_model_and_diffusion(**flags)
    if args.resume_checkpoint:
        load_diffusion(model, args.resume_checkpoint, flags).train()
    sampler = create_named_schedule_sampler(args.schedule_sampler, diffusion.num_timesteps)
    [dataset] = load_training_data(args.data_dir, ["train"], args.image_size)
    if args.class_cond:
        require_labels(dataset, args.data_dir, args.num_classes)

    def loss_fn(network, batch):
        t, weights = (each.to(device) for each in sampler.sample(batch.uniforms()))
        y = {"y": batch.labels.float()} if args.class_cond else {}
        losses = diffusion.training_losses(partial(network, **y), batch.images, t, batch.normals())
        sampler.update_with_losses(t, losses["loss"].detach())
        return {name: term * weights for name, term in losses.items()}

    def draw_samples(step, ema_model):
        spaced = create_gaussian_diffusion(
            **args_to_dict(args, DIFFUSION_FLAGS) | {"timestep_respacing": str(args.sample_steps)}
        )
        path = Path(args.output_path) / f"samples{step:06d}.png"
        sample_sheet(spaced, ema_model.eval(), args.image_size, path, device)

    TrainLoop(
        model=model,
        batches=lambda start: Batches(
            dataset, args.batch_size, args.seed, start, args.random_flip, args.num_workers, device
        ),
        loss_fn=loss_fn,
        output_path=args.output_path,
        device=device,
        named_state=lambda network: attach_flags(network.state_dict(), flags),
        sampler=sampler,
        on_save=draw_samples if args.sample_steps and not args.class_cond else None,
        use_fp16=args.use_fp16,
        **args_to_dict(args, TRAIN_FLAGS),
    ).run_loop()


if __name__ == "__main__":
    run_script(main, CheckpointError)
