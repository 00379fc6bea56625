"""Reading back what lies in a results folder: pairs of images, records, and what is remembered of the runs."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from guided_diffusion.script.errors import UserError, require_file
from guided_diffusion.script.flags import MANY

from ..data.images import SUFFIXES, from_uint8, read_image
from .folder import ResultsFolder, chunk_files, experiment_folder
from .records import read_yaml


@dataclass
class Pair:
    """The paths of an original and its counterfactual. classified: CC or IC; reached: CCF or ICF."""

    id: str
    original: Path
    counterfactual: Path
    classified: str
    reached: str

    def pixels(self):
        """(original, counterfactual), each uint8 (3, H, W); UserError where their sizes differ."""
        original, counterfactual = read_image(self.original), read_image(self.counterfactual)
        if original.shape != counterfactual.shape:
            raise UserError(f"{self.counterfactual} is not of the size of {self.original}; restore one of them")
        return original, counterfactual

    def part(self, name):
        """The path of another of its images, such as that in Mask; None where there is none."""
        folder = self.counterfactual.parent.parent / name
        paths = (folder / f"{self.id}{suffix}" for suffix in SUFFIXES)
        return next((path for path in paths if path.is_file()), None)

    def images(self):
        """(original, counterfactual), each (3, H, W) in [-1, 1]."""
        return tuple(map(from_uint8, self.pixels()))

    def info(self):
        """The image's Info, a dict of numbers: label, pred, target, cf pred, BKL, l_1.

        UserError where the file cannot be read, or label, pred or target is missing or no class.
        """
        path = self.counterfactual.parent.parent / "Info" / f"{self.id}.txt"
        require_file(path)
        try:
            lines = path.read_text().splitlines()
            info = {name: float(value) for name, value in (line.split(":") for line in lines if line.strip())}
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); explain the image again") from None
        if not {"label", "pred", "target"} <= info.keys():
            raise UserError(f"{path} lacks label, pred or target; explain the image again")
        for name in ("label", "pred", "target"):
            if not info[name].is_integer() or not 0 <= info[name] < MANY:
                raise UserError(f"{path}: {name} {info[name]:g} is no class; explain the image again")
        return info


def read_flags(output_path, exp_name):
    """The flags of an experiment, or of its first chunk; {} where main.py has left none."""
    paths = sorted((Path(output_path) / "Results" / exp_name).glob("*flags.yaml"))
    if not paths:
        return {}
    return read_yaml(paths[0])


def read_all_records(output_path, exp_name):
    """The rows of all images that were explained so far, also of chunks that are not merged; None without any."""
    tables = [ResultsFolder(output_path, exp_name).records()]
    if tables[0] is None:
        chunks = chunk_files(experiment_folder(output_path, exp_name))
        tables = [ResultsFolder(output_path, exp_name, *chunk).records() for chunk in chunks]
    tables = [table for table in tables if table is not None and len(table)]
    return pd.concat(tables).sort_values("id", ignore_index=True) if tables else None


def records_hash(output_path, exp_name):
    """12 hex digits that tell the records of an experiment from others, None where there are none.

    Kept with what was made of them, it tells whether that is older than the run."""
    table = read_all_records(output_path, exp_name)
    return None if table is None else hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()[:12]


def read_runs(output_path, exp_name):
    """What keep_run kept, a list of dicts: one for each run that came to an end, of all chunks."""
    paths = sorted(experiment_folder(output_path, exp_name).glob("*runs.yaml"))
    return [facts for path in paths for facts in read_yaml(path).values() if isinstance(facts, dict)]


def read_similarities(output_path, exp_name):
    """What keep_similarities kept: image_id -> cosine; {} where compute_FVA.py has not measured."""
    path = ResultsFolder(output_path, exp_name).similarity_path
    if not path.exists():
        return {}
    require_file(path)
    try:
        table = pd.read_csv(path, dtype={"id": str, "cosine": float})
        return dict(zip(table["id"], table["cosine"], strict=True))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} holds no cosines ({str(error).splitlines()[0]}); remove it") from None


def read_trajectory(output_path, exp_name, kind, name):
    """The paths of the steps of an image's trajectory, in their order. kind: x_t or z_t; name: its image_id."""
    return list(_images(Path(output_path) / kind / exp_name / name).values())


def read_classes(output_path, exp_name):
    """What an experiment's classes are called, in their order; () where it is about an attribute."""
    path = ResultsFolder(output_path, exp_name).classes_path
    require_file(path)
    try:
        return tuple(path.read_text(encoding="utf-8").splitlines()) if path.exists() else ()
    except UnicodeDecodeError:
        raise UserError(f"{path} holds no names; run main.py again") from None


def read_pairs(output_path, exp_name, classified=("CC", "IC"), reached=("CCF",)):
    """The Pairs of an experiment, sorted by id. classified, reached: the folders to read.

    UserError where a counterfactual has no original, or an image is in two places.
    """
    root = Path(output_path)
    experiment = experiment_folder(output_path, exp_name)
    if not experiment.is_dir():
        raise UserError(f"{experiment} is not a folder; give the --output_path and --exp_name of a finished run")
    pairs, counterfactuals = [], {}
    for right in classified:
        folder = root / "Original" / ("Correct" if right == "CC" else "Incorrect")
        originals = _images(folder)
        for outcome in reached:
            for name, path in _images(experiment / right / outcome / "CF").items():
                _refuse_second(counterfactuals.get(name), path)
                counterfactuals[name] = path
                if name not in originals:
                    raise UserError(f"{path} has no original in {folder}; restore it or remove the counterfactual")
                pairs.append(Pair(name, originals[name], path, right, outcome))
    return sorted(pairs, key=lambda pair: pair.id)


def _images(directory):
    """Stem -> path of a folder's images; {} where there is no folder; UserError where two share a stem."""
    paths = {}
    for path in sorted(directory.glob("*")):
        if path.suffix.lower() in SUFFIXES:
            _refuse_second(paths.get(path.stem), path)
            paths[path.stem] = path
    return paths


def _refuse_second(first, path):
    if first is not None:
        raise UserError(f"{first} and {path} have the same id; remove one of them")
