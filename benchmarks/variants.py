"""main.py with methods that users do not need: `inversion` without one of its parts, or with one that did not help.

python -m benchmarks.variants --method uncorrected, and the other flags of main.py
"""

from functools import partial

import torch

import main
from core.methods.dime import ddim_step
from core.methods.inversion import apply_guidance, path_of, predicted_noise
from core.methods.masks import strongest
from core.methods.registry import METHODS
from guided_diffusion.script_util import run_script


@torch.no_grad()
def varied(
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
    corrected=True,
    share=None,
):
    """core.methods.inversion.inversion, whose loop is repeated here, with two more options.

    corrected: False: on the way back the predicted noise is used as it is, as in plain DDIM.
    share: only this share of the pixels, those with the strongest class gradient, and pixels near them may change.
    """
    path_noise, z = z, path_of(diffusion, x, z)[-1]
    strength = torch.ones_like(x[:, :1, :1, :1])
    for t in reversed(range(tau)):
        eps = path_noise[:, t]
        if t < tau - 1:
            predicted = predicted_noise(diffusion, model_fn, z, t, clip_denoised)
            eps = predicted + eps - path_noise[:, t + 1] if corrected else predicted
        x_clean = diffusion.x0_from_eps(z, diffusion.batch_t(t, z), eps)
        callback({"t": t, "z": z, "x_clean": x_clean})
        abar = float(diffusion.alphas_cumprod[t])
        parts = guidance.parts(z, x_clean, abar**0.5)
        if share is not None:
            mask = strongest(parts.class_part, share, 5)
            parts = parts._replace(class_part=mask * parts.class_part, distance_part=mask * parts.distance_part)
        x0, strength = apply_guidance(x_clean, parts, strength, abar, margin, growth)
        z = ddim_step(diffusion, z, t, x0, t - 1)
    return z


VARIANTS = {
    name: METHODS["inversion"]._replace(sample=partial(varied, **options))
    for name, options in {
        "uncorrected": {"corrected": False},
        "masked": {"share": 0.05},
    }.items()
}


if __name__ == "__main__":
    METHODS.update(VARIANTS)
    run_script(main.main)
