"""The flags of main.py, what they mean together, and which of them may change in a run that goes on."""

from dataclasses import replace

from guided_diffusion.sampling import COMPUTE_FLAGS
from guided_diffusion.script.choices import INTERPOLATIONS, TASKS
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import BATCH_SIZE, GPU, MANY, SEED, Flag, group_flags, parse_numbers
from guided_diffusion.script_util import DIFFUSION_FLAGS, MODEL_FLAGS, MOST_STEPS, create_gaussian_diffusion

from ..data.datasets import ALL, DATASETS, SPLITS
from ..data.loading import AUTO, TRAINING_DATA_FLAGS
from ..methods.chain import require_depth
from ..methods.flags import METHOD_FLAGS

DATA_DIR = TRAINING_DATA_FLAGS["data_dir"]
DATA_FLAGS = {
    "dataset": Flag(AUTO, "what to explain; auto: whatever --data_dir holds", choices=(AUTO, *DATASETS)),
    "data_dir": replace(DATA_DIR, help=f"{DATA_DIR.help} (required, unless --images is given)"),
    "images": Flag(None, "explain these image files instead, separated by commas; no --data_dir is needed"),
    "use_train": Flag(False, "explain the training split instead of --split"),
    "split": Flag(None, "the split to explain, val where not given; all: every image", choices=(*SPLITS, ALL)),
    "batch_size": replace(BATCH_SIZE, default=16),
    "num_batches": Flag(
        0, "stop after this many times --batch_size images; 0: explain every image", low=0, high=MANY
    ),
    "num_chunks": Flag(1, "cut the images in this many chunks, for as many runs", low=1, high=MANY),
    "chunk": Flag(
        0, "which chunk this run explains: the images i with i mod --num_chunks = --chunk", low=0, high=MANY
    ),
}
QUESTION_FLAGS = {
    "task": Flag(
        None,
        "what the classifier's outputs are. attributes: a yes or no each. classes: of which one is right. By "
        "default what its file or its library says, else attributes",
        choices=TASKS,
    ),
    "query_label": Flag(
        None,
        "the attribute to change, by name or index (31, the default: Smiling; 39: Young). Of classes: explain the "
        "images that the classifier puts into this one, by default every image",
    ),
    "target_label": Flag(
        "-1",
        "-1: the opposite of each prediction; 0 or 1: that, for the images not predicted so. Of classes: the one "
        "to reach, by name or index; -1: the runner-up of each prediction",
    ),
    "class_names": Flag(
        None, "a file of the names of the classifier's outputs: a text, one a line, or a json list or object"
    ),
}
# Of two runs that agree in these, an id stands for the same image.
SAME_IMAGES = ("dataset", "data_dir", "images", "split", "use_train", "image_size")
SMILING = "31"  # the default --query_label of attributes
ROLES = ("classifier", "oracle")


def named_flags(role):
    """The flags of a network that --classifier_path or --oracle_path names, instead of being its file."""
    by_default = "by default its library's"
    return {
        f"{role}_weights": Flag(
            None, f"weights, safetensors or a state dict, of the network that --{role}_path names; {by_default}"
        ),
        f"{role}_size": Flag(
            None, f"pixels that its images are resized to, and not cropped; {by_default}", int, low=1, high=8192
        ),
        f"{role}_mean": Flag(
            None, f"subtracted from its images in [0, 1], a number or three; {by_default}", parse_numbers
        ),
        f"{role}_std": Flag(None, f"what they are divided by then, a number or three; {by_default}", parse_numbers),
        f"{role}_interpolation": Flag(None, f"how they are resized; {by_default}", choices=INTERPOLATIONS),
    }


