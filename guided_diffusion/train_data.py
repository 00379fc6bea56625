"""Training batches whose contents depend on the seed and the step alone."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from .pixels import from_uint8

# What a stream is for: the last number of its key.
TIME, NOISE, ORDER, MIRROR = range(4)


def generator(*key):
    """A numpy generator for a tuple of integers below 2**32; equal keys give equal streams, others another."""
    # A seed sequence pads its numbers with zeros: without the length, [1] and [1, 0] would share a stream.
    return np.random.default_rng(np.random.SeedSequence((len(key), *key)))


@dataclass
class Batch:
    """images (N, 3, S, S) float32 in [-1, 1], labels (N, A) or None, and which step of the training this is.

    places: (N,) the samples' indices in the step's whole batch; with seed and step they name a random stream.
    """

    seed: int
    step: int
    places: list
    images: torch.Tensor
    labels: torch.Tensor

    def split(self, size):
        """The same samples in batches of at most `size`."""
        for start in range(0, len(self.places), size):
            part = slice(start, start + size)
            yield Batch(self.seed, self.step, self.places[part], self.images[part], self.labels[part])

    def uniforms(self):
        """(N,) float64 in [0, 1)."""
        return np.array([generator(self.seed, self.step, place, TIME).random() for place in self.places])

    def normals(self):
        """Standard normals of the images' shape."""
        shape = tuple(self.images.shape[1:])
        drawn = [
            generator(self.seed, self.step, place, NOISE).standard_normal(shape, dtype=np.float32)
            for place in self.places
        ]
        return torch.from_numpy(np.stack(drawn)).to(self.images.device)


class Batches:
    """Iterates over the batches of steps start, start + 1, … of an endless, seeded order of `dataset`.

    dataset: .pixels(i) -> uint8 (3, S, S); .labels (N, A); __len__. Every epoch is a new permutation; with
    random_flip half of the images are mirrored. Images are decoded by threads, `ahead` batches in advance, and
    kept decoded in memory where all of them fit into `cache_bytes`.
    """

    def __init__(
        self, dataset, batch_size, seed, start=0, random_flip=False, ahead=4, cache_bytes=8 << 30, device="cpu"
    ):
        self.dataset, self.batch_size, self.seed, self.start = dataset, batch_size, seed, start
        self.random_flip, self.ahead, self.device = random_flip, ahead, device
        self.permutation_epoch, self.permutation = None, None
        size = dataset.pixels(0).shape
        self.cached = len(dataset) * int(np.prod(size)) <= cache_bytes
        self.cache = torch.empty((len(dataset), *size), dtype=torch.uint8) if self.cached else None
        self.filled = np.zeros(len(dataset), dtype=bool)

    def __iter__(self):
        with ThreadPoolExecutor(4) as pool:
            queue = []
            step = self.start
            while True:
                while len(queue) <= self.ahead:
                    queue.append(self._request(pool, step + len(queue)))
                yield self._collect(step, queue.pop(0))
                step += 1

    def _request(self, pool, step):
        first = step * self.batch_size
        picks = [self._pick(first + place) for place in range(self.batch_size)]
        return [(i, flip, pool.submit(self._decode, i)) for i, flip in picks]

    def _pick(self, position):
        """The position-th sample of the endless order -> (image index, whether to mirror it)."""
        epoch, place = divmod(position, len(self.dataset))
        if epoch != self.permutation_epoch:
            self.permutation_epoch = epoch
            self.permutation = generator(self.seed, epoch, 0, ORDER).permutation(len(self.dataset))
        i = int(self.permutation[place])
        return i, self.random_flip and bool(generator(self.seed, epoch, i, MIRROR).integers(2))

    def _decode(self, i):
        if not self.cached:
            return self.dataset.pixels(i)
        if not self.filled[i]:
            self.cache[i] = self.dataset.pixels(i)
            self.filled[i] = True
        return self.cache[i]

    def _collect(self, step, requests):
        pixels = torch.stack([job.result().flip(-1) if flip else job.result() for _, flip, job in requests])
        images = from_uint8(pixels.to(self.device, memory_format=torch.channels_last))
        labels = self.dataset.labels[[i for i, _, _ in requests]].to(self.device)
        return Batch(self.seed, step, list(range(len(requests))), images, labels)
