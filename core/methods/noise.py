"""The only source of randomness when sampling."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

START = 0  # the attempt number under which the start of the chain, shared by all attempts, is drawn
THREADS = 4  # draw, each for one image at a time


class ImageNoise:
    """noise(like) -> standard normals of like's shape, one independent stream for each image of the batch.

    The k-th normal of image i is a function of (seed, i, attempt, k) alone: not of the batch, its order, the
    image's neighbours or the device. It is drawn on the CPU, so a GPU sees the same numbers. Attempts count
    from 1; START is the start of the chain.

    ahead: draw the numbers of the next call while the network computes. None: only where the network is on a GPU,
    since on the CPU that leaves no core idle. The threads that draw end with this object.
    """

    def __init__(self, seed, ids, attempts, ahead=None):
        self.streams = [
            np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, int(i), attempt])))
            for i, attempt in zip(ids, attempts, strict=True)
        ]
        self.ahead = ahead
        self.threads = ThreadPoolExecutor(THREADS, "noise")
        self.next = None  # of the next call, where it is drawn ahead: as _start returns it

    def __call__(self, like):
        normals, futures = self.next or self._start(like)
        states = [future.result() for future in futures]
        self.next = None
        if normals.shape != like.shape:  # they were drawn ahead: the streams go back
            for stream, state in zip(self.streams, states, strict=True):
                stream.bit_generator.state = state
            return self(like)
        if like.is_cuda if self.ahead is None else self.ahead:
            self.next = self._start(like)
        return normals.to(like.device, like.dtype, non_blocking=True)

    def _start(self, like):
        """(a CPU tensor of like's shape, which threads fill; their futures). Pinned, so that no GPU waits."""
        normals = torch.empty(like.shape, pin_memory=like.is_cuda)
        return normals, [self.threads.submit(_draw, *each) for each in zip(self.streams, normals, strict=True)]


def _draw(stream, image):
    """Fills an image (C, H, W) with the stream's next normals -> the stream's state before that."""
    state = stream.bit_generator.state
    stream.standard_normal(out=image.numpy(), dtype=np.float32)
    return state
