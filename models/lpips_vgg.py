"""LPIPS-VGG (Zhang et al., CVPR 2018): two images (N, 3, H, W) in [-1, 1] -> distances (N, 1, 1, 1)."""

import warnings

from .perceptual import vgg_file, vgg_layers


def load_lpips(path=None):
    """The library's network with VGG16's weights in a file; None: torchvision's, downloaded.

    The linear weights come with the library. The network's `file` is the path of the others.
    """
    import lpips

    file = vgg_file("VGG16", path, "vgg_path")
    layers = vgg_layers("VGG16", file, "vgg_path")
    with warnings.catch_warnings(action="ignore"):  # it calls torchvision as that was called once
        network = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)  # random, so that it downloads nothing
    for part in network.net.children():
        for number, layer in part.named_children():
            layer.load_state_dict(layers[int(number)].state_dict())
    network.file = file
    return network.eval().requires_grad_(False)
