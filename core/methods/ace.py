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

from .backward import pulled_back
from .chain import Cost, sampler, step
from .masks import changed
from .options import OPTIONS

STEP = 2 / 255  # of an iteration: a grey level, as images are in [-1, 1]
ROUNDING = 1e-5  # v that has gone and come back differs from x by less


@sampler
def ace(chain, *, iterations, kept_steps, mask_threshold, mask_dilation=15):
    """x (N, C, H, W) in [-1, 1] -> its counterfactual, same shape. Takes ace_cost(tau, ...) of the network.

    The arguments are those of core.methods.options and the fields of a Chain, with these differences:
    model_fn: must be differentiable by z. guidance: a Guidance, whose parts are needed. Its l1_loss and l2_loss are
    weights of distances in units of [0, 1], as in the paper. The gradient of a perceptual distance is taken at F(v)
    and used at v, without that of F.
    noise: called in chronological order. F(v): once for the noisy v, then once a step, but not at t = 0. The
    refinement: once for the noisy v; then in each step for the noisy x, and, but for t = 0, for the step.
    z: the image that the pre-explanation begins with; None: x.
    guided_steps: the most iterations that are made; None: `iterations`.
    callback(dict(t, z, x_clean, mask, pre_explanation)) is called before each step of the refinement. x_clean and
    pre_explanation are v.
    kept_steps: of how many of F's tau steps the gradient's activations are kept; None: of all.
    """
    x = chain.x
    v = x if chain.z is None else chain.z
    for _ in range(_iterations(chain.guided_steps, iterations)):
        v = descend(chain, v, kept_steps)
        v = torch.where((v - x).abs() < ROUNDING, x, v)  # or the distance would have a gradient where there is none
    mask = changed(x, v, mask_threshold, mask_dilation)

    z = chain.noised(v, chain.tau - 1)
    for _, t, _ in chain.steps():
        z = torch.where(mask, z, chain.noised(x, t))
        chain.report(t=t, z=z, x_clean=v, mask=mask, pre_explanation=v)
        z = step(chain.predict(z, t), t, chain.noise)
    return torch.where(mask, z, x)


def descend(chain, v, kept_steps=None):
    """One iteration: v (N, C, H, W) in [-1, 1] -> v, changed by a grey level wherever the gradient is not 0.

    Each image's loss is its own, so the answer does not depend on the others of the batch. (In the authors' release
    it is a mean over the batch, and the distance counts the more, the larger that is.)
    """
    with torch.enable_grad():
        v = v.detach().requires_grad_()
        purified = purify(chain, v, kept_steps)
        parts = chain.guidance.parts(v.detach(), purified.detach(), 1.0)
        class_part = pulled_back(parts.class_part, purified, v)
    # The class part is per unit of [-1, 1], and twice as much per unit of [0, 1].
    return (v.detach() - STEP * torch.sign(2 * class_part + parts.distance_part)).clamp(-1, 1)


def purify(chain, v, kept_steps=None):
    """F(v): v (N, C, H, W), noised to index tau - 1 and denoised by tau ancestral steps; differentiable by v."""
    recomputed = 0 if kept_steps is None else chain.tau - kept_steps
    z = chain.noised(v, chain.tau - 1)
    for number, t, _ in chain.steps():
        drawn = chain.noise(z.detach()) if t > 0 else None  # once, though the step may be computed twice

        def denoise(z, t=t, drawn=drawn):
            return step(chain.predict(z, t), t, lambda like: drawn)

        z = checkpoint(denoise, z, use_reentrant=False) if number < recomputed else denoise(z)
    return z


def ace_cost(tau, guided_steps=None, iterations=OPTIONS["iterations"].default, kept_steps=None, **options):
    """Forward: of each iteration tau evaluations and the recomputed ones, and tau of the refinement. Each iteration
    also goes tau times backward."""
    recomputed = 0 if kept_steps is None else tau - kept_steps
    iterations = _iterations(guided_steps, iterations)
    return Cost(iterations * (tau + recomputed) + tau, backward=tau * iterations)


def _iterations(guided_steps, iterations):
    return iterations if guided_steps is None else min(iterations, guided_steps)
