"""Classifiers that a user may have, and that cannot guide: each is built by name, with any number of outputs."""

import torch
from torch import nn


class Bright(nn.Module):
    """Images (N, 3, H, W) -> (N, K): how bright is each, and K - 1 outputs of other slopes."""

    def __init__(self, num_outputs=2):
        super().__init__()
        self.slopes = nn.Parameter(torch.linspace(1, 3, num_outputs))

    def forward(self, images):
        return images.mean((1, 2, 3))[:, None] * self.slopes


def one_logit():
    return Bright(1)


class NoGrad(Bright):
    @torch.no_grad()
    def forward(self, images):
        return super().forward(images)


class Detached(Bright):
    def forward(self, images):
        return super().forward(images.detach())


class ByNumpy(Bright):
    def forward(self, images):
        means = images.detach().cpu().numpy().mean((1, 2, 3))
        return torch.from_numpy(means)[:, None] * self.slopes.detach()


class Rounded(Bright):
    def forward(self, images):
        return super().forward((images * 127.5).round() / 127.5)


class InPlace(Bright):
    def forward(self, images):
        images += 1
        return super().forward(images)


class NanGradient(Bright):
    def forward(self, images):
        distance = (images - images.detach()).square().sum((1, 2, 3)).sqrt()
        return super().forward(images) + distance[:, None]


class Softmax(Bright):
    def forward(self, images):
        return super().forward(images).softmax(1)


class HalfSoftmax(Bright):
    def forward(self, images):
        return super().forward(images).softmax(1).half()


class Sigmoid(Bright):
    def forward(self, images):
        return super().forward(images).sigmoid()


class Dropping(Bright):
    def forward(self, images):
        return super().forward(nn.functional.dropout(images))


CANNOT_GUIDE = {
    NoGrad: "has no gradient",
    Detached: "has no gradient",
    ByNumpy: "has no gradient",
    Rounded: "gradient of zero everywhere",
    InPlace: "changes its images in place",
    NanGradient: "gradient with NaN",
    Softmax: "leave out its last softmax",
    HalfSoftmax: "leave out its last softmax",
}
REMARKED = {Sigmoid: "leave out its last sigmoid", Dropping: "differ from call to call"}


def levels(order):
    """A network of twelve classes: which of twelve greys is an image? order: the class that each output means."""
    greys = torch.linspace(-0.9, 0.9, 12)[order]

    class Levels(nn.Module):
        def forward(self, images):
            return -40 * (images.mean((1, 2, 3))[:, None] - greys).abs()

    return Levels()


def levels_as_numbers():
    return levels(list(range(12)))


def levels_as_text():
    """Of folders 0 to 11 as torchvision's ImageFolder sorts them."""
    return levels(sorted(range(12), key=str))
