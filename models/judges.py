"""The loaders of the networks that judge counterfactuals, by the kinds that core.metrics.judges asks for."""

import warnings

from torch import nn

from guided_diffusion.script.errors import UserError

from .checkpoints import describe, read_weights
from .classifiers import load_classifier
from .downloads import published_weights
from .oracles import load_oracle
from .perceptual import vgg_layers
from .vggface2 import load_vggface2


class InceptionFeatures(nn.Module):
    """pytorch-fid's Inception: images (N, 3, H, W) in [0, 1] -> features (N, 2048). file: the weights' path."""

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
        return InceptionFeatures(_inception_of(inception, state), path)
    except (RuntimeError, TypeError, AttributeError):
        message = f"{path} is {describe(state)}, not pytorch-fid's Inception; check --inception_path"
        raise UserError(message) from None


def _inception_of(inception, state):
    """The library's network with a state dict that was read without running code. It would download its own."""
    download = inception.load_state_dict_from_url
    inception.load_state_dict_from_url = lambda *_, **__: state
    try:
        return inception.InceptionV3()
    finally:
        inception.load_state_dict_from_url = download


def load_lpips(path=None):
    """LPIPS-VGG (Zhang et al., CVPR 2018): two images (N, 3, H, W) in [-1, 1] -> distances (N, 1, 1, 1).

    path: a file of VGG16's weights; None: torchvision's, downloaded. The library has the linear weights. The
    network's `file` is the path of the others.
    """
    import lpips

    layers, file = vgg_layers("VGG16", path, "vgg_path")
    with warnings.catch_warnings(action="ignore"):  # it calls torchvision as that was called once
        network = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)  # random, so that it downloads nothing
    for part in network.net.children():
        for number, layer in part.named_children():
            layer.load_state_dict(layers[int(number)].state_dict())
    network.file = file
    return network.eval().requires_grad_(False)


LOADERS = {
    "classifier": load_classifier,
    "oracle": load_oracle,
    "faces": load_vggface2,
    "inception": load_inception,
    "lpips": load_lpips,
}
