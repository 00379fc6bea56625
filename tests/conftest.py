import pytest
import torch
from golden import golden
from toy_networks import filled

from guided_diffusion.script_util import create_model_and_diffusion

torch.set_num_threads(1)
pytest_plugins = ["metric_fixtures"]


@pytest.fixture(scope="session")
def golden_unet():
    """(UNet with deterministic weights, diffusion) of the golden files' flags; nobody may change them."""
    _, flags = golden("unet_tiny")
    unet, diffusion = create_model_and_diffusion(**flags)
    return filled(unet), diffusion
