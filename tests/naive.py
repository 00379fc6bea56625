"""The samplers, written out from their papers' formulas in double precision, and the problem they are tested on.

The problem: two images of 8 x 8, 200 linear steps of which 12 are kept, and stand-ins with a closed form. The
samplers here use nothing of core/. network(z, t) -> (N, 2C, H, W); noise(like) -> normals.
"""

import math

import numpy as np
import torch
from golden import SeededNoise
from reference_weights import deterministic_array
from toy_networks import stand_in_classifier, stand_in_features, stand_in_network

from core.methods.chain import Chain
from core.methods.guidance import Guidance, make_guidance
from core.methods.registry import METHODS
from guided_diffusion.script_util import create_gaussian_diffusion

DIFFUSION = create_gaussian_diffusion(diffusion_steps=200, timestep_respacing="12", learn_sigma=True)
KEPT = [round(i * 199 / 11) for i in range(12)]
ABAR = np.cumprod(1 - np.linspace(0.1 / 200, 20 / 200, 200))[KEPT].tolist()
X = deterministic_array("test_fast.x", (2, 3, 8, 8), 0.4).clamp(-1, 1)
TARGET, SIGN = torch.tensor([1, 0]), torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
WEIGHTS = deterministic_array("gradients.W", (192,), 0.05).double().reshape(3, 8, 8)
SCALE, L1 = 3.0, 0.05  # of guide()
NEVER = 1e9  # a margin that nothing reaches
# For images of 8 x 8, of which the published ones leave little outside. Inversion has what it does by itself.
OPTIONS = dict.fromkeys(("fastdime", "fastdime2", "fastdime2plus"), {"mask_threshold": 0.8, "mask_dilation": 3})
OPTIONS |= {
    "dime": {},
    "maskdime": {"mask_share": 0.1, "mask_dilation": 3},
    "inversion": {"margin": NEVER, "mask_threshold": 0.0, "final_threshold": 0.0, "through_network": False},
    "ace": {"iterations": 5, "mask_threshold": 0.6, "mask_dilation": 3},
}


def guide(x=X, target=TARGET, scale=SCALE, l1=L1, **options):
    return make_guidance(x, target, stand_in_classifier(8), classifier_scale=scale, l1_loss=l1, **options)


def chain_of(tau, x=X, model_fn=stand_in_network, noise=None, guidance=None):
    return Chain(DIFFUSION, model_fn, x, guidance, tau=tau, noise=noise)


def sample(method, guidance=None, x=X, model_fn=stand_in_network, tau=6, noise=None, **options):
    """The answer of the method of that name to guide()."""
    guidance, noise, options = guidance or guide(x), noise or SeededNoise(), OPTIONS[method] | options
    return METHODS[method].sample(DIFFUSION, model_fn, x, guidance, tau=tau, noise=noise, **options)


def watched(guidance):
    """The guidance, and a list that gets (z, x_clean, sqrt_abar) of each of its calls."""
    calls = []

    def parts(*arguments):
        calls.append(arguments)
        return guidance.parts(*arguments)

    return Guidance(parts), calls


class Network:
    """The stand-in network, which remembers the steps it is asked about."""

    def __init__(self):
        self.steps = []

    def __call__(self, z, t):
        assert len(set(t.tolist())) == 1 and len(t) == len(z)
        self.steps.append(KEPT.index(t[0]))
        return stand_in_network(z, t)


# -- the diffusion -------------------------------------------------------------------------------------------


def level(t):
    """abar of z_t; of the image, which is step -1, 1."""
    return ABAR[t] if t >= 0 else 1.0


def noised(image, t, noise):
    return math.sqrt(level(t)) * image + math.sqrt(1 - level(t)) * noise(image.detach())


def predicted(z, t, network=stand_in_network):
    """Mean (Ho et al. 2020, eq. 7), variance (Nichol and Dhariwal 2021, eq. 15) and clean estimate at step t."""
    beta = 1 - level(t) / level(t - 1)
    eps, share = network(z, torch.full((len(z),), KEPT[t])).double().chunk(2, dim=1)
    x0 = ((z - math.sqrt(1 - level(t)) * eps) / math.sqrt(level(t))).clamp(-1, 1)
    mean = math.sqrt(level(t - 1)) * beta * x0 + math.sqrt(1 - beta) * (1 - level(t - 1)) * z
    s = max(t, 1)
    smallest = (1 - level(s - 1)) / (1 - level(s)) * (1 - level(s) / level(s - 1))
    share = (share + 1) / 2
    return mean / (1 - level(t)), torch.exp(share * math.log(beta) + (1 - share) * math.log(smallest)), x0


