"""The flags of main.py: flag -> (default, help). Those of the network stand in guided_diffusion.script_util."""

import hashlib
import math
from pathlib import Path

from guided_diffusion.errors import UserError
from guided_diffusion.sampling import COMPUTE_FLAGS
from guided_diffusion.script_util import parse_numbers
from guided_diffusion.storage import sha256

from ..data.datasets import DATASETS, SPLITS
from ..methods.flags import METHOD_FLAGS

DATA_FLAGS = {
    "dataset": ("CelebA", f"what to explain: {' or '.join(DATASETS)}"),
    "data_dir": (None, "the folder with img_align_celeba/, list_attr_celeba and list_eval_partition"),
    "use_train": (False, "explain the training split instead of --split"),
    "split": (None, f"the split to explain: {', '.join(SPLITS)} (default: val)"),
    "batch_size": (16, "images at a time"),
    "num_batches": (0, "stop after this many times --batch_size images; 0: explain every image"),
    "num_chunks": (1, "cut the images in this many chunks, for as many runs"),
    "chunk": (0, "which chunk this run explains: the images i with i mod --num_chunks = --chunk"),
    "merge_and_eval": (False, "merge the finished chunks into summary.yaml and records.csv, and stop"),
}
OUTPUT_FLAGS = {
    "output_path": ("output", "folder of the results"),
    "exp_name": ("exp", "name of the experiment, a subfolder of OUTPUT_PATH/Results"),
    "overwrite": (False, "start afresh where the experiment was begun before, instead of going on"),
    "save_images": (True, "write the images; otherwise records and summary alone"),
    "save_masks": (False, "write the mask of each image, white where it was allowed to change"),
    "save_x_t": (False, "write x_t, the clean estimate, at every step"),
    "save_z_t": (False, "write z_t, the noisy chain, at every step"),
}
NETWORK_FLAGS = {
    "gpu": ("0", "index of the GPU; without one the CPU is used"),
    "model_path": ("models/ddpm-celeba.pt", "weights of the diffusion model"),
    "classifier_path": ("models/classifier.pth", "weights of the classifier to explain"),
    "classifier_architecture": (None, "a module:function that builds the classifier, where the file needs one"),
    "oracle_path": (None, "weights of an oracle, whose decisions are then recorded before and after"),
    "oracle_architecture": (None, "a module:function that builds the oracle, where the file needs one"),
    "perceptual_path": (None, "weights of VGG19; by default torchvision's, downloaded"),
}
SAMPLING_FLAGS = {
    "query_label": ("31", "the attribute to change, by name or index (31: Smiling, 39: Young)"),
    "target_label": (-1, "-1: the opposite of each prediction; 0 or 1: that, for the images not predicted so"),
    "classifier_scales": ("8,10,15", "classifier scales, tried in turn until an image flips"),
    "start_step": (60, "tau, the respaced step that the chain starts from"),
    "guided_iterations": (-1, "how many steps are guided; -1: all"),
    "use_logits": (True, "follow the target's logit instead of its log-probability"),
    "l1_loss": (0.05, "weight of the L1 distance to the image"),
    "l2_loss": (0.0, "weight of the L2 distance to the image"),
    "l_perc": (0.0, "weight of the perceptual distance to the image"),
    "l_perc_layer": (18, "how many layers of VGG19 the perceptual distance looks through"),
    "use_sampling_on_x_t": (True, "sample the inner chain instead of following its means"),
    "use_ddim": (False, "make the inner chain DDIM with eta 0"),
    "sampling_scale": (1.0, "multiplies the noise of the guided chain"),
    "clip_denoised": (True, "clip predicted clean images to [-1, 1]"),
    "seed": (4, "seed of the noise"),
}
FLAGS = DATA_FLAGS | OUTPUT_FLAGS | NETWORK_FLAGS | COMPUTE_FLAGS | SAMPLING_FLAGS | METHOD_FLAGS
# What may differ in a run that goes on: where it runs, and how far. Like another device, another layout or another
# compiler changes what is computed by rounding alone; not so half precision.
FREE_FLAGS = ("gpu", *COMPUTE_FLAGS, "num_batches", "overwrite", "merge_and_eval")
# Chunks of one experiment may differ in these too, but not in how far each goes.
FREE_AMONG_CHUNKS = {"chunk", *FREE_FLAGS} - {"num_batches"}
RANGES = {  # flag -> (lowest, highest)
    "batch_size": (1, None),
    "num_batches": (0, None),
    "image_size": (1, None),
    "target_label": (-1, 1),
    "start_step": (1, None),
    "guided_iterations": (-1, None),
    "sampling_scale": (0, None),
    "l1_loss": (0, None),
    "l2_loss": (0, None),
    "l_perc": (0, None),
    "seed": (0, None),
}
WEIGHTS = ("model_path", "classifier_path", "oracle_path", "perceptual_path")


def check_flags(args):
    """Returns the classifier scales, a tuple of numbers; UserError names the first flag that cannot be."""
    if not args.data_dir:
        raise UserError("--data_dir must be given: the folder of CelebA, or of data laid out like it")
    for flag, (lowest, highest) in RANGES.items():
        value = getattr(args, flag)
        if not (math.isfinite(value) and lowest <= value <= (math.inf if highest is None else highest)):
            limits = f"from {lowest} to {highest}" if highest is not None else f"a number, at least {lowest}"
            raise UserError(f"--{flag} {value} must be {limits}")
    scales = parse_numbers(args.classifier_scales, "classifier_scales")
    if not scales:
        raise UserError("--classifier_scales must name at least one number, such as 8,10,15")
    if not all(math.isfinite(scale) and scale >= 0 for scale in scales):
        raise UserError(f"--classifier_scales {args.classifier_scales} must be numbers, each at least 0")
    return scales


def choose_split(args):
    """The split that --split, --use_train and --dataset ask for; UserError names those that contradict."""
    if args.split not in (None, *SPLITS):
        raise UserError(f"--split {args.split} is unknown; choose one of {', '.join(SPLITS)}")
    asked = {f"--split {args.split}": args.split} if args.split else {}
    if args.use_train:
        asked["--use_train True"] = "train"
    if args.dataset == "CelebAMV":
        asked["--dataset CelebAMV, which is of the validation split,"] = "val"
    if len(set(asked.values())) > 1:
        raise UserError(f"{' and '.join(asked)} contradict each other; leave out one")
    return next(iter(asked.values()), "val")


def weight_hashes(args, files):
    """`--model_path sha256` and so on -> 12 hex digits, of each file of weights that is there.

    files: flag -> the files of a network that the flag names by other words than a path. Kept among the flags of a
    run, they tell other weights under the same name.
    """
    paths = {flag: [path] for flag in WEIGHTS if (path := getattr(args, flag)) and Path(path).is_file()} | files
    return {f"{flag} sha256": _sha256_of(each)[:12] for flag, each in paths.items()}


def _sha256_of(paths):
    hashes = [sha256(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
