"""Activations of image files, computed once."""

from contextlib import suppress
from zipfile import BadZipFile

import numpy as np

from guided_diffusion.ranks.ranks import connected
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.storage import sha256, write_file

from ..data.images import read_image


def activations_of(path, files, network, weights, batches, desc):
    """The network's features of image files, (N, D) float32. Those that lie in `path` are not computed again.

    network: images (N, 3, H, W) in [0, 1] -> (N, D). path: a .npz that this function writes; where it cannot,
    nothing is written. Features are looked up by the image file's hash and by `weights`, the hash of the network's
    weights, so they cannot be out of date.
    """
    hashes = [sha256(file) for file in files]
    by_hash = _read(path, weights)
    missing = {digest: file for digest, file in zip(hashes, files, strict=True) if digest not in by_hash}
    if missing:

        def load(file):
            return (read_image(file),)

        def activations(pixels):
            return (network(pixels / 255),)

        (computed,) = batches.map(activations, load, list(missing.values()), desc)
        by_hash |= dict(zip(missing, computed.float().numpy(), strict=True))
        if connected().first:
            _write(path, weights, by_hash)
    return np.stack([by_hash[digest] for digest in hashes])


def _read(path, weights):
    """Hash of an image file -> its activations; {} where `path` holds none of these weights."""
    try:
        with np.load(path) as file:
            if str(file["weights"]) == weights:
                return dict(zip(file["hashes"].tolist(), file["activations"], strict=True))
    except (OSError, ValueError, KeyError, BadZipFile, EOFError):
        pass  # absent or damaged: they are computed again
    return {}


def _write(path, weights, by_hash):
    arrays = {"hashes": list(by_hash), "activations": np.stack(list(by_hash.values()))}
    with suppress(UserError):  # the folder may be read-only
        write_file(path, lambda file: np.savez(file, weights=weights, **arrays))