def ancestral(z, t, noise, network=stand_in_network):
    """A draw from p(z_t-1 | z_t), which for t = 0 is its mean."""
    mean, variance, _ = predicted(z, t, network)
    return mean + variance.sqrt() * noise(z.detach()) if t > 0 else mean


def ddim(z, of, to, eps):
    """The step from z of one level to another, along the noise eps."""
    return math.sqrt(to) * (z - math.sqrt(1 - of) * eps) / math.sqrt(of) + math.sqrt(1 - to) * eps


# -- gradients and masks -------------------------------------------------------------------------------------


def class_gradient(x_clean):
    """-SCALE times the gradient of the signed logit W·x + 0.1 Σ x²."""
    return -SCALE * SIGN * (WEIGHTS + 0.2 * x_clean)


def dilated(image, width):
    """(N, 1, H, W) -> at each pixel the maximum of those at most width // 2 away."""
    reach, result = width // 2, torch.zeros_like(image)
    for i in range(image.shape[2]):
        for j in range(image.shape[3]):
            window = image[..., max(0, i - reach) : i + reach + 1, max(0, j - reach) : j + reach + 1]
            result[..., i, j] = window.amax((2, 3))
    return result


def changed(x, clean, threshold, width):
    """(N, 1, H, W): 1 where the images differ by at least this share of their largest difference, else 0."""
    difference = (x - clean).abs().sum(1, keepdim=True)
    return (dilated(difference / difference.amax((1, 2, 3), keepdim=True), width) >= threshold).double()


def strongest(gradient, count, width):
    """(N, 1, H, W): 1 at the pixels where the gradient is largest, so many, dilated."""
    masks = torch.zeros(len(gradient), 64, dtype=torch.float64)
    for mask, g in zip(masks, gradient.abs().mean(1), strict=True):
        mask[g.flatten().argsort(descending=True)[:count]] = 1
    return dilated(masks.reshape(-1, 1, 8, 8), width)


# -- the samplers --------------------------------------------------------------------------------------------


def naive_dime(network, classifier, x, tau, noise, scale, l1, l2, l_perc, use_logits, stochastic):
    """DiME with one loss, differentiated. network: any, with float32 weights."""

    def double(z, t):
        with torch.no_grad():
            return network(z.float(), t)

    def loss(z, z_now, x_clean, t):
        clean = x_clean + (z - z_now) / math.sqrt(level(t))  # so that dclean/dz is 1 / sqrt(abar)
        logit = classifier(clean.float()).double()
        p = torch.sigmoid(logit)
        signed, log_p = torch.where(TARGET == 1, logit, -logit), torch.where(TARGET == 1, p, 1 - p).log()
        gain = signed if use_logits else log_p
        perceptual = (stand_in_features(clean.float()) - stand_in_features(x.float())).double() ** 2
        distance = l1 * (z - x).abs().sum() + l2 * (z - x).square().sum(1).sqrt().sum()
        return -scale * gain.sum() + l_perc * perceptual.mean((1, 2, 3)).sum() + distance

    x = x.double()
    z, x_clean = noised(x, tau, noise), x
    for t in range(tau - 1, -1, -1):
        mean, variance, _ = predicted(z, t, double)
        moving = z.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(moving, z, x_clean, t), moving)
        z = mean - variance * gradient
        if t > 0:
            z = z + variance.sqrt() * noise(z)
            x_clean = z
            for s in range(t - 1, -1, -1):
                draw = noise if stochastic else torch.zeros_like
                x_clean = ancestral(x_clean, s, draw, double)
    return z


def naive_fastdime(z, tau, noise, mask_at, rescale=False, lag=0):
    """mask_at(number of the step, x0) -> where z may change, or None."""
    x = x_clean = X.double()
    for number, t in enumerate(range(tau - 1, -1, -1)):
        mean, variance, x0 = predicted(z, t)
        divisor = math.sqrt(level(t)) if rescale else 1.0
        z = mean - variance * (class_gradient(x_clean) / divisor + L1 * (z - x).sign())
        if t > 0:
            z = z + variance.sqrt() * noise(z)
        x_clean, mask = x0, mask_at(number, x0)
        if mask is not None:
            x_clean = mask * x0 + (1 - mask) * x
            z = mask * z + (1 - mask) * (noised(x, t - 1 + lag, noise) if t > 0 else x)
    return z


