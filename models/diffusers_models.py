"""The network of a diffusers model, wrapped, not converted, and its diffusion."""

from torch import nn

from guided_diffusion.gaussian_diffusion import LossType
from guided_diffusion.respace import SpacedDiffusion, space_timesteps
from guided_diffusion.script.errors import UserError, first_sentence, hub_package

from .checkpoints import load_state, read_weights

# What diffusers called the layers of attention before its version 0.18.
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


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
    try:
        network = UNet2DModel.from_config(model.config)
    except Exception as error:  # whatever it cannot make of what the file says
        raise UserError(f"{config} makes no UNet2DModel ({first_sentence(error)}); correct it") from error
    halvings = len(network.config.block_out_channels) - 1
    if image_size % 2**halvings:
        raise UserError(
            f"--image_size {image_size} cannot be halved {halvings} times, as {model.name} does; "
            f"give a multiple of {2**halvings}"
        )
    state = {_new_name(name): tensor for name, tensor in read_weights(weights).items()}
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
