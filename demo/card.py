"""What a model card shows of weight files, and the files as they are shipped.

    python -m demo.card samples models/demo/faces_ddpm.pt --picture samples.png
    python -m demo.card losses ema_000300.pt ema_000600.pt --data_dir DIR --steps 300,600 --picture losses.png
    python -m demo.card fidelity models/demo/faces_ddpm.pt --data_dir DIR --oracle_path models/demo/faces_oracle.pt
    python -m demo.card accuracy models/demo/faces_classifier.pt models/demo/faces_oracle.pt --data_dir DIR
    python -m demo.card pack DIR/ema_0.999_004000.pt --shipped models/demo/faces_ddpm.pt

samples: a sheet of images that a diffusion model draws from noise. losses: the loss on images that it was trained
on and on others, as a table and a curve. fidelity: the FID between its images and real ones, in an oracle's
features. accuracy: how often classifiers are right about each attribute of the test split. pack: a small file of a
trained one, in half precision and without the state of the training.
"""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from core.data.datasets import CelebA, load_images
from core.data.sheets import sample_images, sample_sheet
from core.metrics.batches import Batching
from core.metrics.charts import label_panel, save_figure
from core.metrics.distributions import frechet_distance
from core.metrics.validation import attribute_accuracy, decide
from guided_diffusion.dist_util import half_precision, pick_device
from guided_diffusion.sampling import SamplingNetwork
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import GPU, SEED, Flag, FlagParser, parse_numbers, require_flags
from guided_diffusion.script.run import run_script
from guided_diffusion.script_util import (
    DIFFUSION_FLAGS,
    create_model,
    create_model_and_diffusion,
    model_and_diffusion_defaults,
)
from guided_diffusion.training.weight_files import save_aside
from models.checkpoints import attach_flags, flags_of, load_diffusion, read_weights
from models.classifiers import load_classifier
from models.oracles import load_oracle

FLAGS = {
    "data_dir": Flag(None, "losses, fidelity, accuracy: a folder laid out like CelebA"),
    "picture": Flag(None, "samples, losses: the PNG to write"),
    "count": Flag(0, "how many images; 0: 16 of samples, 1000 of each split otherwise", low=0, high=10**6),
    "timestep_respacing": replace(DIFFUSION_FLAGS["timestep_respacing"], default="100"),
    "draws": Flag(4, "losses: timesteps that each image's loss is the mean of", low=1, high=1000),
    "steps": Flag(None, "losses: the training steps of each file, by commas, for the curve", parse_numbers),
    "oracle_path": Flag(None, "fidelity: the classifier whose features are compared"),
    "shipped": Flag(None, "pack: the file to write, .pt or .safetensors"),
    "norm_groups": Flag(0, "pack: what it says of its norms, to train on with others", low=0, high=4096),
    "seed": SEED,
    "gpu": GPU,
}
BATCH = 50
SHIPPED = ("architecture", "attributes", "task", "image_size", "feat_extract", "classifier", "state_dict")


def load_for_sampling(weights, timestep_respacing, device):
    """A weight file that carries its flags -> (SamplingNetwork, diffusion, the flags).

    It computes in half precision where that is fast and the flags say so. UserError for a file without flags.
    """
    trained = flags_of(read_weights(weights))
    if not trained:
        raise UserError(f"{weights} carries no flags, so its network is unknown; give a file that does")
    flags = model_and_diffusion_defaults() | trained | {"timestep_respacing": timestep_respacing}
    unet, diffusion = create_model_and_diffusion(**flags)
    load_diffusion(unet, weights, flags).requires_grad_(False).to(device).eval()
    dtype = half_precision(device) if flags["use_fp16"] else torch.float32
    return SamplingNetwork(unet, diffusion, dtype=dtype), diffusion, flags


def images_of(data_dir, split, size, count):
    """(N, 3, S, S): the first images of a split, at most `count`."""
    dataset = CelebA(data_dir, split, size)
    return load_images(dataset, range(min(count, len(dataset))))


