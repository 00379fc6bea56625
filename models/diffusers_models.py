"""Models in diffusers' format, a folder or a name on the Hub: what their files say, the network, and its diffusion.

The network is wrapped, not converted. Of the scheduler only the process is read that the network was trained on:
the betas, what is predicted, the variance, and whether clean images are clipped. Which steps are taken, and how, is
chosen as for any other model.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from guided_diffusion.gaussian_diffusion import LossType, ModelMeanType, ModelVarType
from guided_diffusion.respace import SpacedDiffusion, space_timesteps
from guided_diffusion.script.errors import UserError, as_user_error, hub_package, require_file

from .checkpoints import load_state, read_state
from .downloads import hub_folder

NETWORKS = ("unet/config.json", "config.json")
SCHEDULERS = ("scheduler/scheduler_config.json", "scheduler_config.json")
SAFE, PICKLED = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"  # weights, beside a network's
PIPELINES = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline")  # whose networks make images, not latents or scores
SCHEDULER_CLASSES = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler")
PREDICTIONS = {
    "epsilon": ModelMeanType.EPSILON,
    "sample": ModelMeanType.START_X,
    "v_prediction": ModelMeanType.VELOCITY,
}
VARIANCES = {
    "fixed_small": ModelVarType.FIXED_SMALL,
    "fixed_small_log": ModelVarType.FIXED_SMALL,  # the same number by way of its logarithm
    "fixed_large": ModelVarType.FIXED_LARGE,
    "learned_range": ModelVarType.LEARNED_RANGE,
}
# Of a network and a process that can be made: larger numbers are damaged ones, and would take all memory.
MOST = {"layers_per_block": 64, "block_out_channels": 2**14, "norm_num_groups": 2**14}
MOST_STEPS = 10**5
# What diffusers called the layers of attention before its version 0.18.
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class DiffusersModel:
    """What the files of a diffusers model say, checked."""

    name: str  # of the folder or on the Hub, as the user wrote it
    files: tuple  # what decides what is computed: the configurations of network and scheduler, and the weights
    config: dict  # of the UNet2DModel
    betas: np.ndarray  # (T,) float64
    mean_type: ModelMeanType  # what the network predicts
    var_type: ModelVarType
    clip: bool | None  # whether clean images are clipped to [-1, 1]; None where the files do not say
    image_size: int | None  # pixels that the network was trained on; None where the files do not say
    num_classes: int | None  # None where it is not class-conditional

    @property
    def flags(self):
        """The model and diffusion flags that the files decide: flag -> value."""
        flags = {
            "image_size": self.image_size,
            "class_cond": self.num_classes is not None,
            "num_classes": self.num_classes,
            "multiclass": None if self.num_classes is None else False,
            "learn_sigma": self.var_type is ModelVarType.LEARNED_RANGE,
            "diffusion_steps": len(self.betas),
            "predict_xstart": self.mean_type is ModelMeanType.START_X,
            "rescale_timesteps": False,
        }
        return {name: value for name, value in flags.items() if value is not None}


def find_diffusers_model(name):
    """The DiffusersModel that a path or a Hub name means; None where it means a file.

    A Hub name that was used before needs no internet. UserError for what is not there, is damaged, or cannot be
    mapped to our diffusion, with the name of what that is.
    """
    places = [[str(Path(config).parent / weights) for config in NETWORKS] for weights in (SAFE, PICKLED)]
    folder = hub_folder(name, ("model_index.json", *NETWORKS, *SCHEDULERS), *places)
    if folder is None:
        return None
    pipeline = folder / "model_index.json"
    if pipeline.exists():
        reason = f"its network must make images, as that of a {' or '.join(PIPELINES)} does"
        _Config(pipeline).one_of("_class_name", PIPELINES, reason)
    remedy = "give one that has it, or the weight file inside it"
    network = _first_of(folder, NETWORKS, f"{name} is a directory without a diffusers network", remedy)
    scheduler = _first_of(folder, SCHEDULERS, f"{name} has no scheduler", "put the one of its training there")
    weights = _first_of(
        network.parent, (SAFE, PICKLED), f"{network.parent} has no weights", "copy or download it again"
    )
    of_process = _read_process(_Config(scheduler), name)
    of_network = _read_network(_Config(network), of_process["var_type"])
    return DiffusersModel(name=str(name), files=(network, scheduler, weights), **of_process, **of_network)


def _read_network(config, var_type):
    config.one_of("_class_name", ("UNet2DModel",), "the network must be a UNet2DModel")
    config.one_of("in_channels", (3,), "images have 3 channels", default=3)
    outputs = 6 if var_type is ModelVarType.LEARNED_RANGE else 3
    config.one_of("out_channels", (outputs,), f"a variance_type {var_type.name.lower()} needs {outputs}", default=3)
    config.one_of("time_embedding_type", ("positional", "learned"), "timesteps are whole numbers", "positional")
    config.one_of("class_embed_type", (None,), "num_class_embeds alone says the number of classes")
    for key, most in MOST.items():
        config.count(key, most)
    size = config.count("sample_size", 2**13)
    height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)
    if height != width:
        raise config.unmappable("sample_size", size, "images are squares of so many pixels")
    return {"config": config.values, "image_size": height, "num_classes": config.count("num_class_embeds", 10**5)}


def _read_process(config, name):
    config.count("num_train_timesteps", MOST_STEPS)
    config.one_of("_class_name", SCHEDULER_CLASSES, "save the betas of the training as a DDPMScheduler's")
    config.one_of("thresholding", (False,), "clean images are clipped to [-1, 1]", default=False)
    clip = config.values.get("clip_sample")
    if clip:
        config.one_of("clip_sample_range", (1,), "clean images are clipped to [-1, 1]", default=1)
    config.one_of("rescale_betas_zero_snr", (False,), "its last step holds nothing of the image", default=False)
    prediction = config.one_of("prediction_type", PREDICTIONS, f"it must be {', '.join(PREDICTIONS)}", "epsilon")
    # DDIM's scheduler and PNDM's name no variance, and need none.
    variance = config.one_of("variance_type", VARIANCES, f"it must be {', '.join(VARIANCES)}", "fixed_small")
    return {
        "betas": _read_betas(config, name),
        "mean_type": PREDICTIONS[prediction],
        "var_type": VARIANCES[variance],
        "clip": clip,
    }


def _read_betas(config, name):
    """The scheduler's own betas, (T,) float64."""
    with hub_package(name):
        import diffusers
    with as_user_error(f"{config.path} makes no scheduler", "correct it"):
        scheduler = getattr(diffusers, config.values["_class_name"]).from_config(config.values)
    betas, steps = scheduler.betas.double().numpy(), scheduler.config.num_train_timesteps
    if betas.shape != (steps,) or not len(betas) or not ((0 < betas) & (betas < 1)).all():
        raise UserError(f"{config.path} must give betas between 0 and 1, {steps} (num_train_timesteps); correct it")
    return betas


