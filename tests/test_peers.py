"""FastDiME, FastDiME-2 and MaskDiME against arrays of their authors' own code, with its noise, on drawn faces."""

import numpy as np
import pytest
import torch
from golden import golden
from scripts import ROOT

from core.data.datasets import CELEBA_ATTRIBUTES
from core.data.images import from_uint8
from core.methods.guidance import make_guidance
from core.methods.registry import find_method
from guided_diffusion.script_util import create_model_and_diffusion
from models.checkpoints import load_diffusion, read_flags
from models.classifiers import BinaryQuestion, load_classifier

WEIGHTS = ROOT / "models/demo"


class CodesNoise:
    """One standard normal a call; the codes also draw at t = 0, which nothing uses. skipped: the calls before which
    they have done so."""

    def __init__(self, seed, skipped=()):
        self.rng, self.skipped, self.calls = np.random.default_rng(seed), skipped, 0

    def __call__(self, like):
        self.calls += 1
        draws = [self.rng.standard_normal(like.shape) for _ in range(1 + (self.calls in self.skipped))]
        return torch.from_numpy(draws[-1].astype(np.float32))


@pytest.fixture(scope="module")
def networks():
    """(UNet, diffusion of 50 steps, smile's classifier), the demo's."""
    flags = read_flags(WEIGHTS / "faces_ddpm.pt")
    unet, diffusion = create_model_and_diffusion(**flags | {"timestep_respacing": "50"})
    load_diffusion(unet, WEIGHTS / "faces_ddpm.pt", flags)
    smile = BinaryQuestion(load_classifier(WEIGHTS / "faces_classifier.pt"), CELEBA_ATTRIBUTES.index("Smiling"))
    return unet, diffusion, smile


@pytest.mark.parametrize(
    "name, method, scale, skipped, options",
    [
        ("fastdime_tau10_r50", "fastdime", 8, (), {"mask_warm_up": 5}),
        ("fastdime2_tau10_r50", "fastdime2", 8, (11,), {}),
        ("maskdime_tau10_r50", "maskdime", 64, (), {"distance_scale": 8, "mask_noise": 0}),
    ],
)
def test_a_method_is_its_authors_code(networks, name, method, scale, skipped, options):
    (unet, diffusion, smile), (arrays, _) = networks, golden(f"peers/{name}")
    x, target = from_uint8(torch.from_numpy(arrays["x"])), torch.from_numpy(arrays["target"])
    guidance = make_guidance(x, target, smile, classifier_scale=scale, l1_loss=float(arrays["l1"]))
    noise = CodesNoise(int(arrays["seed"]), skipped)
    with torch.no_grad():
        result = find_method(method).sample(
            diffusion, unet, x, guidance, tau=int(arrays["tau"]), noise=noise, background_lag=1, **options
        )
    expected = torch.from_numpy(arrays["cf"])
    if "last_mask" in arrays:  # outside of it MaskDiME's code leaves the noise of its last step, and ours is x
        expected = torch.where(torch.from_numpy(arrays["last_mask"]), expected, x)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)