def the_one(args):
    if len(args.weights) > 1:
        raise UserError(f"{args.what} is of one weight file; leave out {' '.join(args.weights[1:])}")
    return args.weights[0]


# -- diffusion models --------------------------------------------------------------------------------------------


def samples(args):
    require_flags(args, "picture")
    device = pick_device(args.gpu)
    network, diffusion, flags = load_for_sampling(the_one(args), args.timestep_respacing, device)
    count = args.count or 16
    print(f"drawing {count} images in {diffusion.num_timesteps} steps")
    Path(args.picture).parent.mkdir(parents=True, exist_ok=True)
    sample_sheet(diffusion, network, flags["image_size"], args.picture, device, count, args.seed)
    print(args.picture)


def losses(args):
    require_flags(args, "data_dir")
    steps = parse_numbers(args.steps, "steps") if args.steps else []
    if len(steps) != len(args.weights) and (args.steps or args.picture):
        raise UserError(f"--steps {args.steps or ''} must be a number for each of {len(args.weights)} weight files")
    device, means = pick_device(args.gpu), {"train": [], "val": []}
    for path in args.weights:
        network, diffusion, flags = load_for_sampling(path, "", device)
        for split in means:
            images = images_of(args.data_dir, split, flags["image_size"], args.count or 1000)
            means[split].append(losses_of(network, diffusion, images, args.draws).mean())
    print(pd.DataFrame({"weights": args.weights} | means).to_markdown(index=False, floatfmt=".5f"))
    if args.picture:
        draw_losses(args.picture, steps, means)
        print(f"the picture: {args.picture}")


@torch.no_grad()
def losses_of(network, diffusion, images, draws):
    """(N,) the training loss of each image (3, S, S), the mean of `draws` timesteps that are spread evenly.

    Timesteps and noise depend on the image's place alone, so what differs between two networks is the networks.
    """
    device = next(network.unet.parameters()).device
    means = np.zeros(len(images))
    for draw in tqdm(range(draws), "losses", unit="draw"):
        stream = torch.Generator().manual_seed(draw)
        share = (torch.arange(len(images)) * 0.618034 + torch.rand(1, generator=stream)) % 1  # of a draw's stratum
        t = ((draw + share) / draws * diffusion.num_timesteps).long()
        noise = torch.randn(images.shape, generator=stream)
        for first in range(0, len(images), BATCH):
            rows = slice(first, first + BATCH)
            batch = [part[rows].to(device) for part in (images, t, noise)]
            means[rows] += diffusion.training_losses(network, *batch)["loss"].double().cpu().numpy() / draws
    return means


def draw_losses(path, steps, means):
    """Writes a PNG of the mean losses over the training steps. means: split -> a value for each step."""
    from matplotlib.figure import Figure  # without pyplot, which would look for a display

    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, np.transpose(list(means.values())), marker="o", markersize=3, label=list(means))
    axes.grid(color="#e6e8ec")
    label_panel(axes, "loss", "training steps")
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def fidelity(args):
    require_flags(args, "data_dir", "oracle_path")
    device = pick_device(args.gpu)
    oracle = load_oracle(args.oracle_path).to(device)
    network, diffusion, flags = load_for_sampling(the_one(args), args.timestep_respacing, device)
    size, count, features = flags["image_size"], args.count or 1000, {}
    if oracle.image_size not in (None, size):
        raise UserError(
            f"--oracle_path {args.oracle_path} was trained at {oracle.image_size}, but {args.weights[0]} draws "
            f"images of {size}; give an oracle of that size"
        )
    for split in ("train", "test"):
        images = images_of(args.data_dir, split, size, count)
        features[split] = features_of(oracle, images, device, f"{split} split")
    print(f"drawing {count} images in {diffusion.num_timesteps} steps", flush=True)
    images = draw_images(network, diffusion, size, count, args.seed, device)
    features["drawn"] = features_of(oracle, images, device, "drawn")
    for name in ("drawn", "train"):
        distance = frechet_distance(features[name], features["test"])
        compared = f"{len(features[name])} images ({name}) and {len(features['test'])} of the test split"
        print(f"FID of {compared}: {distance:.2f}")


