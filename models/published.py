"""Weights that libraries publish. They are kept in torch.hub's cache, under TORCH_HOME."""

from pathlib import Path

import torch

from guided_diffusion.script.errors import UserError


def published_weights(url, kind, flag):
    """The path of a published file in torch.hub's cache. It is downloaded where it is not there.

    Where it cannot be, raises UserError, which says where to put the weights of this `kind`, and names `flag`.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2])
        except (OSError, RuntimeError) as error:  # OSError: no network, or no room; RuntimeError: a wrong hash
            raise UserError(
                f"{kind}'s weights are not at {path} and cannot be downloaded ({error}); "
                f"put them there, or give --{flag}"
            ) from error
    return path
