"""An attribute's own change: the fewest pixels of a counterfactual that, put back, bring the attribute back.

No renderer is needed: the oracle's gradient says how much the change of each pixel moved the attribute, and its
answer says when enough of them have been put back.
"""

import torch
import torch.nn.functional as F

POINTS = 8  # of the line from the image to its counterfactual, at which a gradient is taken
BACK_FROM = 0.5  # of the way that the attribute's logit came: an attribute that goes back so far is back
RESTORED = 0.9  # of the way that it can go back, which is enough


def own_change(oracle, attribute, x, counterfactual, excluded):
    """(the pixels to put back (N, H, W), for which of the N images they bring the attribute back), booleans.

    oracle: images (N, C, H, W) -> logits (N, A), positive for yes. attribute: (N,) which of the A it is.
    x, counterfactual: (N, C, H, W). excluded: (N, H, W) booleans, pixels that are never put back. The attribute is
    not brought back where its logit, with all other pixels put back, has not gone half of its way back.
    """

    def logit(images):
        return oracle(images).gather(1, attribute[:, None])[:, 0]

    changed = (x != counterfactual).any(1) & ~excluded
    before, after = logit(x), logit(counterfactual)
    towards = (after - before).sign()[:, None, None] * attribution(oracle, attribute, x, counterfactual)
    order = _smooth(towards).masked_fill(~changed, -torch.inf).flatten(1)
    rank = order.argsort(dim=1, descending=True, stable=True).argsort(1).view_as(changed)

    def way_back(count):
        return (after - logit(put_back(x, counterfactual, rank < count[:, None, None]))) / (after - before)

    most = changed.flatten(1).sum(1)
    furthest = way_back(most).clamp(max=1)
    possible = furthest >= BACK_FROM
    count = torch.where(possible, _fewest(lambda count: way_back(count) >= RESTORED * furthest, most), 0)
    return rank < count[:, None, None], possible


def _fewest(is_enough, most):
    """The smallest counts (N,), by bisection, that are enough, as `most` (N,) are."""
    low, high = torch.zeros_like(most), most
    for _ in range(int(most.max()).bit_length()):
        middle = (low + high) // 2
        enough = is_enough(middle)
        low, high = torch.where(enough, low, middle + 1).minimum(high), torch.where(enough, middle, high)
    return high


def put_back(x, counterfactual, pixels):
    """The counterfactual with these pixels, (N, H, W) booleans, of x."""
    return torch.where(pixels[:, None], x, counterfactual)


def attribution(oracle, attribute, x, counterfactual):
    """(N, H, W): by how much the change of each pixel moved the attribute's logit. The sum is the whole way.

    Integrated gradients (Sundararajan et al., ICML 2017) along the line from x to the counterfactual, by the
    midpoint rule. oracle, attribute: as own_change has them.
    """
    from captum.attr import IntegratedGradients

    # internal_batch_size: one point of the line at a time, so that no more memory is needed than for x.
    options = {"n_steps": POINTS, "method": "riemann_middle", "internal_batch_size": len(x)}
    return IntegratedGradients(oracle).attribute(counterfactual, x, target=attribute, **options).sum(1)


def _smooth(values):
    """(N, H, W), each pixel the mean of a square around it, a sixteenth of the image wide; none below 32."""
    width = 2 * (values.shape[-1] // 32) + 1
    return F.avg_pool2d(values[:, None], width, 1, width // 2, count_include_pad=False)[:, 0]
