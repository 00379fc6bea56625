import os
import signal

import pytest
import torch
from golden import golden
from main_runs import main_flags
from toy_celeba import write_celeba
from toy_networks import filled, write_weights

from guided_diffusion.script_util import create_model_and_diffusion
from guided_diffusion.training import logger

os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the Hub for anything
torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # `make test &` ignores it, and so would the scripts
pytest_plugins = ["metric_fixtures", "named_networks"]


@pytest.fixture(scope="session")
def golden_unet():
    """(UNet with deterministic weights, diffusion) of the golden files' flags; nobody may change them."""
    _, flags = golden("unet_tiny")
    unet, diffusion = create_model_and_diffusion(**flags)
    return filled(unet), diffusion


@pytest.fixture(scope="session")
def toy_files(tmp_path_factory):
    """A folder with data/, a CelebA of 8 validation images, ddpm.pt and classifier.pt; nobody may change them."""
    root = tmp_path_factory.mktemp("toy_files")
    write_celeba(root / "data", {"val": 8})
    return write_weights(root)


@pytest.fixture
def flags(toy_files, tmp_path):
    """The flags of a run of main.py on the toy files."""
    return main_flags(toy_files, tmp_path / "out")


@pytest.fixture
def no_tensorboard(monkeypatch):
    """Trainings write progress.csv alone: importing TensorBoard takes seconds."""
    monkeypatch.setattr(logger, "_event_writer", lambda directory, start_step: None)
