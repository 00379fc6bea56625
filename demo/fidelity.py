"""How near the images of a diffusion model are to real ones: their FID in an oracle's features, for a card.

python -m demo.fidelity --data_dir DIR --weights models/demo/faces_ddpm.pt --oracle_path models/demo/faces_oracle.pt
"""

from dataclasses import replace

import torch

from core.data.datasets import load_images, make_dataset
from core.data.sheets import sample_images
from core.metrics.batches import Batches, progress
from core.metrics.distributions import frechet_distance
from demo.samples import FLAGS as SAMPLES
from demo.samples import load_for_sampling
from guided_diffusion.dist_util import pick_device
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag, FlagParser, check_flags
from guided_diffusion.script.run import require_flags, run_script
from models.oracles import load_oracle

FLAGS = {
    "data_dir": Flag(None, "a folder laid out like CelebA"),
    "weights": SAMPLES["weights"],
    "oracle_path": Flag(None, "the classifier whose features are compared"),
    "count": replace(
        SAMPLES["count"], default=1000, low=2, help="how many images are drawn, and compared of each split"
    ),
    "timestep_respacing": replace(SAMPLES["timestep_respacing"], default="50"),
    "seed": SAMPLES["seed"],
    "gpu": SAMPLES["gpu"],
}
REQUIRED = ("data_dir", "weights", "oracle_path")
BATCH = 50


@torch.no_grad()
def drawn(network, diffusion, image_size, count, seed, device):
    """(count, 3, S, S) images in [-1, 1] that the network makes from noise, in batches."""
    stream, images = torch.Generator().manual_seed(seed), []
    with progress(total=count, desc="drawing", unit="image") as bar:
        while bar.n < count:
            batch = sample_images(diffusion, network, image_size, min(BATCH, count - bar.n), device, stream)
            images.append(batch.cpu())
            bar.update(len(batch))
    return torch.cat(images)


def features_of(oracle, images, device, desc):
    """(N, D) the oracle's features of images (N, 3, S, S)."""
    batches = Batches(device, BATCH)
    (features,) = batches.map(lambda x: (oracle.features(x),), lambda x: (x,), images, desc)
    return features.numpy()


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    require_flags(args, *REQUIRED)
    device = pick_device(args.gpu)
    oracle = load_oracle(args.oracle_path).to(device)
    network, diffusion, flags = load_for_sampling(args.weights, args.timestep_respacing, device)
    size, features = flags["image_size"], {}
    if oracle.image_size not in (None, size):
        raise UserError(
            f"--oracle_path {args.oracle_path} was trained at {oracle.image_size}, but --weights draws images of "
            f"{size}; give an oracle of that size"
        )
    for split in ("train", "test"):
        dataset = make_dataset("CelebA", args.data_dir, split, size)
        images = load_images(dataset, range(min(args.count, len(dataset))))
        features[split] = features_of(oracle, images, device, f"{split} split")
    print(f"drawing {args.count} images in {diffusion.num_timesteps} steps", flush=True)
    images = drawn(network, diffusion, size, args.count, args.seed, device)
    features["drawn"] = features_of(oracle, images, device, "drawn")
    for name in ("drawn", "train"):
        distance = frechet_distance(features[name], features["test"])
        compared = f"{len(features[name])} images ({name}) and {len(features['test'])} of the test split"
        print(f"FID of {compared}: {distance:.2f}")


if __name__ == "__main__":
    run_script(main)
