"""The loss of diffusion models on images that they were trained on and on others: a table and a curve for a card.

python -m demo.heldout --data_dir DIR --steps 300,600 --picture losses.png ema_0.999_000300.pt ema_0.999_000600.pt
"""

import numpy as np
import torch

from core.data.datasets import load_images, make_dataset
from core.metrics.batches import progress
from core.metrics.charts import label_panel, save_figure
from demo.samples import load_for_sampling
from guided_diffusion.dist_util import pick_device
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import GPU, Flag, FlagParser, check_flags
from guided_diffusion.script.run import require_flags, run_script

FLAGS = {
    "data_dir": Flag(None, "a folder laid out like CelebA"),
    "images": Flag(1000, "how many images of each split, the first", low=1, high=10**6),
    "draws": Flag(4, "timesteps that each image's loss is the mean of", low=1, high=1000),
    "steps": Flag(None, "the training steps of each file, separated by commas, for the curve"),
    "picture": Flag("", "a PNG to write: the losses over the steps"),
    "gpu": GPU,
}
REQUIRED = ("data_dir",)
SPLITS = ("train", "val")
BATCH = 50


def losses_of(network, diffusion, images, draws, step=None):
    """(N,) the training loss of each image (3, S, S), the mean of `draws` timesteps that are spread evenly.

    Timesteps and noise depend on the image's place alone, so what differs between two networks is the networks.
    step: called with the number of images of each batch that is done.
    """
    device = next(network.unet.parameters()).device
    found = np.zeros(len(images))
    for draw in range(draws):
        stream = torch.Generator().manual_seed(draw)
        share = (torch.arange(len(images)) * 0.618034 + torch.rand(1, generator=stream)) % 1  # of a draw's stratum
        t = ((draw + share) / draws * diffusion.num_timesteps).long()
        noise = torch.randn(images.shape, generator=stream)
        for first in range(0, len(images), BATCH):
            rows = slice(first, first + BATCH)
            batch = [part[rows].to(device) for part in (images, t, noise)]
            found[rows] += diffusion.training_losses(network, *batch)["loss"].double().cpu().numpy() / draws
            if step:
                step(len(batch[0]))
    return found


def draw_losses(path, steps, losses):
    """Writes a PNG of the mean losses over the training steps. losses: split -> a value for each step."""
    from matplotlib.figure import Figure  # without pyplot, which would look for a display

    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    axes = figure.subplots()
    for split, values in losses.items():
        axes.plot(steps, values, marker="o", markersize=3, label=split)
    axes.grid(color="#e6e8ec")
    label_panel(axes, "loss", "training steps")
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def create_argparser():
    parser = FlagParser(__doc__, FLAGS, REQUIRED)
    parser.usage += " WEIGHTS ..."
    parser.add_argument("weights", nargs="+", help="files of celeba-train-diffusion.py, packed or not")
    return parser


@torch.no_grad()
def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    require_flags(args, *REQUIRED)
    steps = _whole_numbers(args.steps, len(args.weights)) if args.steps or args.picture else []
    device, table = pick_device(args.gpu), {split: [] for split in SPLITS}
    for path in args.weights:
        network, diffusion, flags = load_for_sampling(path, "", device)
        for split in SPLITS:
            dataset = make_dataset("CelebA", args.data_dir, split, flags["image_size"])
            images = load_images(dataset, range(min(args.images, len(dataset))))
            with progress(total=args.draws * len(images), desc=f"{path}, {split}", unit="image") as bar:
                table[split].append(losses_of(network, diffusion, images, args.draws, bar.update).mean())
    print("| weights | " + " | ".join(SPLITS) + " |\n" + "|---" * (1 + len(SPLITS)) + "|")
    for path, *row in zip(args.weights, *table.values(), strict=True):
        print(f"| {path} | " + " | ".join(f"{value:.5f}" for value in row) + " |")
    if args.picture:
        draw_losses(args.picture, steps, table)
        print(f"the picture: {args.picture}")


def _whole_numbers(text, count):
    words = (text or "").split(",")
    if len(words) != count or not all(word.isdecimal() for word in words):
        given = text or "is not given; it"
        raise UserError(f"--steps {given} must be a whole number for each of the {count} weight files")
    return [int(word) for word in words]


if __name__ == "__main__":
    run_script(main)
