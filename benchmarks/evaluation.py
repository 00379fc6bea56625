"""Pairs per second of every metric, and the share of the time that its network takes.

    python -m benchmarks.evaluation --pairs 64

The scripts run as they are, on a results folder of drawn faces and with networks of random weights, which take as
long as trained ones. What is timed is core.metrics.inference.in_batches, from the first file to the last result;
the time around it is that of statistics: the bootstrap, FID's covariances and roots, the chart of CD.
"""

import argparse
import io
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack, redirect_stderr, redirect_stdout
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
from benchmarks.timing import now
from core.data.datasets import CELEBA_ATTRIBUTES, attribute_index
from core.data.images import centre_crop, from_uint8
from core.metrics.correlations import correlation_table, keep_correlations
from core.results.folder import ResultsFolder
from core.results.records import make_records
from core.running.explainer import Explanation
from demo.correlations import training_labels
from demo.faces import face_of, render
from guided_diffusion.dist_util import pick_device
from guided_diffusion.script_util import add_dict_to_argparser, run_script
from models.classifiers import Classifier, build_classifier
from models.oracles import Oracle
from models.vggface2 import FaceFeatures, caffe_resnet50

FLAGS = {
    "gpu": ("0", "index of the GPU; without one the CPU is used"),
    "image_size": (128, "height and width of the images in pixels"),
    "pairs": (64, "how many counterfactuals"),
    "batch_size": (32, "pairs at a time"),
    "rounds": (2, "how often every metric is measured; the fastest counts, so that none warms up"),
    "classifier": ("densenet121", "the explained classifier, for COUT: densenet121, small_cnn, ..."),
}
RUNS = ("run-0", "run-1")


def oracle(args, device):
    return Classifier(Oracle(), "oracle_resnet50_128")


def random_inception(args, device):
    """pytorch-fid's, which cannot be built without weights but by keeping it from loading them."""
    with mock.patch.object(inception, "load_state_dict_from_url"), mock.patch.object(nn.Module, "load_state_dict"):
        network = inception.InceptionV3().eval().to(device)
    return lambda images: network(images)[0].flatten(1)


# title: (script, its loader of the network, what builds the network, the flag that names the weights)
METRICS = {
    "FVA, FS (ResNet-50)": (
        compute_FVA, "load_vggface2", lambda args, device: FaceFeatures(caffe_resnet50()), "weights_path"),
    "MNAC, Oracle FR (ResNet-50)": (compute_MNAC, "load_oracle", oracle, "oracle_path"),
    "CD (ResNet-50)": (compute_CD, "load_oracle", oracle, "oracle_path"),
    "COUT (the classifier, 51 times)": (
        compute_COUT, "load_classifier",
        lambda args, device: Classifier(build_classifier(args.classifier, 40), args.classifier), "classifier_path"),
    "FID, sFID, KID (Inception)": (compute_FID, "load_inception", random_inception, "inception_path"),
    "sigma_L of two runs (VGG16)": (
        compute_LPIPS, "load_lpips",
        lambda args, device: lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False), "vgg_path"),
}  # fmt: skip


def write_experiments(root, args):
    """RUNS of the same drawn faces, which were to smile or to stop, as main.py writes them; and a data folder."""
    smiling = attribute_index(CELEBA_ATTRIBUTES, "Smiling")
    generator = torch.Generator().manual_seed(0)
    faces = [face_of(0, "test", k) for k in range(args.pairs)]
    labels = torch.tensor([attributes["Smiling"] for attributes, _ in faces]).long()
    images, changed = (
        from_uint8(torch.stack([_pixels(attributes | toggle(attributes), seed, args.image_size)
                                for attributes, seed in faces]))
        for toggle in (lambda attributes: {}, lambda attributes: {"Smiling": not attributes["Smiling"]})
    )  # fmt: skip
    keep_correlations(root, correlation_table(training_labels(0, 1000), CELEBA_ATTRIBUTES))
    for run in RUNS:
        noise = 0.02 * torch.randn(changed.shape, generator=generator)
        sure, once = torch.full((args.pairs,), 0.9), torch.ones(args.pairs)
        found = Explanation((changed + noise).clamp(-1, 1), images, labels, 1 - labels, 1 - labels, 1 - sure, sure,
                            once.long(), once)  # fmt: skip
        folder = ResultsFolder(root / "output", run)
        folder.begin({"query_label": CELEBA_ATTRIBUTES[smiling], "data_dir": str(root)})
        table = make_records(range(args.pairs), [f"{k}.jpg" for k in range(args.pairs)], images, labels, found)
        folder.write_images(table, images, found)
        folder.commit(table)
    (root / "weights").write_bytes(b"random")


def _pixels(attributes, seed, size):
    return torch.from_numpy(np.array(centre_crop(render(attributes, seed), size))).permute(2, 0, 1)


class Stopwatch:
    """The seconds spent in some functions, by the names that they are given here."""

    def __init__(self, device):
        self.device, self.seconds = device, defaultdict(float)

    def timed(self, name, function):
        def call(*args, **kwargs):
            start = now(self.device)
            found = function(*args, **kwargs)
            self.seconds[name] += now(self.device) - start
            return found

        return call


def measure(title, root, args, device):
    """Runs a script -> the seconds in its batches, in its network, and in all the rest but building that."""
    script, loader, build, weights_flag = METRICS[title]
    watch = Stopwatch(device)
    torch.manual_seed(0)
    with redirect_stderr(io.StringIO()):  # warnings of old names of torchvision's
        network = build(args, device)
    if isinstance(network, nn.Module):
        network.eval().requires_grad_(False)
        network.forward = watch.timed("network", network.forward)
    else:
        network = watch.timed("network", network)
    of = ["--exp_pattern", "run-*"] if script is compute_LPIPS else ["--exp_name", RUNS[0]]
    argv = [script.__name__, "--output_path", root / "output", *of, f"--{weights_flag}", root / "weights",
            "--gpu", args.gpu, "--batch_size", args.batch_size]  # fmt: skip
    for kept in (root / "output").rglob("activations.npz"):
        kept.unlink()
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


def table(found, pairs):
    """Title -> (seconds in batches, in the network, around them) -> Markdown."""
    lines = ["| metric | pairs/s | in the network | statistics, s |", "|---|---|---|---|"]
    for title, (batches, network, around) in found.items():
        lines.append(f"| {title} | {pairs / batches:.1f} | {100 * network / batches:.0f} % | {around:.1f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    add_dict_to_argparser(parser, FLAGS)
    args = parser.parse_args()
    device = pick_device(args.gpu)
    print(
        f"{args.pairs} pairs of {args.image_size} x {args.image_size} in batches of {args.batch_size}, "
        f"torch {torch.__version__} on {device} with {torch.get_num_threads()} threads; {args.rounds} rounds of "
        f"{len(METRICS)} metrics"
    )
    found = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, tqdm(total=args.rounds * len(METRICS), unit="run") as bar:
        write_experiments(Path(folder), args)
        for _ in range(args.rounds):
            for title in METRICS:
                found[title].append(measure(title, Path(folder), args, device))
                bar.update()
    print(table({title: min(rounds) for title, rounds in found.items()}, args.pairs))


if __name__ == "__main__":
    run_script(main)
