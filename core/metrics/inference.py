"""What the compute_ scripts share: their flags, and networks run over a results folder in batches."""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from tqdm import tqdm

from guided_diffusion.errors import UserError
from guided_diffusion.flags import BATCH_SIZE, GPU, Flag

from ..data.datasets import CELEBA_ATTRIBUTES, attribute_index, data_attributes
from ..data.images import from_uint8
from ..results.folder import ResultsFolder, read_classes, read_flags, read_pairs
from ..running.flags import BEFORE_THE_FLAG, NETWORK_FLAGS, SMILING

RESULTS_FLAGS = {
    "output_path": Flag("output", "the --output_path of main.py"),
    "exp_name": Flag("exp", "the --exp_name of main.py"),
}
DEVICE_FLAGS = {"gpu": GPU, "batch_size": BATCH_SIZE}
# By default those of the run (take_from_run).
QUERY_FLAGS = {
    "query_label": Flag(None, "the attribute that was to change, by name or index; by default the run's")
}
ORACLE_FLAGS = {
    "oracle_path": Flag(None, "weights of the oracle; by default the run's"),
    "oracle_architecture": NETWORK_FLAGS["oracle_architecture"],
}
FLIPPED = "pairs that reached their target"


def take_from_run(args, *flags):
    """Fills those of the flags that were not given: with the run's, else with what main.py would take."""
    of_run = {name: flag.default for name, flag in NETWORK_FLAGS.items()}
    of_run |= {"oracle_path": "models/oracle.pth", "data_dir": None, "query_label": SMILING}
    given = read_flags(args.output_path, args.exp_name)
    of_run |= {name: value for name, value in given.items() if value is not None}
    for flag in flags:
        if getattr(args, flag) is None:
            setattr(args, flag, of_run["data_dir" if flag == "celeba_path" else flag])


def task_of_run(args):
    """What an experiment is about: attributes or classes."""
    return (BEFORE_THE_FLAG | read_flags(args.output_path, args.exp_name))["task"]


def classes_of_run(args):
    """What the classes of an experiment are called; UserError where it does not say."""
    names = read_classes(args.output_path, args.exp_name)
    if not names:
        raise UserError(f"{args.output_path}/Results/{args.exp_name} has no classes.txt; run main.py again")
    return names


def find_query(args, network):
    """(names of the network's outputs, the index among them of --query_label), after take_from_run.

    A number in --query_label counts the attributes of data in CelebA's layout, as in main.py; those of the network
    may be others. Of other data it counts those of the network.
    UserError where the network does not answer the question.
    """
    names, query = tuple(network.attributes or CELEBA_ATTRIBUTES), str(args.query_label)
    if query.isdigit():
        data_dir = getattr(args, "celeba_path", None) or read_flags(args.output_path, args.exp_name).get("data_dir")
        of_data = data_attributes(data_dir) or names
        query = of_data[attribute_index(of_data, query)]
    return names, attribute_index(names, query)


def tell_unfinished(output_path, exp_name):
    """Says so, on stderr, where main.py has not finished an experiment: what is there will be measured."""
    folder = ResultsFolder(output_path, exp_name)
    if not folder.summary_path.exists() and read_flags(output_path, exp_name):
        print(
            f"{folder.experiment} has no summary.yaml: the run is not finished, or its chunks are not merged; "
            "only what is there is measured",
            file=sys.stderr,
        )


def require_pairs(output_path, exp_name, **which):
    """read_pairs, at least one; UserError where there is none."""
    tell_unfinished(output_path, exp_name)
    pairs = read_pairs(output_path, exp_name, **which)
    if not pairs:
        kind = "images" if "ICF" in which.get("reached", ()) else FLIPPED
        raise UserError(f"{output_path}/Results/{exp_name} holds no {kind}, or --save_images was False")
    return pairs


def read_batches(load, items, batch_size):
    """Yields load(item), a tuple of tensors, of each item in order, stacked; the next batch is read ahead.

    Raises UserError where images of different sizes meet in a batch, or a batch would hold none.
    """
    if batch_size < 1:
        raise UserError(f"--batch_size {batch_size} must be at least 1")
    with ThreadPoolExecutor() as pool:
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
    """A tqdm bar, which an error takes away, so that its message stands alone."""
    with tqdm(**options) as bar:
        try:
            yield bar
        except BaseException:
            bar.leave = False
            raise


@torch.no_grad()
def in_batches(function, load, items, batch_size, device, desc):
    """function(*stacked load(item)) of every item, whatever the batches -> its rows, joined, on the CPU.

    function takes batches on the device and gives a tuple of tensors with a row for each item. Load images as
    bytes, and make numbers of them there: that leaves the device waiting the least.
    """
    found = []
    with progress(total=len(items), desc=desc, unit="image") as bar:
        for batch in read_batches(load, items, batch_size):
            found.append([part.cpu() for part in function(*(part.to(device) for part in batch))])
            bar.update(len(batch[0]))
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


def require_size(network, pairs, flag):
    """UserError, naming the flag, where the network was trained on images of another size."""
    size = pairs[0].pixels()[0].shape[-1]
    if network.image_size not in (None, size):
        raise UserError(
            f"--{flag}: the network was trained at {network.image_size} pixels, but {pairs[0].original} has {size}"
        )


def judge(oracle, pairs, batch_size, device, see=None):
    """An oracle's decisions, 0 or 1, on originals and on counterfactuals: (N, A) each.

    see: images in [-1, 1] -> what the oracle sees in them, where that is something else.
    """
    require_size(oracle, pairs, "oracle_path")
    see = see or (lambda images: (oracle(images) > 0).long())

    def decide_both(*both):
        return [see(from_uint8(pixels)) for pixels in both]

    return in_batches(decide_both, lambda pair: pair.pixels(), pairs, batch_size, device, "oracle")
