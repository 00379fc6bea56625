"""Weights that libraries publish, where they keep them: torch.hub's cache, under TORCH_HOME."""
from pathlib import Path

import torch

from guided_diffusion.errors import UserError


def published_weights(url, kind, flag):
    """The path of a published file in torch.hub's cache, downloaded first where it is not there.

    Raises UserError, which says where the weights of a `kind` would have to lie, and names `flag`.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2])
        except (OSError, RuntimeError) as error:  # no network or no room; another hash
            raise UserError(
                f"{kind}'s weights are not at {path} and cannot be downloaded ({error}); "
                f"put them there, or give --{flag}"
            ) from error
    return path