NETWORK_FLAGS = {
    "model_path": Flag(
        "models/ddpm-celeba.pt", "the diffusion model: a weight file, or a folder or Hub name of diffusers"
    ),
    "classifier_path": Flag(
        "models/classifier.pth",
        "the classifier to explain: its file, timm:NAME, torchvision:NAME, transformers:NAME-OR-FOLDER or "
        "module:function",
    ),
    "classifier_architecture": Flag(
        None, "the network of a state dict: torchvision's name, or a module:function, which a file never imports"
    ),
    **named_flags("classifier"),
    "oracle_path": Flag(
        None, "an oracle, named like a classifier, whose decisions are then recorded before and after"
    ),
    "oracle_architecture": Flag(None, "the same for the oracle"),
    **named_flags("oracle"),
    "perceptual_path": Flag(None, "weights of VGG19; by default torchvision's, downloaded"),
}
SAMPLING_FLAGS = {
    "classifier_scales": Flag(
        "8,10,15", "classifier scales, tried in turn until an image flips", parse_numbers, low=0
    ),
    "start_step": Flag(
        60,
        "tau, the depth: how many steps of noise an image gets, in the steps of --timestep_respacing",
        low=1,
        high=MOST_STEPS,
    ),
    "timestep_respacing": DIFFUSION_FLAGS["timestep_respacing"],
    "guided_iterations": Flag(-1, "how many steps are guided; -1: all", low=-1, high=MOST_STEPS),
    "use_logits": Flag(True, "follow the target's logit instead of its log-probability"),
    "l1_loss": Flag(0.05, "weight of the L1 distance to the image", low=0),
    "l2_loss": Flag(0.0, "weight of the L2 distance to the image", low=0),
    "l_perc": Flag(0.0, "weight of the perceptual distance to the image", low=0),
    "l_perc_layer": Flag(18, "how many layers of VGG19 the perceptual distance looks through", low=1, high=37),
    "clip_denoised": Flag(True, "clip predicted clean images to [-1, 1]"),
    "seed": replace(SEED, default=4),
}
OUTPUT_FLAGS = {
    "output_path": Flag("output", "folder of the results"),
    "exp_name": Flag("exp", "name of the experiment, a subfolder of OUTPUT_PATH/Results"),
    "overwrite": Flag(False, "start afresh where the experiment was begun before, instead of going on"),
    "tune": Flag(
        0,
        "find settings for --method on the first images, so many, write them to tuned.txt in the experiment's "
        "folder, and stop; 0: explain",
        low=0,
        high=MANY,
    ),
    "save_images": Flag(True, "write the images; otherwise records and summary alone"),
    "save_masks": Flag(False, "write the mask of each image, white where it was allowed to change"),
    "save_pre_explanation": Flag(False, "ace: write the pre-explanation of each image, as Pre/<id>.png"),
    "save_x_t": Flag(False, "write x_t, the clean estimate, at every step"),
    "save_z_t": Flag(False, "write z_t, the noisy chain, at every step"),
    "merge_and_eval": Flag(False, "merge the finished chunks into summary.yaml and records.csv, and stop"),
}
FLAGS = group_flags(
    data=DATA_FLAGS,
    question=QUESTION_FLAGS,
    networks=NETWORK_FLAGS | MODEL_FLAGS | DIFFUSION_FLAGS,
    method=METHOD_FLAGS,
    sampling=SAMPLING_FLAGS,
    output=OUTPUT_FLAGS,
    speed={"gpu": GPU} | COMPUTE_FLAGS,
)
# What may differ in a run that goes on: where it runs, and how far. Like another device, another layout or another
# compiler changes what is computed by rounding alone; not so half precision.
FREE_FLAGS = (
    *("gpu", *COMPUTE_FLAGS, "kept_steps", "num_batches"),
    *("output_path", "overwrite", "merge_and_eval", "tune"),
)
# Chunks of one experiment may differ in these too, but not in how far each goes.
FREE_AMONG_CHUNKS = {"chunk", *FREE_FLAGS} - {"num_batches"}
BEFORE_THE_FLAG = {"task": "attributes", "save_pre_explanation": False}  # values in runs older than the flag


def check_run_flags(flags):
    """UserError names the first of main.py's flags, name -> value, that is impossible alone or beside others."""
    _require_data(flags)
    for name, flag in FLAGS.items():
        flag.check(name, flags[name])
    tune, chunks, split = flags["tune"], flags["num_chunks"], flags["split"]
    if tune and chunks > 1:
        raise UserError(f"--tune {tune} takes no chunk; leave out --num_chunks {chunks}")
    if tune and split in ("test", ALL):
        raise UserError(f"--tune {tune} on --split {split} would flatter what is measured; name val")
    if flags["guided_iterations"] == 0:
        raise UserError("--guided_iterations 0 guides no step, so nothing is explained; give -1, or 1 and more")
    diffusion = create_gaussian_diffusion(**{name: flags[name] for name in DIFFUSION_FLAGS})
    require_depth(diffusion, flags["start_step"])


def scales_of(flags):
    """The classifier scales, a tuple of numbers."""
    return parse_numbers(flags["classifier_scales"], "classifier_scales")


def _require_data(flags):
    """UserError unless either --data_dir or --images says what to explain."""
    if flags["images"] is None:
        if not flags["data_dir"]:
            raise UserError("--data_dir must be given: CelebA, a folder of images, or a csv; or --images")
        return
    if not flags["images"].strip(", "):
        raise UserError("--images is empty; name image files, separated by commas")
    others = ("data_dir", "dataset", "split", "use_train")
    if contrary := [f"--{name} {flags[name]}" for name in others if flags[name] not in ("", FLAGS[name].default)]:
        raise UserError(f"--images names all that is explained; leave out it or {' and '.join(contrary)}")


def choose_split(flags):
    """The split that --split, --use_train and --dataset ask for; UserError names those that contradict."""
    splits = {
        f"--split {flags['split']}": flags["split"],
        "--use_train True": flags["use_train"] and "train",
        "--dataset CelebAMV, which is of the validation split,": flags["dataset"] == "CelebAMV" and "val",
    }
    splits = {flag: split for flag, split in splits.items() if split}
    if len(set(splits.values())) > 1:
        raise UserError(f"{' and '.join(splits)} contradict each other; leave out one")
    return next(iter(splits.values()), "val")
