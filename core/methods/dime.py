"""DiME: counterfactuals by a guided diffusion (Jeanneret, Simon, Jurie, ACCV 2022, Algorithm 1).

The symbols are those of core.methods.chain.
"""

from .chain import Cost, sampler, step


@sampler
def dime_sample(chain, *, inner_stochastic, inner_ddim, inner_steps, sampling_scale):
    """x (N, C, H, W) in [-1, 1] -> its counterfactual, same shape. Takes evaluations(tau, ...) of the network.

    The arguments are the fields of a Chain and those of core.methods.options. The noise of an inner chain is drawn
    before that of the outer step that it guides.
    """

    def inner_chain(z, t, p):
        """An unguided chain from z_t to a clean image. Its first evaluation, p, is the outer step's own."""
        steps = inner_chain_steps(t, inner_steps)
        for s, below in zip(steps, [*steps[1:], -1], strict=True):
            p = p if s == t else chain.predict(z, s)
            if inner_ddim or inner_steps is not None:
                z = chain.ddim_step(z, s, p["pred_xstart"], below)
            else:
                z = step(p, s, chain.noise if inner_stochastic else None)
        return z

    z, x_clean = chain.start(), chain.x

    for number, t, guided in chain.steps():
        p = chain.predict(z, t)
        if guided and number > 0:
            x_clean = inner_chain(z, t, p)
        chain.report(t=t, z=z, x_clean=x_clean)
        gradient = chain.guidance(z, x_clean, chain.sqrt_abar(t)) if guided else 0.0
        z = step(p, t, chain.noise, gradient, sampling_scale)
    return z


def inner_chain_steps(t, inner_steps=None):
    """The steps of a chain from z_t: t … 0. With inner_steps these are cut in that many equal parts, and only the
    first step of each part is taken."""
    count = t + 1 if inner_steps is None else min(inner_steps, t + 1)
    return [(t + 1) * (count - part) // count - 1 for part in range(count)]


def evaluations(tau, guided_steps=None, inner_steps=None):
    """Network evaluations of one dime_sample: tau of the outer chain, and those of each inner chain that a gradient
    uses, except its first, which the outer chain has made. Without options tau + (tau - 1) (tau - 2) / 2."""
    guided = tau if guided_steps is None else min(guided_steps, tau)
    return tau + sum(len(inner_chain_steps(tau - 1 - number, inner_steps)) - 1 for number in range(1, guided))


def dime_cost(tau, guided_steps=None, inner_steps=None, **options):
    """The Cost of an attempt, of options of dime_sample."""
    return Cost(evaluations(tau, guided_steps, inner_steps))
