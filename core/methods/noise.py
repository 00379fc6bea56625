"""The only source of randomness when sampling."""

import numpy as np
import torch

START = 0  # the attempt number under which the start of the chain, shared by all attempts, is drawn


class ImageNoise:
    """noise(like) -> standard normals of like's shape, one independent stream for each image of the batch.

    The k-th normal of image i is a function of (seed, i, attempt, k) alone: not of the batch, its order, the
    image's neighbours or the device. It is drawn on the CPU, so a GPU sees the same numbers. Attempts count
    from 1; START is the start of the chain.
    """

    def __init__(self, seed, ids, attempts):
        self.streams = [
            np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, int(i), attempt])))
            for i, attempt in zip(ids, attempts, strict=True)
        ]

    def __call__(self, like):
        shape = like.shape[1:]
        drawn = np.stack([stream.standard_normal(shape, dtype=np.float32) for stream in self.streams])
        return torch.from_numpy(drawn).to(device=like.device, dtype=like.dtype)
