"""sigma_L: how much the counterfactuals of one image differ between runs (mean LPIPS-VGG over pairs of runs)"""

if __name__ == "__main__":
    from guided_diffusion.script.interrupts import end_on_interrupt

    end_on_interrupt()

from fnmatch import fnmatchcase
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import lpips
import torch

from core.data.images import from_uint8, read_image
from core.metrics.inference import (
    DEVICE_FLAGS,
    RESULTS_FLAGS,
    in_batches,
    require_recorded,
    start_ranks,
    tell_unfinished,
)
from core.metrics.metric import mean_of, merge_metrics
from core.results.reading import read_pairs
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag, FlagParser, check_flags, group_flags
from guided_diffusion.script.run import require_flags, run_script
from models.perceptual import vgg_file, vgg_layers

RUNS_FLAGS = {
    "output_path": RESULTS_FLAGS["output_path"],
    "exp_pattern": Flag(None, "the runs' names: smile-{}, filled with --exp_values; or smile-*, whatever is there"),
    "exp_values": Flag([], "what to fill the pattern with, separated by spaces or commas", many=True),
}
VGG_PATH = Flag(None, "weights of VGG16; by default torchvision's, downloaded")
FLAGS = group_flags(data=RUNS_FLAGS, networks={"vgg_path": VGG_PATH}, speed=DEVICE_FLAGS)
REQUIRED = ("exp_pattern",)


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    require_flags(args, *REQUIRED)
    device, first = start_ranks(args)
    runs = runs_of(args.output_path, args.exp_pattern, args.exp_values)
    images = alike_in_all(args.output_path, runs)
    print(f"{len(images)} images lie in the same folder of all of {', '.join(runs)}")
    vgg_path = vgg_file("VGG16", args.vgg_path, "vgg_path")
    distance = load_lpips(vgg_path).to(device)

    def spread(pixels):  # (N, runs, 3, H, W)
        runs = from_uint8(pixels).unbind(1)
        return (torch.stack([distance(a, b).flatten() for a, b in combinations(runs, 2)]).mean(0),)

    def load(paths):
        pictures = [read_image(path) for path in paths]
        for path, picture in zip(paths, pictures, strict=True):
            if picture.shape != pictures[0].shape:
                raise UserError(f"{path} is not of the size of {paths[0]}; compare runs of one --image_size")
        return (torch.stack(pictures),)

    (values,) = in_batches(spread, load, images, args.batch_size, device, "LPIPS", args.num_workers)
    if not first:
        return
    metric = mean_of("sigma_L", values, f"images of {len(runs)} runs, alike in all")
    print(metric.line())
    for run in runs:
        merge_metrics(args.output_path, run, [metric], {"vgg_path": vgg_path}, {"runs": runs}, ("lpips",))


def runs_of(output_path, pattern, values):
    """The names of the experiments that match --exp_pattern; UserError where there are fewer than two.

    values: words that replace {} in the pattern. Without {} it is a glob over the folders in Results.
    """
    if values and "{}" not in pattern:
        raise UserError(f"--exp_values fill the {{}} of --exp_pattern, but there is none in {pattern}")
    if "{}" in pattern:
        runs = [pattern.replace("{}", value) for value in dict.fromkeys(" ".join(values).replace(",", " ").split())]
    else:
        there = (path.name for path in (Path(output_path) / "Results").glob("*") if path.is_dir())
        runs = sorted(name for name in there if fnmatchcase(name, pattern))
    if len(runs) < 2:
        raise UserError(
            f"--exp_pattern {pattern} names {len(runs)} runs; give at least two: smile-{{}} with --exp_values 1,2"
        )
    return runs


def alike_in_all(output_path, runs):
    """For each image that lies in the same CC/IC and CCF/ICF in all runs, the paths of its counterfactuals."""
    paths_of_runs = []
    for run in runs:
        tell_unfinished(output_path, run)
        pairs = read_pairs(output_path, run, reached=("CCF", "ICF"))
        require_recorded(output_path, run, pairs, reached=("CCF", "ICF"))
        paths_of_runs.append({(pair.id, pair.classified, pair.reached): pair.counterfactual for pair in pairs})
    common = sorted(set.intersection(*map(set, paths_of_runs)))
    if not common:
        raise UserError(f"no image lies in the same folder of all of {', '.join(runs)}; explain the same images")
    return [[paths[image] for paths in paths_of_runs] for image in common]


def load_lpips(path):
    """LPIPS-VGG: two images (N, 3, H, W) in [-1, 1] -> distances (N, 1, 1, 1). path: VGG16's weights.

    The linear weights come with the library. It would download VGG16. Instead it gets the layers in the file, which
    vgg_layers has read without running code.
    """
    features = vgg_layers("VGG16", path, "vgg_path")
    with mock.patch.object(lpips.pretrained_networks.tv, "vgg16", lambda **_: SimpleNamespace(features=features)):
        return lpips.LPIPS(net="vgg", verbose=False).requires_grad_(False)


if __name__ == "__main__":
    run_script(main)
