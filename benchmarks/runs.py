"""What the benchmarks start: to write the data, to run main.py, and to measure its results."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from core.data.datasets import CELEBA_ATTRIBUTES
from core.results.layout import Layout
from guided_diffusion.script.errors import UserError

ROOT = Path(__file__).parent.parent


class Data(NamedTuple):
    """A demo's data set. writer: the module that writes it, with flags. query: what is to change by default."""

    writer: str
    query: str
    attributes: tuple[str, ...]


DATA = {
    "faces": Data("demo.faces --correlations 12000", "Smiling", CELEBA_ATTRIBUTES),
    "fashion": Data("demo.fashion --classes Trouser,Dress", "Dress", ("Trouser", "Dress")),
}


def run(*words):
    """Runs `python words...` in the root; UserError where it fails."""
    if subprocess.run([sys.executable, *map(str, words)], cwd=ROOT).returncode:
        raise UserError(f"{words[0] if words[0] != '-m' else words[1]} failed; the lines above say why")


def chosen_names(text, flag, known):
    """The names in the text of a flag, separated by commas; UserError for those that are unknown."""
    names = text.split(",")
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"--{flag} {', '.join(unknown)} is unknown; choose of {', '.join(known)}")
    return names


def demo_flags(dataset, which):
    """The words of a variable in demo/flags.sh, such as FACES_DIME."""
    script = f'. demo/flags.sh; printf %s "${dataset.upper()}_{which}"'
    return subprocess.check_output(["bash", "-ec", script], cwd=ROOT, text=True).split()


def write_data(root, dataset, images):
    """Writes a data set of the first images of the demo's test split -> its folder."""
    data = (root / "data").resolve()
    run("-m", *DATA[dataset].writer.split(), "--data_dir", data, "--train", 0, "--val", 0, "--test", images)
    return data


def explain(root, name, dataset, data, query, flags):
    """Runs or resumes main.py. flags: further words, which may stand for flags of the demo's."""
    places = ("--output_path", root.resolve(), "--exp_name", name, "--data_dir", data, "--query_label", query)
    run("main.py", *demo_flags(dataset, "RUN"), *places, *flags)


def evaluate(root, names, dataset, query, workers):
    """Runs the scripts that measure experiments. They write metrics.yaml and, for faces, truth.yaml."""
    root, faces = root.resolve(), dataset == "faces"
    metrics = "FR,bKL,L1,MNAC" + (",CD" if faces else "")
    run("compute_metrics.py", "--output_path", root, "--exp_names", *names, "--metrics", metrics)
    if stale := [name for name in names if faces and _truth_is_stale(Layout(root, name))]:
        words = ("--output_path", root, "--exp_names", *stale, "--query_label", query, "--workers", workers)
        run("-m", "demo.truth", *words)


def _truth_is_stale(layout):
    """Whether demo.truth, which takes a second for each face, has yet to measure this run."""
    truth = layout.truth
    return not truth.exists() or truth.stat().st_mtime < layout.records.stat().st_mtime
