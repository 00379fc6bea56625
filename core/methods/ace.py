"""ACE: adversarial counterfactual explanations (Jeanneret, Simon, Jurie, CVPR 2023).

The pre-explanation v is an adversarial image, found by gradient descent not for the classifier alone, but for the
classifier behind a diffusion: F(v) noises v and denoises it again, so that only changes count which survive this.
Where v differs from x the most, the refinement draws the image anew. Everywhere else the answer is x.

    v = x
    `iterations` times:
        g = d/dv [class loss at F(v) + distance of v and x], with fresh noise in F
        v = v - 1/255 · sign(g), clipped                                    (in units of [0, 1])
    keep = where v has not changed from x                                   (changed())
    z = q_sample(v, tau - 1)
    for t = tau-1 … 0:
        z = keep · q_sample(x, t) + (1 - keep) · z
        z = an ancestral step from z
    answer = keep · x + (1 - keep) · z
"""

import torch
from torch.utils.checkpoint import checkpoint

from guided_diffusion.script.errors import UserError

from .backward import pulled_back
from .dime import predict, require_depth, step
from .inputs import require_images
from .masks import changed, require_dilation, require_threshold

ITERATIONS = 50
STEP = 2 / 255  # of an iteration: a grey level, as images are in [-1, 1]
ROUNDING = 1e-5  # v that has gone and come back differs from x by less
THRESHOLD, DILATION = 0.15, 15


@torch.no_grad()
def ace(
    diffusion,
    model_fn,
    x,
    guidance,
    *,
    tau,
    noise,
    z=None,
    clip_denoised=True,
    guided_steps=None,
    callback=None,
    iterations=ITERATIONS,
    kept_steps=None,
    mask_threshold=THRESHOLD,
    mask_dilation=DILATION,
):
    """x (N, C, H, W) in [-1, 1] -> its counterfactual, same shape. Takes ace_evaluations(tau, ...) of the network.

    The arguments are dime_sample's without inner_* and sampling_scale, with these differences:
    model_fn: must be differentiable by z. guidance: a Guidance, whose parts are needed. Its l1_loss and l2_loss are
    weights of distances in units of [0, 1], as in the paper. The gradient of a perceptual distance is taken at F(v)
    and used at v, without that of F.
    noise: called in chronological order. F(v): once for the noisy v, then once a step, but not at t = 0. The
    refinement: once for the noisy v; then in each step for the noisy x, and, but for t = 0, for the step.
    z: the image that the pre-explanation begins with; None: x.
    guided_steps: the most iterations that are made; None: `iterations`.
    kept_steps: of how many of F's tau steps the activations are kept for the gradient. Those of the others are
    computed once more when they are needed, each step's by itself. None: all.
    callback(dict(t, z, x_clean, mask, pre_explanation)) is called before each step of the refinement. x_clean and
    pre_explanation are v.
    """
    require_images(x, channels=getattr(model_fn, "in_channels", None))
    require_depth(diffusion, tau)
    require_threshold(mask_threshold)
    require_dilation(mask_dilation)
    require_kept_steps(kept_steps, tau)
    iterations = ace_iterations(guided_steps, iterations)
    v = x if z is None else z
    for _ in range(iterations):
        v = descend(diffusion, model_fn, v, guidance, tau, noise, clip_denoised, kept_steps)
        v = torch.where((v - x).abs() < ROUNDING, x, v)  # or the distance would have a gradient where there is none
    mask = changed(x, v, mask_threshold, mask_dilation)

    z = _noised(diffusion, v, tau - 1, noise)
    for t in reversed(range(tau)):
        z = torch.where(mask, z, _noised(diffusion, x, t, noise))
        if callback is not None:
            callback({"t": t, "z": z, "x_clean": v, "mask": mask, "pre_explanation": v})
        z = step(predict(diffusion, model_fn, z, t, clip_denoised), t, noise)
    return torch.where(mask, z, x)


def descend(diffusion, model_fn, v, guidance, tau, noise, clip_denoised=True, kept_steps=None):
    """One iteration: v (N, C, H, W) in [-1, 1] -> v, changed by a grey level wherever the gradient is not 0.

    Each image's loss is its own, so the answer does not depend on the others of the batch. (In the authors' release
    it is a mean over the batch, and the distance counts the more, the larger that is.)
    """
    with torch.enable_grad():
        v = v.detach().requires_grad_()
        purified = purify(diffusion, model_fn, v, tau, noise, clip_denoised, kept_steps)
        parts = guidance.parts(v.detach(), purified.detach(), 1.0)
        class_part = pulled_back(parts.class_part, purified, v)
    # The class part is per unit of [-1, 1], and twice as much per unit of [0, 1].
    return (v.detach() - STEP * torch.sign(2 * class_part + parts.distance_part)).clamp(-1, 1)


def purify(diffusion, model_fn, v, tau, noise, clip_denoised=True, kept_steps=None):
    """F(v): v (N, C, H, W), noised to index tau - 1 and denoised by tau ancestral steps; differentiable by v."""
    recomputed = 0 if kept_steps is None else tau - kept_steps
    z = _noised(diffusion, v, tau - 1, noise)
    for number, t in enumerate(reversed(range(tau))):
        drawn = noise(z.detach()) if t > 0 else None

        def denoise(z, t=t, drawn=drawn):
            return step(
                predict(diffusion, model_fn, z, t, clip_denoised), t, None if drawn is None else lambda like: drawn
            )

        z = checkpoint(denoise, z, use_reentrant=False) if number < recomputed else denoise(z)
    return z


def require_kept_steps(kept_steps, tau):
    """UserError unless kept_steps is None, or from 1 to tau."""
    if kept_steps is not None and not 1 <= kept_steps <= tau:
        raise UserError(f"--kept_steps {kept_steps} must be from 1 to {tau}, as --start_step is {tau}")


def ace_evaluations(tau, guided_steps=None, iterations=None, kept_steps=None):
    """Network evaluations, forward: of each iteration tau and the recomputed ones, and tau of the refinement. Each
    iteration also goes tau times backward, which is not counted."""
    recomputed = 0 if kept_steps is None else tau - kept_steps
    return ace_iterations(guided_steps, iterations) * (tau + recomputed) + tau


def ace_iterations(guided_steps=None, iterations=None):
    """How often the pre-explanation is changed."""
    iterations = ITERATIONS if iterations is None else iterations
    return iterations if guided_steps is None else min(iterations, guided_steps)


def _noised(diffusion, x, t, noise):
    return diffusion.q_sample(x, diffusion.batch_t(t, x), noise(x.detach()))
