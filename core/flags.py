"""The flags of main.py: flag -> (default, help). Those of the network stand in guided_diffusion.script_util."""

from guided_diffusion.errors import UserError
from guided_diffusion.script_util import parse_numbers

from .datasets import DATASETS, SPLITS

DATA_FLAGS = {
    "dataset": ("CelebA", f"what to explain: {' or '.join(DATASETS)}"),
    "data_dir": (None, "the folder with img_align_celeba/, list_attr_celeba and list_eval_partition"),
    "use_train": (False, "explain the training split instead of --split"),
    "split": ("val", f"the split to explain: {', '.join(SPLITS)}"),
    "batch_size": (16, "images at a time"),
    "num_batches": (0, "stop after this many batches; 0: explain every image"),
    "num_chunks": (1, "cut the images in this many chunks, for as many runs"),
    "chunk": (0, "which chunk this run explains: the images i with i mod --num_chunks = --chunk"),
    "merge_and_eval": (False, "merge the finished chunks into summary.yaml and records.csv, and stop"),
}
OUTPUT_FLAGS = {
    "output_path": ("output", "folder of the results"),
    "exp_name": ("exp", "name of the experiment, a subfolder of OUTPUT_PATH/Results"),
    "overwrite": (False, "start afresh where the experiment was begun before, instead of going on"),
    "save_images": (True, "write the images; otherwise records and summary alone"),
    "save_x_t": (False, "write x_t, the clean estimate, at every step"),
    "save_z_t": (False, "write z_t, the noisy chain, at every step"),
}
NETWORK_FLAGS = {
    "gpu": ("0", "index of the GPU; without one the CPU is used"),
    "model_path": ("models/ddpm-celeba.pt", "weights of the diffusion model"),
    "classifier_path": ("models/classifier.pth", "weights of the classifier to explain"),
    "classifier_architecture": (None, "a module:function that builds the classifier, where the file needs one"),
    "oracle_path": (None, "weights of an oracle, whose decisions are then recorded before and after"),
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
# What may differ in a run that goes on: where it runs, and how far.
FREE_FLAGS = ("gpu", "num_batches", "overwrite", "merge_and_eval")
RANGES = {  # flag -> (lowest, highest)
    "batch_size": (1, None),
    "num_batches": (0, None),
    "image_size": (1, None),
    "target_label": (-1, 1),
    "start_step": (1, None),
    "guided_iterations": (-1, None),
    "sampling_scale": (0, None),
    "seed": (0, None),
}


def check_flags(args):
    """Returns the classifier scales, a tuple of numbers; UserError names the first flag that cannot be."""
    if not args.data_dir:
        raise UserError("--data_dir must be given: the folder of CelebA, or of data laid out like it")
    if args.split not in SPLITS:
        raise UserError(f"--split {args.split} is unknown; choose one of {', '.join(SPLITS)}")
    for flag, (lowest, highest) in RANGES.items():
        value = getattr(args, flag)
        if value < lowest or (highest is not None and value > highest):
            limits = f"from {lowest} to {highest}" if highest is not None else f"at least {lowest}"
            raise UserError(f"--{flag} {value} must be {limits}")
    scales = parse_numbers(args.classifier_scales, "classifier_scales")
    if not scales:
        raise UserError("--classifier_scales must name at least one number, such as 8,10,15")
    return scales
