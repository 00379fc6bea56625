"""What is remembered of a run for its provenance: the device, the time, the memory and the versions."""

import platform
from importlib.metadata import version

import torch

from guided_diffusion.dist_util import peak_memory


def surroundings(networks, ranks, images, seconds):
    """The dict that runs.yaml keeps of a run which explained so many images in so many seconds.

    memory_mib: the most that the first rank held, on the GPU or, without one, in all.
    """
    facts = {
        "images": images,
        "seconds": round(seconds, 3),
        "ranks": ranks.world_size,
        "device": _name(networks.device),
        "memory_mib": round(peak_memory(networks.device) / 2**20),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in ("torch", "torchvision", "numpy", "pillow")},
    }
    if networks.oracle is not None and networks.oracle.attributes:
        facts["oracle_attributes"] = list(networks.oracle.attributes)
    return facts


def _name(device):
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' * (threads > 1)}"
