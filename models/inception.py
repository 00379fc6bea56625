"""pytorch-fid's Inception: images (N, 3, H, W) in [0, 1] -> features (N, 2048)."""

from torch import nn

from guided_diffusion.script.errors import UserError

from .checkpoints import describe, read_weights
from .published import published_weights


class InceptionFeatures(nn.Module):
    """file: the path of the weights."""

    def __init__(self, network, file):
        super().__init__()
        self.network, self.file = network.eval().requires_grad_(False), file

    def forward(self, images):
        return self.network(images)[0].flatten(1)


def load_inception(path=None):
    """The InceptionFeatures with the weights in a file; None: pytorch-fid's own, downloaded. UserError for another
    file."""
    from pytorch_fid import inception

    path = path or published_weights(inception.FID_WEIGHTS_URL, "Inception", "inception_path")
    state = read_weights(path)
    try:
        return InceptionFeatures(_with_weights(inception, state), path)
    except (RuntimeError, TypeError, AttributeError):
        message = f"{path} is {describe(state)}, not pytorch-fid's Inception; check --inception_path"
        raise UserError(message) from None


def _with_weights(inception, state):
    """The library's network with a state dict that was read without running code. It would download its own."""
    download = inception.load_state_dict_from_url
    inception.load_state_dict_from_url = lambda *_, **__: state
    try:
        return inception.InceptionV3()
    finally:
        inception.load_state_dict_from_url = download
