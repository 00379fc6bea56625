"""The only source of randomness when sampling."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

START = 0  # the attempt number under which the start of the chain, shared by all attempts, is drawn
THREADS = 4  # draw ahead, each for one image at a time


class ImageNoise:
    """noise(like) -> standard normals of like's shape, one independent stream for each image of the batch.

    The k-th normal of image i is a function of (seed, i, attempt, k) alone: not of the batch, its order, the
    image's neighbours or the device. It is drawn on the CPU, so a GPU sees the same numbers. Attempts count
    from 1; START is the start of the chain.

    ahead: draw the numbers of the next call in threads while the network computes. These end with this object.
    None: only where the network is on a GPU, since on the CPU it leaves no core idle.
    """

    def __init__(self, seed, ids, attempts, ahead=None):
        self.streams = [
            np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, int(i), attempt])))
            for i, attempt in zip(ids, attempts, strict=True)
        ]
        self.ahead = ahead
        self.threads = ThreadPoolExecutor(THREADS, "noise")
        self.next = None  # (normals that the threads are drawing, a future for each image)

    def __call__(self, like):
        normals = self._drawn_ahead(like.shape)
        if normals is None:
            normals = _buffer(like)
            for stream, image in zip(self.streams, normals, strict=True):
                _draw(stream, image)
        if like.is_cuda if self.ahead is None else self.ahead:
            buffer = _buffer(like)
            images = zip(self.streams, buffer, strict=True)
            self.next = buffer, [self.threads.submit(_draw, *each) for each in images]
        return normals.to(like.device, like.dtype, non_blocking=True)

    def _drawn_ahead(self, shape):
        """The normals that the threads have drawn; None where there are none. Where they have another shape, sets
        the streams back and returns None."""
        if self.next is None:
            return None
        (normals, futures), self.next = self.next, None
        states = [future.result() for future in futures]
        if normals.shape == shape:
            return normals
        for stream, state in zip(self.streams, states, strict=True):
            stream.bit_generator.state = state
        return None


def _buffer(like):
    """An empty CPU tensor of like's shape. For a GPU it is pinned, so that nothing has to wait for the copy."""
    return torch.empty(like.shape, pin_memory=like.is_cuda)


def _draw(stream, image):
    """Fills an image (C, H, W) with the stream's next normals -> the stream's state before that."""
    state = stream.bit_generator.state
    stream.standard_normal(out=image.numpy(), dtype=np.float32)
    return state
