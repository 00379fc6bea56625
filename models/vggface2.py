"""VGGFace2's ResNet-50 (Cao et al., 2018): features that identify the person on a photograph."""

import pickle

import numpy as np
import torch
import torchvision
from torch import nn
from torchvision.transforms import functional as transforms

from guided_diffusion.script.errors import UserError, first_sentence

from .checkpoints import is_safetensors, load_state, read_head, read_weights

IDENTITIES = 8631
# module: names of all that a pickle of numpy arrays needs, whether Python 2 or 3 wrote it, with any numpy.
ARRAY_PARTS = {
    "numpy": ("ndarray", "dtype"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "numpy.core.numeric": ("_frombuffer",),
    "_codecs": ("encode",),
    "collections": ("OrderedDict",),
}


class FaceFeatures(nn.Module):
    """resnet50_ft up to its average pool: RGB (N, 3, 224, 224) in 0 … 255, uint8 or float -> features (N, 2048)."""

    MEAN = (91.4953, 103.8827, 131.0912)  # of blue, green and red

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.network.fc = nn.Identity()
        self.register_buffer("mean", torch.tensor(self.MEAN).view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, pixels):
        return self.network(pixels.flip(1) - self.mean)

    @staticmethod
    def pixels_of(pixels):
        """uint8 (3, H, W) -> what forward takes: the short side is resized to 224 by PIL."""
        return transforms.pil_to_tensor(transforms.resize(transforms.to_pil_image(pixels), 224))


def caffe_resnet50():
    """torchvision's ResNet-50 in Caffe's layout: blocks have their stride in the first convolution, and the max
    pooling rounds up."""
    network = torchvision.models.resnet50(weights=None, num_classes=IDENTITIES)
    network.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
    for stage in (network.layer2, network.layer3, network.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return network


def load_vggface2(path):
    """The published resnet50_ft, a pickle of numpy arrays, or a safetensors file of the same -> FaceFeatures.

    UserError for another file.
    """
    if is_safetensors(read_head(path)):
        state = read_weights(path)
    else:
        state = {name: torch.from_numpy(array) for name, array in read_arrays(path).items()}
    return FaceFeatures(load_state(caffe_resnet50(), state, path, kind="VGGFace2 network"))


def read_arrays(path):
    """A pickle of a dict of numpy arrays -> the dict. No code in it runs: UserError where it has anything else."""
    read_head(path)
    try:
        with open(path, "rb") as file:
            contents = _ArrayUnpickler(file, encoding="latin1").load()
    except UserError as error:
        raise UserError(f"{path} {error}") from None
    except Exception as error:  # on damaged bytes the unpickler raises almost any exception
        reason = first_sentence(error)
        raise UserError(f"{path} is cut short, damaged or no pickle ({reason}); download it again") from error
    arrays = contents.values() if isinstance(contents, dict) else [None]
    if not all(isinstance(array, np.ndarray | np.generic) and array.dtype.kind in "fiu" for array in arrays):
        raise UserError(f"{path} is not a pickle of numpy arrays; give VGGFace2's resnet50_ft")
    # Copies, as torch needs this machine's byte order and writable memory. A 0-d array stays one.
    return {str(name): np.array(array, dtype=array.dtype.newbyteorder("=")) for name, array in contents.items()}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if name not in ARRAY_PARTS.get(module.replace("numpy._core", "numpy.core"), ()):
            raise UserError(
                f"is refused: it names {module}.{name}, and only numpy arrays are read, "
                "so opening it could run code; give VGGFace2's resnet50_ft"
            )
        return super().find_class(module, name)
