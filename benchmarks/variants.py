"""main.py with a method that users do not need: `inversion` without its correction, its masks and its Jacobian.

python -m benchmarks.variants --method uncorrected, and the other flags of main.py
"""

from functools import partial

import torch

import main
from core.methods.dime import ddim_step
from core.methods.inversion import apply_guidance, path_of, predicted_noise
from core.methods.registry import METHODS
from guided_diffusion.script_util import run_script


@torch.no_grad()
def uncorrected(
    diffusion,
    model_fn,
    x,
    guidance,
    *,
    tau,
    noise,
    z,
    clip_denoised=True,
    guided_steps=None,
    callback=None,
    margin=10.0,
    growth=1.2,
):
    """core.methods.inversion.inversion with plain DDIM on the way back: the predicted noise is used as it is."""
    path_noise, z = z, path_of(diffusion, x, z)[-1]
    strength = torch.ones_like(x[:, :1, :1, :1])
    for t in reversed(range(tau)):
        eps = predicted_noise(diffusion, model_fn, z, t, clip_denoised) if t < tau - 1 else path_noise[:, t]
        x_clean = diffusion.x0_from_eps(z, diffusion.batch_t(t, z), eps)
        callback({"t": t, "z": z, "x_clean": x_clean})
        abar = float(diffusion.alphas_cumprod[t])
        parts = guidance.parts(z, x_clean, abar**0.5)
        x0, strength = apply_guidance(x_clean, parts, strength, abar, margin, growth)
        z = ddim_step(diffusion, z, t, x0, t - 1)
    return z


_INVERSION = METHODS["inversion"]
VARIANTS = {
    "uncorrected": _INVERSION._replace(
        sample=uncorrected,
        options=("margin", "growth"),
        cost=partial(_INVERSION.cost, through_network=False),
    )
}


if __name__ == "__main__":
    METHODS.update(VARIANTS)
    run_script(main.main)