def naive_maskdime(z, tau, noise, rescale, lag, inside, distance_scale):
    """10 % and 5 % of the 64 pixels. Returns the answer and its mask."""
    x, clean_mask = X.double(), torch.zeros(2, 1, 8, 8)
    for t in range(tau - 1, -1, -1):
        mean, variance, x0 = predicted(z, t)
        x_clean = clean_mask * x0 + (1 - clean_mask) * x
        of_class = class_gradient(x_clean) / (math.sqrt(level(t)) if rescale else 1.0)
        mask, clean_mask = strongest(of_class, 6, 3), strongest(of_class, 3, 3)
        moved = mean - variance * (of_class + distance_scale * L1 * (z - x).sign())
        if t > 0 and inside:
            moved = moved + inside * variance.sqrt() * noise(z)
        z = mask * moved + (1 - mask) * (noised(x, t - 1 + lag, noise) if t > 0 else x)
    return z, mask


def naive_inversion(tau, margin, guided_steps, growth, threshold=0.0, warm_up=0, width=1, through=False, final=0.0):
    """The chain down beside the path: each step is that of the network, corrected by its fault on the path."""

    def noise_at(z, t):
        return (z - math.sqrt(level(t)) * predicted(z, t)[2]) / math.sqrt(1 - level(t))

    def slope_at(z, t):
        """dx0/dz: the stand-in network acts on each value by itself, so its Jacobian is diagonal."""
        x0 = (z - math.sqrt(1 - level(t)) * 0.9 * z.tanh()) / math.sqrt(level(t))
        slope = (1 - math.sqrt(1 - level(t)) * 0.9 * (1 - z.tanh() ** 2)) / math.sqrt(level(t))
        return slope * (x0.abs() <= 1)

    x = X.double()
    path = [x]  # x, z_0, z_1, …
    for t in range(tau):
        path.append(ddim(path[-1], level(t - 1), level(t), noise_at(path[-1], max(t - 1, 0))))
    z, waited = path[-1], torch.zeros(2, 1, 1, 1)
    for number, t in enumerate(range(tau - 1, -1, -1)):
        of, to = level(t), level(t - 1)
        down = ddim(z, of, to, noise_at(z, t))
        down = down + path[t] - ddim(path[t + 1], of, to, noise_at(path[t + 1], t))
        # What noise, and so what clean image, such a step goes by.
        eps = (down - math.sqrt(to / of) * z) / (math.sqrt(1 - to) - math.sqrt(to * (1 - of) / of))
        clean = (z - math.sqrt(1 - of) * eps) / math.sqrt(of)
        logit = (clean * WEIGHTS + 0.1 * clean**2).sum((1, 2, 3), keepdim=True)
        of_class = class_gradient(clean) * (slope_at(z, t) if through and number > 0 else 1 / math.sqrt(of))
        gradient = growth**waited * of_class + L1 * (z - x).sign()
        guided = (SIGN * logit < margin) & (number < guided_steps)
        waited = waited + guided
        moved = clean - (1 - of) / math.sqrt(of) * gradient * guided
        z = ddim(z, of, to, (z - math.sqrt(of) * moved) / math.sqrt(1 - of))
        if threshold and number >= warm_up:
            mask = changed(x, moved, threshold, width)
            z = mask * z + (1 - mask) * path[t]
    return torch.where(changed(x, z, final, 1) > 0, z, x)


def naive_ace(tau, iterations, weight, noise):
    """All in units of [0, 1], an image at a time would be the same. Returns the answer and the pre-explanation."""
    x = (X.double() + 1) / 2
    v = x.clone()
    for _ in range(iterations):
        v.requires_grad_()
        z = noised(2 * v - 1, tau - 1, noise)
        for t in range(tau - 1, -1, -1):
            z = ancestral(z, t, noise)
        logit = (z * WEIGHTS + 0.1 * z**2).sum((1, 2, 3))
        cross_entropy = torch.nn.functional.softplus(-SIGN.flatten() * logit).sum()
        gradient = torch.autograd.grad(cross_entropy + weight * (v - x).abs().sum(), v)[0]
        v = (v.detach() - gradient.sign() / 255).clamp(0, 1)
        v = torch.where((v - x).abs() < 1e-9, x, v)  # double precision is not exact either
    mask = changed(x, v, 0.6, 3)
    z = noised(2 * v - 1, tau - 1, noise)
    for t in range(tau - 1, -1, -1):
        z = ancestral((1 - mask) * noised(2 * x - 1, t, noise) + mask * z, t, noise)
    return (1 - mask) * (2 * x - 1) + mask * z, 2 * v - 1
