"""Pairs per second of every metric, and the share of the time that its network takes.

    python -m benchmarks.evaluation --pairs 64

The compute_ scripts run unchanged, on a results folder of drawn faces. Their networks have random weights, which
take as long as trained ones. Pairs per second are those of core.metrics.inference.in_batches, from the first file
to the last result. The rest of the time is for statistics: the bootstrap, FID's covariances and roots, CD's chart.
"""

import io
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from unittest import mock

import lpips
import numpy as np
import torch
from pytorch_fid import inception
from torch import nn
from tqdm import tqdm

import compute_CD
import compute_COUT
import compute_FID
import compute_FVA
import compute_LPIPS
import compute_MNAC
import core.metrics.activations
import core.metrics.inference
from benchmarks.timing import ROUNDS, now
from core.data.datasets import CELEBA_ATTRIBUTES, attribute_index
from core.data.images import centre_crop, from_uint8
from core.metrics.correlations import correlation_table, keep_correlations
from core.results.folder import ResultsFolder
from core.results.records import make_records
from core.running.explainer import Explanation
from demo.correlations import training_labels
from demo.faces import face_of, render
from guided_diffusion.dist_util import pick_device
from guided_diffusion.script.flags import BATCH_SIZE, GPU, Flag, FlagParser, check_flags
from guided_diffusion.script.run import run_script
from guided_diffusion.script_util import MODEL_FLAGS
from models.classifiers import Classifier, build_classifier
from models.oracles import Oracle
from models.vggface2 import FaceFeatures, caffe_resnet50

FLAGS = {
    "gpu": GPU,
    "image_size": replace(MODEL_FLAGS["image_size"], default=128),
    "pairs": Flag(64, "how many counterfactuals", low=2, high=10**6),
    "batch_size": replace(BATCH_SIZE, help="pairs at a time"),
    "rounds": replace(
        ROUNDS, default=2, help="how often every metric is measured; the fastest counts, so that none warms up"
    ),
    "classifier": Flag("densenet121", "the explained classifier, for COUT: densenet121, small_cnn, ..."),
}
RUNS = ("run-0", "run-1")


def oracle(args, device):
    return Classifier(Oracle(), "oracle_resnet50_128")


def random_inception(args, device):
    """pytorch-fid's Inception with random weights. The library always loads weights, so its loading is mocked."""
    with mock.patch.object(inception, "load_state_dict_from_url"), mock.patch.object(nn.Module, "load_state_dict"):
        network = inception.InceptionV3().eval().to(device)
    return lambda images: network(images)[0].flatten(1)


# title: (script, its loader of the network, what builds the network, the flag that names the weights)
METRICS = {
    "FVA, FS (ResNet-50)": (
        compute_FVA,
        "load_vggface2",
        lambda args, device: FaceFeatures(caffe_resnet50()),
        "weights_path",
    ),
    "MNAC, Oracle FR (ResNet-50)": (compute_MNAC, "load_oracle", oracle, "oracle_path"),
    "CD (ResNet-50)": (compute_CD, "load_oracle", oracle, "oracle_path"),
    "COUT (the classifier, 51 times)": (
        compute_COUT,
        "load_classifier",
        lambda args, device: Classifier(build_classifier(args.classifier, 40), args.classifier),
        "classifier_path",
    ),
    "FID, sFID, KID (Inception)": (compute_FID, "load_inception", random_inception, "inception_path"),
    "sigma_L of two runs (VGG16)": (
        compute_LPIPS,
        "load_lpips",
        lambda args, device: lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False),
        "vgg_path",
    ),
}


