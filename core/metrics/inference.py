"""What the compute_ scripts share: flags, and running networks over the images of a results folder in batches."""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from tqdm import tqdm

from guided_diffusion.dist_util import device_from
from guided_diffusion.ranks.connecting import connect
from guided_diffusion.ranks.ranks import connected
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import BATCH_SIZE, GPU, Flag

from ..data.datasets import CELEBA_ATTRIBUTES, attribute_index, data_attributes
from ..data.images import from_uint8
from ..results.folder import ResultsFolder, experiment_folder, image_id
from ..results.reading import read_classes, read_flags, read_pairs
from ..results.records import correct, flipped, remedy_of
from ..running.flags import BEFORE_THE_FLAG, FLAGS, NETWORK_FLAGS, ROLES, SMILING, named_flags

RESULTS_FLAGS = {
    "output_path": Flag("output", "the --output_path of main.py"),
    "exp_name": Flag("exp", "the --exp_name of main.py"),
}
DEVICE_FLAGS = {
    "gpu": GPU,
    "batch_size": BATCH_SIZE,
    "num_workers": Flag(
        None, "threads that read and decode images ahead; by default four more than cores", int, low=1, high=1024
    ),
}
# Their values are the run's where they are not given (take_from_run).
QUERY_FLAGS = {
    "query_label": Flag(None, "the attribute that was to change, by name or index; by default the run's")
}
ORACLE_FLAGS = {
    "oracle_path": Flag(None, "the oracle, a file or a name; by default the run's"),
    "oracle_architecture": NETWORK_FLAGS["oracle_architecture"],
    **named_flags("oracle"),
}
CLASSIFIER_FLAGS = {
    "classifier_path": Flag(None, "the explained classifier, a file or a name; by default the run's"),
    "classifier_architecture": NETWORK_FLAGS["classifier_architecture"],
    **named_flags("classifier"),
}
FLIPPED = "pairs that reached their target"


def start_ranks(args):
    """Connects the ranks that share a metric, if there are several -> (this one's device, whether it is the first).

    All run the networks (in_batches); the first alone makes metrics of what they found.
    """
    ranks = connect()
    return device_from(args.gpu, ranks), ranks.first


def flags_of_run(output_path, exp_name):
    """read_flags(), but a text that was written as a number is a text; UserError where a flag has a value that it
    cannot have."""
    flags = read_flags(output_path, exp_name)
    for name in FLAGS.keys() & flags.keys():
        try:
            FLAGS[name].check_type(name, flags[name])
            FLAGS[name].check(name, flags[name])
            if FLAGS[name].kind is str and flags[name] is not None:
                flags[name] = str(flags[name])
        except UserError as error:
            experiment = experiment_folder(output_path, exp_name)
            raise UserError(f"flags.yaml in {experiment} is damaged ({error}); {remedy_of('flags.yaml')}") from None
    return flags


def take_from_run(args, *flags):
    """Gives the flags that were not given the values of the run, or else main.py's defaults.

    With the path of a network come its weights and the preparing of its images, not its architecture: that is code,
    which is run only where the user names it. Returns the names of the flags that got a value.
    """
    run_flags = {name: flag.default for name, flag in NETWORK_FLAGS.items()}
    run_flags |= {"oracle_path": "models/oracle.pth", "data_dir": None, "query_label": SMILING}
    recorded = flags_of_run(args.output_path, args.exp_name)
    run_flags |= {name: value for name, value in recorded.items() if value is not None}
    taken = {flag for flag in flags if getattr(args, flag) is None}
    with_paths = [name for role in ROLES if f"{role}_path" in taken for name in named_flags(role)]
    taken |= {name for name in with_paths if getattr(args, name, "") is None}
    for flag in taken:
        setattr(args, flag, run_flags["data_dir" if flag == "celeba_path" else flag])
    return taken


def what_was_used(args, role):
    """Two dicts for publish: the path and weights of a role's network, and the flags that prepare its images."""
    weights = {f"{role}_path": getattr(args, f"{role}_path")}
    options = {name: value for name in named_flags(role) if (value := getattr(args, name)) is not None}
    if f"{role}_weights" in options:
        weights[f"{role}_weights"] = options.pop(f"{role}_weights")
    return weights, options


def task_of_run(args):
    """What an experiment is about: attributes or classes."""
    return (BEFORE_THE_FLAG | flags_of_run(args.output_path, args.exp_name))["task"]


def classes_of_run(args):
    """What the classes of an experiment are called; UserError where it does not say."""
    names = read_classes(args.output_path, args.exp_name)
    if not names:
        raise UserError(f"{args.output_path}/Results/{args.exp_name} has no classes.txt; run main.py again")
    return names


def find_query(args, network):
    """(names of the network's outputs, index of --query_label among them). Call it after take_from_run.

    A number in --query_label is an index among the attributes of data in CelebA's layout, as in main.py; the
    network may have others. For other data it is an index among the network's.
    UserError where none of its outputs is the queried attribute.
    """
    names, query = tuple(network.attributes or CELEBA_ATTRIBUTES), str(args.query_label)
    if query.isdigit():
        run_flags = flags_of_run(args.output_path, args.exp_name)
        data_dir = getattr(args, "celeba_path", None) or run_flags.get("data_dir")
        data_names = data_attributes(data_dir) or names
        query = data_names[attribute_index(data_names, query)]
    return names, attribute_index(names, query)


