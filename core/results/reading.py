"""Reading back what lies in a results folder: pairs of images, records, and what is known of the runs."""

import hashlib
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from guided_diffusion.script.errors import UserError, require_file
from guided_diffusion.script.flags import MANY

from ..data.images import SUFFIXES, from_uint8, read_image
from .layout import CLASSIFIED, REACHED, beside, image_id
from .records import read_records, read_yaml

CLASSES = ("label", "pred", "target")  # of an Info file, which no reader can do without


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
        paths = (beside(self.counterfactual, name).with_suffix(suffix) for suffix in SUFFIXES)
        return next((path for path in paths if path.is_file()), None)

    def images(self):
        """(original, counterfactual), each (3, H, W) in [-1, 1]."""
        return tuple(map(from_uint8, self.pixels()))

    def info(self):
        """The image's Info, a dict of numbers: label, pred, target, cf pred, BKL, l_1.

        UserError where the file cannot be read, or label, pred or target is missing or no class.
        """
        path = beside(self.counterfactual, "Info").with_suffix(".txt")
        require_file(path)
        try:
            lines = path.read_text().splitlines()
            info = {name: float(value) for name, value in (line.split(":") for line in lines if line.strip())}
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); explain the image again") from None
        if not set(CLASSES) <= info.keys():
            raise UserError(f"{path} lacks label, pred or target; explain the image again")
        for name in CLASSES:
            if not info[name].is_integer() or not 0 <= info[name] < MANY:
                raise UserError(f"{path}: {name} {info[name]:g} is no class; explain the image again")
        return info


def read_flags(layout):
    """The flags of an experiment, or of its first chunk; {} where main.py has left none."""
    path = next((each.flags for each in (layout, *layout.chunks) if each.flags.exists()), None)
    return {} if path is None else read_yaml(path)


def read_rows(layout):
    """The rows of all ranks of an experiment, or chunk, so far, sorted by id; None where there are none."""
    tables = []
    # Parts first: one that vanishes meanwhile has been joined to the whole, by a run that goes on.
    for path in [*layout.records_of_further_ranks, layout.records]:
        try:
            tables += [read_records(path)] if path.exists() else []
        except UserError:
            if path.exists():
                raise
    if not tables:
        return None
    # A row is in two files where a process was killed while it joined them.
    return pd.concat(tables).drop_duplicates("id").sort_values("id").reset_index(drop=True)


def read_all_rows(layout):
    """read_rows(), of an experiment that is not merged those of all its chunks; None where there are none."""
    tables = [read_rows(layout)]
    if tables[0] is None:
        tables = map(read_rows, layout.chunks)
    tables = [table for table in tables if table is not None and len(table)]
    return pd.concat(tables).sort_values("id", ignore_index=True) if tables else None


def refuse_other_images(table, names, experiment):
    """UserError that names the first image which the records have under another id than the data, `names`, now.

    An id is a place in the data: an image that is added or removed moves those behind it.
    """
    if table is None or "image" not in table:  # a folder of the authors' release names no files
        return
    for i, name in zip(table["id"], table["image"], strict=True):
        now = names[i] if i < len(names) else "no image"
        if now != name:
            raise UserError(
                f"{experiment} has explained {name} as image {image_id(i)}, which is {now} of the data now: images "
                "were added or removed; restore the data, or name another --exp_name"
            )


def rows_of_infos(pairs):
    """Records of Pairs whose experiment has no records.csv, as that of the authors' release; None without any.

    Images without a whole Info file, or without a number as their name, are left out, which is said on stderr.
    """
    rows, left_out = [], []
    for pair in pairs:
        try:
            rows.append(_row_of_info(pair))
        except UserError as error:
            left_out.append(str(error))
    if left_out:
        print(f"{len(left_out)} images are left out; the first: {left_out[0]}", file=sys.stderr)
    return pd.DataFrame(rows).sort_values("id", ignore_index=True) if rows else None


def _row_of_info(pair):
    info = pair.info()
    reached, bkl, l_1 = (info.get(name, math.nan) for name in ("cf pred", "BKL", "l_1"))
    if not (pair.id.isdecimal() and reached.is_integer() and 0 <= bkl <= 1 and 0 <= l_1 <= 1):
        raise UserError(f"the Info of {pair.counterfactual} lacks cf pred, BKL or l_1, or its name is no number")
    classes = {name: int(info[name]) for name in CLASSES}
    of_image = {"id": int(pair.id), **classes, "cf_pred": int(reached)}
    return of_image | {"p_target": 1 - bkl, "bkl": bkl, "l_1": l_1}


def hash_of(table):
    """12 hex digits that tell records from others, None for none.

    Written beside what was made of them, it tells whether that is older than the run."""
    if table is None:
        return None
    return hashlib.sha256(table.to_csv(index=False).encode(errors="surrogateescape")).hexdigest()[:12]


def read_runs(layout):
    """What add_run wrote, a list of dicts: one for each run that came to an end, of all chunks."""
    paths = [each.runs for each in (layout, *layout.chunks) if each.runs.exists()]
    return [facts for path in paths for facts in read_yaml(path).values() if isinstance(facts, dict)]


def read_similarities(layout):
    """The cosines that compute_FVA.py measured: image_id -> cosine; {} where it has not."""
    path = layout.similarity
    if not path.exists():
        return {}
    require_file(path)
    try:
        table = pd.read_csv(path, dtype={"id": str, "cosine": float})
        return dict(zip(table["id"], table["cosine"], strict=True))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} holds no cosines ({str(error).splitlines()[0]}); remove it") from None


def read_trajectory(layout, kind, name):
    """The paths of the steps of an image's trajectory, in their order. kind: x_t or z_t; name: its image_id."""
    return list(_images(layout.trajectory(kind, name)).values())


def read_classes(layout):
    """What an experiment's classes are called, in their order; () where it is about an attribute."""
    path = layout.classes
    require_file(path)
    if not path.exists():
        return ()
    return tuple(path.read_text(encoding="utf-8", errors="surrogateescape").splitlines())


def read_pairs(layout, classified=tuple(CLASSIFIED), reached=("CCF",)):
    """The Pairs of an experiment, sorted by id. classified, reached: the folders to read.

    UserError where a counterfactual has no original, or an image is in two places.
    """
    if not layout.experiment.is_dir():
        raise UserError(
            f"{layout.experiment} is not a folder; give the --output_path and --exp_name of a finished run"
        )
    pairs, counterfactuals = [], {}
    for right in classified:
        folder = layout.originals(CLASSIFIED[right])
        originals = _images(folder)
        for outcome in reached:
            for name, path in _images(layout.part(CLASSIFIED[right], REACHED[outcome], "CF")).items():
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
