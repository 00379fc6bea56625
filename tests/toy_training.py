"""Trainings of a tiny DDPM on ten random pictures, which may be killed."""

import pytest
import torch
from toy_networks import TINY_FLAGS, filled

from guided_diffusion.script_util import create_model_and_diffusion
from guided_diffusion.training.batches import Batches
from guided_diffusion.training.loop import TrainLoop
from guided_diffusion.training.objectives import DenoisingObjective
from guided_diffusion.training.resample import SAMPLERS

CPU = torch.device("cpu")


class Pictures:
    """A data set of ten small random pictures, the i-th of class i."""

    def __init__(self, size=10):
        rng = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (size, 3, 8, 8), dtype=torch.uint8, generator=rng)
        self.labels = torch.arange(size)[:, None]

    def __len__(self):
        return len(self.images)

    def pixels(self, i):
        return self.images[i]


class Killed(Exception):
    """Raised in the middle of a run, as a kill would end it."""


class Spoiled(DenoisingObjective):
    """Whose losses spoil(terms, step) changes."""

    def __init__(self, diffusion, sampler, spoil):
        super().__init__(diffusion, sampler)
        self.spoil = spoil

    def losses(self, network, batch):
        terms = super().losses(network, batch)
        self.spoil(terms, batch.step)
        return terms


def train(output_path, until, spoil=lambda terms, step: None, schedule_sampler="loss-second-moment", **flags):
    """A TrainLoop of a tiny DDPM, run and killed after `until` steps; 0: not run."""
    flags = {
        "lr": 1e-3,
        "batch_size": 4,
        "ema_rate": "0.5",
        "log_interval": 1,
        "save_interval": 1,
        "compile": "False",
    } | flags
    model_flags = TINY_FLAGS | {"dropout": 0.1, "learn_sigma": True, "diffusion_steps": 50}
    model, diffusion = create_model_and_diffusion(**model_flags)
    filled(model).train()

    def batches(start):
        for batch in Batches(Pictures(), flags["batch_size"], 0, start, random_flip=True):
            if batch.step == until != 0:
                raise Killed
            yield batch

    loop = TrainLoop(
        model,
        batches,
        Spoiled(diffusion, SAMPLERS[schedule_sampler](diffusion.num_timesteps), spoil),
        output_path,
        CPU,
        named_state=lambda network: network.state_dict(),
        flags=flags | {"schedule_sampler": schedule_sampler},
    )
    if until:
        with pytest.raises(Killed):
            loop.run_loop()
    if loop.lock:
        loop.lock.release()  # as the end of the process would
    return loop


def saved(folder, name, step):
    return torch.load(folder / f"{name}{step:06d}.pt", weights_only=True)


def names(folder):
    return sorted(path.name for path in folder.iterdir())