def find_question(args, classifier):
    """What the run explained, images -> logits, and its words for a file; UserError where it cannot be.

    Call it after take_from_run. The logits are (N,) of an attribute, (N, K) of classes.
    """
    if task_of_run(args) == "attributes":
        attributes, query = find_query(args, classifier)
        return lambda images: classifier(images)[:, query], {"query_label": attributes[query]}
    names, known = classes_of_run(args), classifier.attributes
    if known and len(known) != len(names):
        raise UserError(
            f"--classifier_path {args.classifier_path} has {len(known)} classes, but {args.exp_name} {len(names)}"
        )
    return classifier, {"classes": len(names)}


def tell_unfinished(output_path, exp_name):
    """Warns on stderr where main.py has not finished an experiment, as only a part of it can be measured."""
    folder = ResultsFolder(output_path, exp_name)
    flags = flags_of_run(output_path, exp_name)
    if connected().first and flags and not folder.summary_path.exists():
        print(
            f"{folder.experiment} has no summary.yaml: the run is not finished, or its chunks are not merged; "
            "only what is there is measured",
            file=sys.stderr,
        )


def require_pairs(output_path, exp_name, **which):
    """read_pairs(), but UserError where there is no pair, or one that was explained is gone. which: its further
    arguments."""
    tell_unfinished(output_path, exp_name)
    pairs = read_pairs(output_path, exp_name, **which)
    if not pairs:
        kind = "images" if "ICF" in which.get("reached", ()) else FLIPPED
        raise UserError(f"{output_path}/Results/{exp_name} holds no {kind}, or --save_images was False")
    require_recorded(output_path, exp_name, pairs, **which)
    return pairs


def require_recorded(output_path, exp_name, pairs, classified=("CC", "IC"), reached=("CCF",)):
    """UserError where an image that records.csv has in these folders is not among the pairs."""
    folder = ResultsFolder(output_path, exp_name)
    table = folder.records()
    if table is None or not flags_of_run(output_path, exp_name).get("save_images", True):
        return
    right, flips = correct(table), flipped(table)
    wanted = right.map({True: "CC", False: "IC"}).isin(classified) & flips.map({True: "CCF", False: "ICF"}).isin(
        reached
    )
    missing = sorted({image_id(i) for i in table["id"][wanted]} - {pair.id for pair in pairs})
    if missing:
        raise UserError(
            f"{folder.records_path} has {len(missing)} images whose counterfactuals are gone, such as "
            f"{missing[0]}; the command of main.py that made them restores them"
        )


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


@torch.no_grad()
def in_batches(function, load, items, batch_size, device, desc, workers=None):
    """Runs a function over all items in batches -> its results, each with a row for every item, on the CPU.

    Of several ranks each takes its part of the items, and all get the results of all.

    load(item) -> a tuple of tensors. function gets these stacked, on the device, and returns a tuple of tensors
    with a row for each item. Let load return bytes and function convert them, so that the device waits the least.
    """
    ranks = connected()
    own, results = items[ranks.rank :: ranks.world_size], []
    with progress(total=len(items), desc=desc, unit="image", disable=not ranks.first) as bar:
        for batch in read_batches(load, own, batch_size, workers):
            results.append([part.cpu() for part in function(*(part.to(device) for part in batch))])
            bar.update(min(len(batch[0]) * ranks.world_size, len(items) - bar.n))
    columns = [torch.cat(parts) for parts in zip(*results, strict=True)]
    return _interleaved(ranks.collect(columns)) if ranks.several else columns


def _interleaved(columns_of_ranks):
    """The columns of each rank, which has every world_size-th row -> those of all. A rank without rows has []."""
    world_size, found = len(columns_of_ranks), [columns for columns in columns_of_ranks if columns]
    joined = []
    for parts in zip(*found, strict=True):
        whole = parts[0].new_empty((sum(map(len, parts)), *parts[0].shape[1:]))
        for rank, part in enumerate(parts):
            whole[rank::world_size] = part
        joined.append(whole)
    return joined


def size_of(pairs):
    """Pixels of the images."""
    return pairs[0].pixels()[0].shape[-1]


def require_size(network, pairs, flag):
    """UserError, naming the flag, where the network was trained on images of another size."""
    size = size_of(pairs)
    if network.image_size not in (None, size):
        raise UserError(
            f"--{flag}: the network was trained at {network.image_size} pixels, but {pairs[0].original} has {size}"
        )


def judge(oracle, pairs, batch_size, device, see=None, workers=None):
    """An oracle's decisions, 0 or 1, on the originals (N, A) and on the counterfactuals (N, A) of N pairs.

    see: images in [-1, 1] -> what the oracle sees in them, instead of these decisions.
    """
    require_size(oracle, pairs, "oracle_path")
    see = see or (lambda images: (oracle(images) > 0).long())

    def decide_both(*originals_and_counterfactuals):
        return [see(from_uint8(pixels)) for pixels in originals_and_counterfactuals]

    return in_batches(decide_both, lambda pair: pair.pixels(), pairs, batch_size, device, "oracle", workers)
