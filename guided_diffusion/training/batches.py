"""Training batches whose contents depend only on the seed and the step."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np
import torch

from ..pixels import from_uint8
from ..ranks.ranks import Ranks

# What a random stream is for: the last number of its key.
TIME, NOISE, ORDER, MIRROR = range(4)


def generator(*key):
    """A numpy generator for a key of integers below 2**32. Equal keys give equal streams, other keys other ones."""
    # A seed sequence pads its numbers with zeros: without the length, [1] and [1, 0] would share a stream.
    return np.random.default_rng(np.random.SeedSequence((len(key), *key)))


@dataclass
class Batch:
    """A training step's images (N, 3, S, S) float32 in [-1, 1] and labels (N, A).

    places: (N,) the samples' indices in the step's whole batch. A random stream's key is (seed, step, place, ...).
    noise: standard normals of the images' shape, where they were drawn ahead.
    """

    seed: int
    step: int
    places: list
    images: torch.Tensor
    labels: torch.Tensor
    noise: torch.Tensor = None

    def split(self, size):
        """Yields the same samples in batches of at most `size`."""
        for start in range(0, len(self.places), size):
            part = slice(start, start + size)
            noise = None if self.noise is None else self.noise[part]
            yield Batch(self.seed, self.step, self.places[part], self.images[part], self.labels[part], noise)

    def uniforms(self):
        """(N,) float64 in [0, 1), one of each sample's stream."""
        return np.array([generator(self.seed, self.step, place, TIME).random() for place in self.places])

    def normals(self):
        """Standard normals of the images' shape."""
        if self.noise is None:
            return draw_normals(self.seed, self.step, self.places, self.images.shape[1:]).to(self.images.device)
        return self.noise


def draw_normals(seed, step, places, shape):
    """Standard normals (N, *shape) float32, one row of each place's stream."""
    drawn = [generator(seed, step, place, NOISE).standard_normal(shape, dtype=np.float32) for place in places]
    return torch.from_numpy(np.stack(drawn))


def pinned(tensor, device):
    """A tensor of the CPU, where `device` is a GPU in memory that it can copy from while the CPU goes on."""
    return tensor.pin_memory() if torch.device(device).type == "cuda" else tensor


def send(tensor, device):
    """A tensor of the CPU, pinned(), or None, on the device. A GPU copies it in its turn: nobody waits."""
    return None if tensor is None else tensor.to(device, non_blocking=True)


@dataclass
class Batches:
    """Iterates over the batches of steps start, start + 1, … of an endless, seeded order of `dataset`.

    dataset: .pixels(i) -> uint8 (3, S, S), from several threads at once; .labels (N, A); __len__. Every epoch is
    a new permutation; with random_flip half of the images are mirrored, drawn by epoch and image.
    A step's whole batch has batch_size samples for each of the ranks, and this is the part of this rank. All parts
    together are, bit for bit, the batch that a single rank of that size would get.
    num_workers threads load batches, each of them two ahead of the training. with_noise: they draw the noise as
    well; to draw it later would keep a GPU waiting at 128 x 128.
    """

    dataset: Any
    batch_size: int
    seed: int
    start: int = 0
    random_flip: bool = False
    num_workers: int = 4
    device: Any = "cpu"
    ranks: Ranks = Ranks()
    with_noise: bool = False

    def __post_init__(self):
        first = self.ranks.rank * self.batch_size
        self.places = list(range(first, first + self.batch_size))

    def __iter__(self):
        # Threads are enough: Pillow releases Python's lock. Processes would fork beside the threads of CUDA or MPI,
        # and need room in /dev/shm.
        pool, ahead = ThreadPoolExecutor(self.num_workers), 2 * self.num_workers
        try:
            loading = deque(pool.submit(self._load, self.start + k) for k in range(ahead))
            for step in count(self.start):
                pixels, labels, noise = (send(part, self.device) for part in loading.popleft().result())
                loading.append(pool.submit(self._load, step + ahead))
                yield Batch(self.seed, step, self.places, from_uint8(pixels), labels, noise)
        finally:
            pool.shutdown(cancel_futures=True)

    def _load(self, step):
        """A step's images as uint8 (B, 3, S, S), some mirrored, their labels (B, A), and noise or None."""
        picks = [self._pick(step * self.ranks.world_size * self.batch_size + place) for place in self.places]
        pixels = [self.dataset.pixels(i).flip(-1) if mirrored else self.dataset.pixels(i) for i, mirrored in picks]
        labels = self.dataset.labels[[i for i, _ in picks]]
        noise = draw_normals(self.seed, step, self.places, pixels[0].shape) if self.with_noise else None
        pixels = torch.stack(pixels).contiguous(memory_format=torch.channels_last)
        return [None if part is None else pinned(part, self.device) for part in (pixels, labels, noise)]

    def _pick(self, position):
        """The position-th sample of the endless order -> (image index, whether it is mirrored)."""
        epoch, place = divmod(position, len(self.dataset))
        i = int(_order(self.seed, epoch, len(self.dataset))[place])
        return i, self.random_flip and bool(generator(self.seed, epoch, i, MIRROR).integers(2))


def loading_options(args):
    """The options of Batches that the flags of every trainer say."""
    return {name: getattr(args, name) for name in ("batch_size", "seed", "random_flip", "num_workers")}


@lru_cache(maxsize=4)
def _order(seed, epoch, n):
    return generator(seed, epoch, 0, ORDER).permutation(n)
