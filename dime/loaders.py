"""The diffusion model for notebooks, which have no command line."""

from guided_diffusion.script.errors import UserError
from guided_diffusion.script_util import create_model_and_diffusion, model_and_diffusion_defaults
from models.checkpoints import load_diffusion, read_flags
from models.diffusers_models import diffusers_diffusion, find_diffusers_model, load_diffusers_network


def load_ddpm(path, timestep_respacing="", **flags):
    """A weight file, or a folder or Hub name of diffusers -> (network, diffusion), frozen, on the CPU.

    timestep_respacing: how many steps to sample with, such as "50"; "": all. flags: model and diffusion flags that
    the file does not carry; of diffusers image_size alone. UserError where they contradict the file.
    """
    files = find_diffusers_model(path)
    if files:
        image_size = flags.get("image_size", files.image_size)
        if image_size is None:
            raise UserError(f"{path} does not say the size of its images; give image_size")
        network = load_diffusers_network(files, image_size)
        diffusion = diffusers_diffusion(files, timestep_respacing)
    else:
        flags = model_and_diffusion_defaults() | (read_flags(path) or {}) | flags
        network, diffusion = create_model_and_diffusion(**flags | {"timestep_respacing": timestep_respacing})
        load_diffusion(network, path, flags)
    return network.requires_grad_(False), diffusion