def write_experiments(root, args):
    """Writes RUNS as main.py does, of the same drawn faces with smiling toggled, and files the scripts need."""
    smiling = attribute_index(CELEBA_ATTRIBUTES, "Smiling")
    generator = torch.Generator().manual_seed(0)
    faces = [face_of(0, "test", k) for k in range(args.pairs)]
    labels = torch.tensor([attributes["Smiling"] for attributes, _ in faces]).long()
    images = _drawn(faces, args.image_size)
    toggled = [(attributes | {"Smiling": not attributes["Smiling"]}, seed) for attributes, seed in faces]
    changed = _drawn(toggled, args.image_size)
    keep_correlations(root, correlation_table(training_labels(0, 1000), CELEBA_ATTRIBUTES))
    for run in RUNS:
        noise = 0.02 * torch.randn(changed.shape, generator=generator)
        sure, once = torch.full((args.pairs,), 0.9), torch.ones(args.pairs)
        counterfactuals, opposite = (changed + noise).clamp(-1, 1), 1 - labels
        explanation = Explanation(
            counterfactuals, images, labels, opposite, opposite, 1 - sure, sure, once.long(), once
        )
        folder = ResultsFolder(root / "output", run)
        folder.begin({"query_label": CELEBA_ATTRIBUTES[smiling], "data_dir": str(root)})
        names = [f"{k}.jpg" for k in range(args.pairs)]
        table = make_records(range(args.pairs), names, images, labels, explanation)
        folder.write_images(table, images, explanation)
        folder.commit(table)
    (root / "weights").write_bytes(b"random")


def _drawn(faces, size):
    """(attributes, nuisance seed) of each face -> images (N, 3, S, S) in [-1, 1]."""
    pixels = [np.array(centre_crop(render(attributes, seed), size)) for attributes, seed in faces]
    return from_uint8(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))


class Stopwatch:
    """seconds[name]: the time spent so far in the functions that timed(name, function) has wrapped."""

    def __init__(self, device):
        self.device, self.seconds = device, defaultdict(float)

    def timed(self, name, function):
        def call(*args, **kwargs):
            start = now(self.device)
            result = function(*args, **kwargs)
            self.seconds[name] += now(self.device) - start
            return result

        return call


def measure(title, root, args, device):
    """Runs a script -> seconds in its batches, in its network, and in all else but building the network."""
    script, loader, build, weights_flag = METRICS[title]
    watch = Stopwatch(device)
    torch.manual_seed(0)
    with redirect_stderr(io.StringIO()):  # hides warnings about torchvision's old names
        network = build(args, device)
    if isinstance(network, nn.Module):
        network.eval().requires_grad_(False)
        network.forward = watch.timed("network", network.forward)
    else:
        network = watch.timed("network", network)
    runs = ["--exp_pattern", "run-*"] if script is compute_LPIPS else ["--exp_name", RUNS[0]]
    argv = [script.__name__, "--output_path", root / "output", *runs, f"--{weights_flag}", root / "weights"]
    argv += ["--gpu", args.gpu, "--batch_size", args.batch_size]
    for path in (root / "output").rglob("activations.npz"):
        path.unlink()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", list(map(str, argv))))
        stack.enter_context(mock.patch.object(script, loader, lambda *_: network))
        timed = watch.timed("batches", core.metrics.inference.in_batches)
        for module in (script, core.metrics.inference, core.metrics.activations):
            if hasattr(module, "in_batches"):
                stack.enter_context(mock.patch.object(module, "in_batches", timed))
        for redirect in (redirect_stdout, redirect_stderr):
            stack.enter_context(redirect(io.StringIO()))
        watch.timed("all", script.main)()
    batches = watch.seconds["batches"]
    return batches, watch.seconds["network"], watch.seconds["all"] - batches


def table(seconds, pairs):
    """title -> (seconds in batches, in the network, around the batches), as a Markdown table."""
    lines = ["| metric | pairs/s | in the network | statistics, s |", "|---|---|---|---|"]
    for title, (batches, network, around) in seconds.items():
        lines.append(f"| {title} | {pairs / batches:.1f} | {100 * network / batches:.0f} % | {around:.1f} |")
    return "\n".join(lines)


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    device = pick_device(args.gpu)
    print(
        f"{args.pairs} pairs of {args.image_size} x {args.image_size} in batches of {args.batch_size}, "
        f"torch {torch.__version__} on {device} with {torch.get_num_threads()} threads; {args.rounds} rounds of "
        f"{len(METRICS)} metrics"
    )
    rounds = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, tqdm(total=args.rounds * len(METRICS), unit="run") as bar:
        write_experiments(Path(folder), args)
        for _ in range(args.rounds):
            for title in METRICS:
                rounds[title].append(measure(title, Path(folder), args, device))
                bar.update()
    print(table({title: min(measured) for title, measured in rounds.items()}, args.pairs))


if __name__ == "__main__":
    run_script(main)
