"""An attribute's own change: the fewest pixels of a counterfactual that, put back, bring the attribute back.

No renderer is needed: the oracle's gradient says how much the change of each pixel moved the attribute, and its
answer says when enough of them have been put back.
"""

import torch
import torch.nn.functional as F

POINTS = 8  # of the line from the image to its counterfactual, at which a gradient is taken
LEAST = 0.5  # of the way that the attribute's logit came, which it must go back to count as back
RESTORED = 0.9  # of the way that it can go back, which is enough


def own_change(logit, x, counterfactual, kept_out):
    """(the pixels to put back (N, H, W), for which of the N images they bring the attribute back), booleans.

    logit: images (N, C, H, W) -> (N,), the oracle's, positive for yes. x, counterfactual: (N, C, H, W).
    kept_out: (N, H, W) booleans, pixels that are never put back. Where the logit, with all others put back, has not
    gone half of its way back, they do not bring the attribute back.
    """
    changed = (x != counterfactual).any(1) & ~kept_out
    before, after = logit(x), logit(counterfactual)
    towards = (after - before).sign()[:, None, None] * attribution(logit, x, counterfactual)
    order = _smoothed(towards).masked_fill(~changed, -torch.inf).flatten(1)
    rank = order.argsort(dim=1, descending=True, stable=True).argsort(1).view_as(changed)

    def way_back(count):
        found = logit(put_back(x, counterfactual, rank < count[:, None, None]))
        return (after - found) / (after - before)

    most = changed.flatten(1).sum(1)
    furthest = way_back(most).clamp(max=1)
    possible = furthest >= LEAST
    fewest = _fewest(lambda count: way_back(count) >= RESTORED * furthest, most)
    count = torch.where(possible, fewest, 0)
    return rank < count[:, None, None], possible


def _fewest(is_enough, most):
    """The smallest counts (N,) found by bisection that are enough, as `most` (N,) are."""
    low, high = torch.zeros_like(most), most
    for _ in range(int(most.max()).bit_length()):
        middle = (low + high) // 2
        found = is_enough(middle)
        low, high = torch.where(found, low, middle + 1).minimum(high), torch.where(found, middle, high)
    return high


def put_back(x, counterfactual, pixels):
    """The counterfactual with these pixels, (N, H, W) booleans, of x."""
    return torch.where(pixels[:, None], x, counterfactual)


def attribution(logit, x, counterfactual):
    """(N, H, W): by how much the change of each pixel moved the logit. The sum over an image is the whole way.

    Integrated gradients (Sundararajan et al., ICML 2017) along the line from x to the counterfactual, by the
    midpoint rule.
    """
    change, gradient = counterfactual - x, torch.zeros_like(x)
    for point in range(POINTS):
        images = (x + (point + 0.5) / POINTS * change).requires_grad_()
        with torch.enable_grad():
            gradient += torch.autograd.grad(logit(images).sum(), images)[0] / POINTS
    return (gradient * change).sum(1)


def _smoothed(values):
    """(N, H, W), each pixel the mean of a square around it, a sixteenth of the image wide; none below 32."""
    width = 2 * (values.shape[-1] // 32) + 1
    return F.avg_pool2d(values[:, None], width, 1, width // 2, count_include_pad=False)[:, 0]