@torch.no_grad()
def draw_images(network, diffusion, image_size, count, seed, device):
    """(count, 3, S, S) images in [-1, 1] that the network makes from noise, in batches."""
    stream = torch.Generator().manual_seed(seed)
    sizes = [min(BATCH, count - first) for first in range(0, count, BATCH)]
    batches = tqdm(sizes, "drawing", unit="batch")
    return torch.cat([sample_images(diffusion, network, image_size, n, device, stream).cpu() for n in batches])


def features_of(oracle, images, device, desc):
    """(N, D) the oracle's features of images (N, 3, S, S)."""
    batches = Batching(device, BATCH)
    (features,) = batches.map(lambda x: (oracle.features(x),), lambda x: (x,), images, desc)
    return features.numpy()


# -- classifiers -------------------------------------------------------------------------------------------------


def accuracy(args):
    require_flags(args, "data_dir")
    device = pick_device(args.gpu)
    table = pd.DataFrame({path: accuracies(path, args.data_dir, device) for path in args.weights})
    table.loc["mean"] = table.mean()
    print(table.rename_axis("attribute").map(lambda share: f"{100 * share:.1f} %").to_markdown())


def accuracies(path, data_dir, device):
    """A Series: how often a classifier is right about each attribute of the test split."""
    classifier = load_classifier(path).to(device)
    dataset = CelebA(data_dir, "test", classifier.image_size)
    if list(classifier.attributes or dataset.attributes) != list(dataset.attributes):
        raise UserError(f"{path} knows other attributes than --data_dir {data_dir} has; name its own data")
    decisions = decide(classifier, dataset, device)
    return attribute_accuracy(decisions, dataset.labels, dataset.attributes)["accuracy"]


# -- both --------------------------------------------------------------------------------------------------------


def pack_file(args):
    require_flags(args, "shipped")
    changes = {"norm_groups": args.norm_groups} if args.norm_groups else {}
    contents = pack(read_weights(the_one(args)), changes)
    Path(args.shipped).parent.mkdir(parents=True, exist_ok=True)
    save_aside(contents, args.shipped)
    print(f"{args.shipped}: {Path(args.shipped).stat().st_size / 1e6:.2f} MB")


def pack(contents, changes=MappingProxyType({})):
    """The contents of a weight file, of a diffusion model or a classifier -> the same with float16 weights.

    changes: flags that a diffusion model's file carries in place of its own. UserError where its network cannot
    have them.
    """
    flags = flags_of(contents)
    if changes and not flags:
        raise UserError(f"--{next(iter(changes))} is of a diffusion model that carries flags; leave it out")
    if changes:
        create_model(**flags | changes)
    if "architecture" in contents:
        contents = {name: contents[name] for name in SHIPPED if name in contents}
    return attach_flags(_halved(contents), flags | changes) if flags else _halved(contents)


def _halved(value):
    if isinstance(value, dict):
        return {name: _halved(each) for name, each in value.items()}
    return value.half() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


WHAT = {"samples": samples, "losses": losses, "fidelity": fidelity, "accuracy": accuracy, "pack": pack_file}


def create_argparser():
    parser = FlagParser(__doc__, FLAGS)
    parser.usage = f"%(prog)s {{{','.join(WHAT)}}} WEIGHTS ... [--flag value ...]"
    parser.add_argument("what", choices=WHAT, help="the head of this file says what each is")
    parser.add_argument("weights", nargs="+", help="files of the training scripts, packed or not")
    return parser


def main():
    args = create_argparser().parse_args()
    WHAT[args.what](args)


if __name__ == "__main__":
    run_script(main)
