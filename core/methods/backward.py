"""Gradients that run backward through the network."""

import torch


def pulled_back(gradient, output, of):
    """d/d`of` of a loss whose gradient by `output` is given, (N, ...), image by image.

    Half precision would lose small values on their way back. So each image goes back with a largest value of 1.
    """
    peak = gradient.abs().flatten(1).amax(1).reshape(-1, *[1] * (gradient.dim() - 1))
    peak = torch.where(peak > 0, peak, 1.0)
    return peak * torch.autograd.grad(output, of, gradient / peak)[0]
