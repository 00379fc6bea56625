"""Train a DDPM on CelebA, a folder of images, or the images that a csv lists."""

import guided_diffusion.script.guard  # noqa: F401

from functools import partial

import blobfile as bf
import torch

from core.data.loading import TRAINING_DATA_FLAGS, load_training_data, require_labels
from core.data.sheets import sample_sheet
from guided_diffusion.script.flags import Flag, FlagParser, group_flags
from guided_diffusion.script.run import run_script
from guided_diffusion.script_util import (
    DIFFUSION_FLAGS,
    MODEL_FLAGS,
    MOST_STEPS,
    args_to_dict,
    create_gaussian_diffusion,
    create_model_and_diffusion,
    model_and_diffusion_defaults,
)
from guided_diffusion.training.batches import Batches, loading_options
from guided_diffusion.training.checkpoint_folder import complete_steps
from guided_diffusion.training.flags import GPUS, TRAIN_FLAGS, connect_trainer
from guided_diffusion.training.loop import TrainLoop
from guided_diffusion.training.objectives import DenoisingObjective
from guided_diffusion.training.resample import SAMPLERS
from models.checkpoints import attach_flags, load_diffusion

RESUME_CHECKPOINT = Flag(
    None,
    "weights to begin from, of this project, DiME or OpenAI; an output_path that already has checkpoints goes on "
    "from those",
)
OUTPUT_FLAGS = {
    "output_path": Flag(None, "where checkpoints, progress.csv and sheets of samples go"),
    "sample_steps": Flag(
        50,
        "steps of the samples drawn at each checkpoint, at most --diffusion_steps; 0: draw none",
        low=0,
        high=MOST_STEPS,
    ),
}
FLAGS = group_flags(
    data=TRAINING_DATA_FLAGS,
    networks={"resume_checkpoint": RESUME_CHECKPOINT} | MODEL_FLAGS | DIFFUSION_FLAGS,
    training={"schedule_sampler": Flag("uniform", "which timesteps to train on", choices=SAMPLERS)} | TRAIN_FLAGS,
    output=OUTPUT_FLAGS,
    speed={"gpus": GPUS},
)
SAMPLES = 16  # of each sheet


def create_argparser():
    return FlagParser(__doc__, FLAGS, ("data_dir", "output_path"))


def main():
    args = create_argparser().parse_args()
    ranks, device = connect_trainer(args)
    flags = args_to_dict(args, model_and_diffusion_defaults())
    torch.manual_seed(args.seed)
    model, diffusion = create_model_and_diffusion(**flags)
    if args.resume_checkpoint and not complete_steps(args.output_path):
        load_diffusion(model, args.resume_checkpoint, flags).train()
    [dataset] = load_training_data(args.data_dir, ["train"], args.image_size, ranks, args.decoded_dir)
    condition = None
    if args.class_cond:
        require_labels(dataset, args.data_dir, args.num_classes, one_each=not args.multiclass)
        condition = partial(conditions, multiclass=args.multiclass)

    def draw_samples(step, ema_model):
        if not ranks.first:
            return
        steps = str(min(args.sample_steps, args.diffusion_steps))
        spaced = create_gaussian_diffusion(**args_to_dict(args, DIFFUSION_FLAGS) | {"timestep_respacing": steps})
        network = ema_model.eval()
        if condition:
            indices = torch.arange(SAMPLES) * len(dataset) // SAMPLES  # spread out, as folders are sorted by class
            network = partial(network, y=condition(dataset.labels[indices]).to(device))
        path = bf.join(args.output_path, f"samples{step:06d}.png")
        print(f"drawing {SAMPLES} samples in {steps} steps each: {path}", flush=True)
        sample_sheet(spaced, network, args.image_size, path, device, SAMPLES)

    TrainLoop(
        model=model,
        batches=partial(Batches, dataset, **loading_options(args), device=device, ranks=ranks, with_noise=True),
        objective=DenoisingObjective(diffusion, SAMPLERS[args.schedule_sampler](args.diffusion_steps), condition),
        output_path=args.output_path,
        device=device,
        named_state=lambda network: attach_flags(network.state_dict(), flags),
        on_save=draw_samples if args.sample_steps else None,
        ranks=ranks,
        flags=vars(args),
    ).run_loop()


def conditions(labels, multiclass):
    """labels (N, A) of 0/1 -> the y of a class-conditional network: the labels, or where `multiclass` is False the
    classes (N,) whose label is 1."""
    return labels.float() if multiclass else labels.argmax(1)


if __name__ == "__main__":
    run_script(main, hint="the same command goes on from the last checkpoint")
