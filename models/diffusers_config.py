"""What the files of a diffusers model say of its network and its diffusion: a folder, or a name on the Hub.

Of the scheduler only the process is read that the network was trained on: the betas, what is predicted, the
variance, and whether clean images are clipped. Which steps are taken, and how, is chosen as for any other model.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guided_diffusion.gaussian_diffusion import ModelMeanType, ModelVarType
from guided_diffusion.script.errors import UserError, first_sentence, hub_package

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


@dataclass(frozen=True)
class DiffusersModel:
    """What the files of a diffusers model say, checked."""

    name: str  # as it was given: a folder, or a name on the Hub
    files: tuple  # what decides what is computed: the configurations of network and scheduler, and the weights
    config: dict  # of the UNet2DModel
    betas: np.ndarray  # (T,) float64
    schedule: str  # what the files call these betas
    mean_type: ModelMeanType  # what the network predicts
    var_type: ModelVarType
    clip: bool | None  # whether clean images are clipped to [-1, 1]; None where the files do not say
    image_size: int | None  # pixels that the network was trained on; None where the files do not say
    num_classes: int | None  # None where it is not class-conditional

    @property
    def flags(self):
        """The model and diffusion flags that the files decide: flag -> value."""
        size = {} if self.image_size is None else {"image_size": self.image_size}
        classes = {} if self.num_classes is None else {"num_classes": self.num_classes, "multiclass": False}
        return (
            size
            | classes
            | {
                "class_cond": self.num_classes is not None,
                "learn_sigma": self.var_type is ModelVarType.LEARNED_RANGE,
                "diffusion_steps": len(self.betas),
                "predict_xstart": self.mean_type is ModelMeanType.START_X,
                "rescale_timesteps": False,
            }
        )


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
    network = _first_there(folder, NETWORKS)
    if network is None:
        raise UserError(
            f"{name} is a directory without a diffusers network ({' or '.join(NETWORKS)}); give one that has it, "
            "or the weight file inside it"
        )
    scheduler = _first_there(folder, SCHEDULERS)
    if scheduler is None:
        raise UserError(f"{name} has no scheduler ({' or '.join(SCHEDULERS)}); put the one of its training there")
    weights = _first_there(network.parent, (SAFE, PICKLED))
    if weights is None:
        raise UserError(f"{network.parent} has neither {SAFE} nor {PICKLED}; copy or download it again")
    of_process = _read_process(_Config(scheduler), name)
    of_network = _read_network(_Config(network), of_process["var_type"])
    return DiffusersModel(name=str(name), files=(network, scheduler, weights), **of_process, **of_network)


def _read_network(config, var_type):
    config.one_of("_class_name", ("UNet2DModel",), "only a UNet2DModel is taken")
    config.one_of("in_channels", (3,), "images have 3 channels", default=3)
    outputs = 6 if var_type is ModelVarType.LEARNED_RANGE else 3
    config.one_of("out_channels", (outputs,), f"a variance_type {var_type.name.lower()} needs {outputs}", default=3)
    config.one_of("time_embedding_type", ("positional", "learned"), "timesteps are whole numbers", "positional")
    config.one_of("class_embed_type", (None,), "a class is told by num_class_embeds alone")
    size = config.values.get("sample_size")
    height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)
    if height != width or not (height is None or (isinstance(height, int) and height > 0)):
        raise config.unmappable("sample_size", size, "images are squares of so many pixels")
    return {"config": config.values, "image_size": height, "num_classes": config.values.get("num_class_embeds")}


def _read_process(config, name):
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
        "schedule": _name_of_betas(config.values),
        "mean_type": PREDICTIONS[prediction],
        "var_type": VARIANCES[variance],
        "clip": clip,
    }


def _read_betas(config, name):
    """The scheduler's own betas, (T,) float64."""
    with hub_package(name):
        import diffusers
    try:
        scheduler = getattr(diffusers, config.values["_class_name"]).from_config(config.values)
    except Exception as error:  # whatever it cannot make of what the file says
        raise UserError(f"{config.path} makes no scheduler ({first_sentence(error)}); correct it") from error
    betas, steps = scheduler.betas.double().numpy(), scheduler.config.num_train_timesteps
    if betas.shape != (steps,) or not len(betas) or not ((0 < betas) & (betas < 1)).all():
        raise UserError(f"{config.path} must give betas between 0 and 1, {steps} (num_train_timesteps); correct it")
    return betas


def _name_of_betas(values):
    if values.get("trained_betas") is not None:
        return "trained_betas"
    schedule = values.get("beta_schedule", "linear")
    if schedule not in ("linear", "scaled_linear"):
        return schedule
    return f"{schedule} from {values.get('beta_start', 0.0001)} to {values.get('beta_end', 0.02)}"


class _Config:
    """A configuration file: its values, which are refused by their names."""

    def __init__(self, path):
        self.path = path
        try:
            self.values = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is not read ({first_sentence(error)}); copy or download it again") from error
        if not isinstance(self.values, dict):
            raise UserError(f"{path} is no JSON object; copy or download it again")

    def one_of(self, key, allowed, reason, default=None):
        """The value of a key; UserError with the reason where it is none of the allowed ones."""
        value = self.values.get(key, default)
        if value not in tuple(allowed):
            raise self.unmappable(key, value, reason)
        return value

    def unmappable(self, key, value, reason):
        return UserError(f"{self.path} says {key} {value}, which cannot be mapped: {reason}")


def _first_there(folder, names):
    return next((folder / name for name in names if (folder / name).is_file()), None)
