"""Running a function over many images in batches, read ahead, shared by the ranks."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from tqdm import tqdm

from guided_diffusion.ranks.ranks import connected
from guided_diffusion.script.errors import UserError


@dataclass(frozen=True)
class Batching:
    """How items are run in batches. workers: threads that read ahead; None: four more than cores."""

    device: torch.device
    size: int
    workers: int | None = None

    @torch.no_grad()
    def map(self, function, load, items, desc):
        """Runs a function over all items -> its results, each with a row for every item, on the CPU.

        Of several ranks each takes its part of the items, and all get the results of all. An error of one rank is
        raised on all.

        load(item) -> a tuple of tensors. function gets these stacked, on the device, and returns a tuple of tensors
        with a row for each item. Let load return bytes and function convert them, so that the device waits the
        least.
        """
        ranks = connected()
        own, results, error = items[ranks.rank :: ranks.world_size], [], None
        try:
            with progress(total=len(items), desc=desc, unit="image", disable=not ranks.first) as bar:
                for batch in read_batches(load, own, self.size, self.workers):
                    results.append([part.cpu() for part in function(*(part.to(self.device) for part in batch))])
                    bar.update(min(len(batch[0]) * ranks.world_size, len(items) - bar.n))
        except UserError as raised:
            error = str(raised)
        if first_error := next(filter(None, ranks.collect(error)), None):
            raise UserError(first_error)
        columns = [torch.cat(parts) for parts in zip(*results, strict=True)]
        return _interleaved(ranks.collect(columns)) if ranks.several else columns


def read_batches(load, items, batch_size, workers=None):
    """Yields the items in batches: the tensors that load(item) returns, stacked. The next batch is read ahead.

    workers: how many threads read; None: four more than cores.
    Raises UserError where a batch has images of different sizes, or batch_size is below 1.
    """
    if batch_size < 1:
        raise UserError(f"--batch_size {batch_size} must be at least 1")
    with ThreadPoolExecutor(workers) as pool:
        ahead = []
        for start in range(0, len(items) + batch_size, batch_size):
            batch, ahead = ahead, [pool.submit(load, item) for item in items[start : start + batch_size]]
            if batch:
                yield _stacked([future.result() for future in batch])


def _stacked(rows):
    try:
        return [torch.stack(column) for column in zip(*rows, strict=True)]
    except RuntimeError:
        sizes = sorted({f"{part.shape[-1]} x {part.shape[-2]}" for row in rows for part in row})
        raise UserError(f"the images are of several sizes ({', '.join(sizes)}); explain them at one size") from None


@contextmanager
def progress(**options):
    """A tqdm bar. An error removes it, so that its message stands alone."""
    with tqdm(**options) as bar:
        try:
            yield bar
        except BaseException:
            bar.leave = False
            raise


def _interleaved(columns_of_ranks):
    """The columns of each rank, which has every world_size-th row -> those of all. A rank without rows has []."""
    world_size, columns_of_ranks = len(columns_of_ranks), [columns for columns in columns_of_ranks if columns]
    places = [rank + world_size * torch.arange(len(columns[0])) for rank, columns in enumerate(columns_of_ranks)]
    order = torch.cat(places).argsort()
    return [torch.cat(parts)[order] for parts in zip(*columns_of_ranks, strict=True)]