class _Config:
    """A configuration file: its values, which are refused by their names."""

    def __init__(self, path):
        self.path, unreadable = path, (OSError, ValueError, RecursionError)
        require_file(path)
        with as_user_error(f"{path} cannot be read", "copy or download it again", unreadable):
            self.values = json.loads(path.read_text())
        if not isinstance(self.values, dict):
            raise UserError(f"{path} is no JSON object; copy or download it again")

    def one_of(self, key, allowed, reason, default=None):
        """The value of a key; UserError with the reason where it is none of the allowed ones."""
        value = self.values.get(key, default)
        if value not in tuple(allowed):
            raise self.unmappable(key, value, reason)
        return value

    def count(self, key, most):
        """The whole number of a key, or each of a list; None where it is not there. UserError beyond 1 and most."""
        value = self.values.get(key)
        for number in value if isinstance(value, list) else [value]:
            if number is not None and not (type(number) is int and 1 <= number <= most):
                raise self.unmappable(key, value, f"it must be a whole number from 1 to {most}")
        return value

    def unmappable(self, key, value, reason):
        return UserError(f"{self.path} says {key} {value}, which cannot be mapped: {reason}")


def _first_of(folder, names, fault, remedy):
    """The first of these files that is in a folder; UserError where none is."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{fault} ({' or '.join(names)}); {remedy}")


class DiffusersNetwork(nn.Module):
    """A UNet2DModel, called as our UNet is.

    forward: z (N, 3, H, W) float32; timesteps (N,) of the full schedule; y (N,) classes of a class-conditional one
    -> (N, 3, H, W) float32, or (N, 6, H, W) with a learned variance.
    """

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, z, timesteps, y=None):
        return self.network(z, timesteps, class_labels=y).sample


def load_diffusers_network(model, image_size):
    """A DiffusersModel -> its DiffusersNetwork, in eval mode.

    UserError where its weights do not fit its configuration, or it does not take images of image_size pixels.
    """
    with hub_package(model.name):
        from diffusers import UNet2DModel
    config, _, weights = model.files
    with as_user_error(f"{config} makes no UNet2DModel", "correct it"):
        network = UNet2DModel.from_config(model.config)
    halvings = len(network.config.block_out_channels) - 1
    if image_size % 2**halvings:
        raise UserError(
            f"--image_size {image_size} cannot be halved {halvings} times, as {model.name} does; "
            f"give a multiple of {2**halvings}"
        )
    state = {_new_name(name): tensor for name, tensor in read_state(weights, "a UNet2DModel").items()}
    return DiffusersNetwork(load_state(network, state, weights, kind="UNet2DModel")).eval()


def diffusers_diffusion(model, timestep_respacing=""):
    """The SpacedDiffusion of a DiffusersModel; timestep_respacing as in create_gaussian_diffusion."""
    steps = len(model.betas)
    timesteps = space_timesteps(steps, timestep_respacing or str(steps))
    return SpacedDiffusion(model.betas, timesteps, model.mean_type, model.var_type, LossType.MSE)


def _new_name(name):
    """The name of today of a tensor in attention: `….attentions.0.query.weight` is `….attentions.0.to_q.weight`."""
    *place, layer, kind = name.split(".")
    return ".".join([*place, OLD_NAMES[layer], kind]) if layer in OLD_NAMES and "attentions" in place else name
