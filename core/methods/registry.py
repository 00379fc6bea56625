"""The methods that explain images, by the names that --method has for them."""

from collections.abc import Callable
from typing import NamedTuple

from guided_diffusion.script.errors import UserError

from .ace import ace, ace_cost
from .chain import Cost
from .dime import dime_cost, dime_sample
from .fastdime import fastdime, fastdime2, fastdime2plus
from .inversion import inversion, inversion_cost, invert, path_of
from .maskdime import maskdime


def cost_of_passes(count):
    """The cost, as a Method has it, of so many chains of tau evaluations, whatever the options."""
    return lambda tau, **options: Cost(count * tau)


def from_noise(chain):
    """chain: a Chain -> (what every attempt is given as z, where its chain starts): here one, z_tau."""
    z = chain.start()
    return z, z


def from_inversion(chain):
    """As from_noise; z are the noises (N, tau, C, H, W) up the path of x, and the chain starts at its end."""
    noises = invert(chain)
    return noises, path_of(chain, noises)[-1]


def from_image(chain):
    """As from_noise; a method that begins with x itself needs nothing beforehand."""
    return chain.x, chain.x


class Method(NamedTuple):
    """A way to explain images: a sampler with dime_sample's arguments, and what goes with it."""

    sample: Callable
    cost: Callable = dime_cost  # (tau, guided_steps=None, **the sampler's options) -> Cost
    masks: bool = False  # whether its callback tells a mask
    pre_explains: bool = False  # whether its callback tells a pre_explanation
    start: Callable = from_noise
    least_steps: int = 1  # with fewer it changes hardly anything

    @property
    def options(self):
        """The sampler's own options: argument -> default. Of a sampler of one's own none are known."""
        return getattr(self.sample, "options", {})


METHODS = {
    "dime": Method(dime_sample, dime_cost),
    "fastdime": Method(fastdime, cost_of_passes(1), masks=True),
    "fastdime2": Method(fastdime2, cost_of_passes(2), masks=True),
    "fastdime2plus": Method(fastdime2plus, cost_of_passes(2), masks=True),
    "maskdime": Method(maskdime, cost_of_passes(1), masks=True),
    "inversion": Method(inversion, inversion_cost, masks=True, start=from_inversion, least_steps=2),
    "ace": Method(ace, ace_cost, masks=True, pre_explains=True, start=from_image),
}


def find_method(method):
    """A name of METHODS, or a sampler -> its Method. Samplers of one's own begin from noise, as DiME does.

    UserError where there is no method of that name.
    """
    if callable(method):
        by_sampler = {each.sample: each for each in METHODS.values()}
        return by_sampler.get(method, Method(method))
    if method not in METHODS:
        raise UserError(f"--method {method} is unknown; choose one of {', '.join(METHODS)}")
    return METHODS[method]
