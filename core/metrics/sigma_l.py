"""sigma_L: how much the counterfactuals of one image differ between runs (mean LPIPS-VGG over pairs of runs)"""

from fnmatch import fnmatchcase
from itertools import combinations

import torch

from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag

from ..data.images import from_uint8, read_image
from ..results.layout import REACHED, experiment_names
from .metric import Source, mean_of

NAMES = ("sigma_L",)
RUNS_FLAGS = {
    "exp_pattern": Flag(None, "the runs' names: smile-{}, filled with --exp_values; or smile-*, whatever is there"),
    "exp_values": Flag([], "what to fill the pattern with, separated by spaces or commas", many=True),
}
FLAGS = {"vgg_path": Flag(None, "weights of VGG16; by default torchvision's, downloaded")}


def measure(runs, judges):
    """The Metric of several Runs, of the images that lie in the same folder of all."""
    names, images = [run.name for run in runs], alike_in_all(runs)
    print(f"{len(images)} images lie in the same folder of all of {', '.join(names)}")
    distance = judges.of_kind("lpips", judges.flags["vgg_path"])

    def spread(pixels):  # (N, runs, 3, H, W)
        of_runs = from_uint8(pixels).unbind(1)
        return (torch.stack([distance(a, b).flatten() for a, b in combinations(of_runs, 2)]).mean(0),)

    def load(paths):
        pictures = [read_image(path) for path in paths]
        for path, picture in zip(paths, pictures, strict=True):
            if picture.shape != pictures[0].shape:
                raise UserError(f"{path} is not of the size of {paths[0]}; compare runs of one --image_size")
        return (torch.stack(pictures),)

    (values,) = judges.batches.map(spread, load, images, "LPIPS")
    if not judges.ranks.first:
        return []
    source = Source({"vgg_path": distance.file}, {"runs": names}, ("lpips",))
    return [mean_of("sigma_L", values, f"images of {len(runs)} runs, alike in all", source)]


def names_of_runs(output_path, pattern, values):
    """The names of the experiments that match --exp_pattern; UserError where there are fewer than two.

    values: words that replace {} in the pattern. Without {} it is a glob over the names of the experiments.
    """
    if values and "{}" not in pattern:
        raise UserError(f"--exp_values fill the {{}} of --exp_pattern, but there is none in {pattern}")
    if "{}" in pattern:
        words = dict.fromkeys(" ".join(values).replace(",", " ").split())
        names = [pattern.replace("{}", word) for word in words]
    else:
        names = [name for name in experiment_names(output_path) if fnmatchcase(name, pattern)]
    if len(names) < 2:
        raise UserError(
            f"--exp_pattern {pattern} names {len(names)} runs; give at least two: smile-{{}} with --exp_values 1,2"
        )
    return names


def alike_in_all(runs):
    """For each image that lies in the same CC/IC and CCF/ICF in all runs, the paths of its counterfactuals."""
    paths_of_runs = []
    for run in runs:
        pairs = run.require_pairs(reached=tuple(REACHED))
        paths_of_runs.append({(pair.id, pair.classified, pair.reached): pair.counterfactual for pair in pairs})
    common = sorted(set.intersection(*map(set, paths_of_runs)))
    if not common:
        names = ", ".join(run.name for run in runs)
        raise UserError(f"no image lies in the same folder of all of {names}; explain the same images")
    return [[paths[image] for paths in paths_of_runs] for image in common]
