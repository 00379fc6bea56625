"""The methods that explain images, by the names that --method has for them."""

from collections.abc import Callable
from typing import NamedTuple

from guided_diffusion.script.errors import UserError

from .ace import ace, ace_evaluations, ace_iterations
from .dime import dime_sample, evaluations, start_of_chain
from .fastdime import fastdime, fastdime2, fastdime2plus
from .inversion import inversion, inversion_evaluations, invert, path_of
from .maskdime import maskdime


class Cost(NamedTuple):
    """Network evaluations that a method takes of an image."""

    each: int  # an attempt
    once: int = 0  # before the first attempt, for all of them
    backward: int = 0  # how many times an attempt also goes backward through the network


def from_noise(diffusion, model_fn, x, *, tau, noise, clip_denoised=True):
    """x (N, C, H, W) in [-1, 1] -> (what every attempt is given as z, where its chain starts): here one, z_tau."""
    z = start_of_chain(diffusion, x, tau, noise)
    return z, z


def from_inversion(diffusion, model_fn, x, *, tau, noise, clip_denoised=True):
    """As from_noise; z are the noises (N, tau, C, H, W) up the path of x, and the chain starts at its end."""
    noises = invert(diffusion, model_fn, x, tau=tau, clip_denoised=clip_denoised)
    return noises, path_of(diffusion, x, noises)[-1]


def from_image(diffusion, model_fn, x, *, tau, noise, clip_denoised=True):
    """As from_noise; a method that begins with x itself needs nothing beforehand."""
    return x, x


def _once_a_step(tau, **options):
    return Cost(tau)


def _twice_a_step(tau, **options):
    return Cost(2 * tau)


def _of_dime(tau, guided_steps=None, inner_steps=None, **options):
    return Cost(evaluations(tau, guided_steps, inner_steps))


def _of_inversion(tau, guided_steps=None, through_network=True, **options):
    once, each = inversion_evaluations(tau)
    guided = tau if guided_steps is None else min(guided_steps, tau)
    return Cost(each, once, max(guided - 1, 0) if through_network else 0)


def _of_ace(tau, **options):
    options = {name: options.get(name) for name in ("guided_steps", *_ACE)}
    iterations = ace_iterations(options["guided_steps"], options["iterations"])
    return Cost(ace_evaluations(tau, **options), backward=tau * iterations)


class Method(NamedTuple):
    """A way to explain images: a sampler with dime_sample's arguments, and what goes with it."""

    sample: Callable
    cost: Callable = _of_dime  # (tau, **the sampler's options) -> Cost
    options: tuple = ()  # the flags that not every method has
    masks: bool = False  # whether its callback tells a mask
    pre_explains: bool = False  # whether its callback tells a pre_explanation
    start: Callable = from_noise


_MASK = ("mask_threshold", "mask_dilation")
_ACE = ("iterations", "kept_steps")
_CHAIN = ("rescale_gradient", "background_lag")
METHODS = {
    "dime": Method(dime_sample, _of_dime, ("inner_steps", "use_sampling_on_x_t", "use_ddim", "sampling_scale")),
    "fastdime": Method(fastdime, _once_a_step, (*_MASK, "mask_warm_up", *_CHAIN, "sampling_scale"), True),
    "fastdime2": Method(fastdime2, _twice_a_step, (*_MASK, *_CHAIN, "sampling_scale"), True),
    "fastdime2plus": Method(
        fastdime2plus, _twice_a_step, (*_MASK, "mask_warm_up", *_CHAIN, "sampling_scale"), True
    ),
    "maskdime": Method(
        maskdime,
        _once_a_step,
        ("mask_share", "mask_clean_share", "mask_dilation", "mask_noise", "distance_scale", *_CHAIN),
        True,
    ),
    "inversion": Method(
        inversion,
        _of_inversion,
        ("margin", "growth", *_MASK, "mask_warm_up", "final_threshold", "through_network", "path_correction"),
        True,
        start=from_inversion,
    ),
    "ace": Method(ace, _of_ace, (*_ACE, *_MASK), True, True, start=from_image),
}


def find_method(method):
    """A name of METHODS, or a sampler -> its Method. Samplers of one's own begin from noise, as DiME does.

    UserError where there is no method of that name.
    """
    if callable(method):
        known = {each.sample: each for each in METHODS.values()}
        return known.get(method, Method(method))
    if method not in METHODS:
        raise UserError(f"--method {method} is unknown; choose one of {', '.join(METHODS)}")
    return METHODS[method]
