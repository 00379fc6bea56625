"""Counterfactuals of drawn faces beside the true ones: the same portraits, the query at its target."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from core.data.datasets import CELEBA_ATTRIBUTES
from core.data.images import read_image
from core.results.folder import Pair, read_pairs
from core.results.records import BITS, read_records
from demo.faces import face_of
from demo.nearest import VISIBLE_CHANGE, Portraits, read_attributes
from guided_diffusion.errors import UserError

IMAGE = re.compile(r"(train|val|test)_(\d+)\.jpg")  # what demo.faces calls its images
TRUTH = ("truth_pred", "truth_cf_pred")  # the renderer's 40 attributes, as BITS holds the oracle's
SAME = 0.02  # a mean difference that no second encoding of the same drawing makes, of 1 from black to white
GLARING = 64  # grey levels of mean difference that the picture shows in white


@dataclass(frozen=True)
class Face:
    """A counterfactual and what was drawn: attributes and nuisance seed of the original, target of the query."""

    pair: Pair
    image: str
    attributes: dict[str, bool]
    nuisance: int
    target: bool
    oracle: tuple[str, str] | None

    def images(self):
        """(original, counterfactual), each (3, S, S) in 0 … 255."""
        paths = (self.pair.original, self.pair.counterfactual)
        return tuple(read_image(path).numpy().astype(float) for path in paths)


def find_faces(output_path, exp_name, query, seed):
    """The counterfactuals of an experiment, sorted by id, as Faces of the data set with this seed.

    Raises UserError where there are none, or where the images are not those of demo.faces with this seed, or
    the labels not those of the query.
    """
    if seed < 0:
        raise UserError(f"--seed {seed} must be at least 0")
    pairs = read_pairs(output_path, exp_name, reached=("CCF", "ICF"))
    if not pairs:
        raise UserError(f"{output_path}/Results/{exp_name} holds no images; run main.py with --save_images True")
    path = Path(output_path) / "Results" / exp_name / "records.csv"
    records = read_records(path).set_index("id")
    faces = []
    for pair in pairs:
        if int(pair.id) not in records.index:
            raise UserError(f"{path} has no row for {pair.counterfactual}; restore it or remove the counterfactual")
        record = records.loc[int(pair.id)]
        name = IMAGE.fullmatch(record["image"])
        if not name:
            raise UserError(f"{path} names {record['image']}, no image of demo.faces; give a run on that data")
        attributes, nuisance = face_of(seed, name[1], int(name[2]))
        if attributes[query] != record["label"]:
            raise UserError(
                f"{record['image']} of --seed {seed} has another label than {path} says for --query_label {query}; "
                "give the --query_label of main.py and the --seed of demo.faces"
            )
        oracle = tuple(record[bits] for bits in BITS) if "oracle_pred" in records else None
        if oracle and not all(len(bits) == len(CELEBA_ATTRIBUTES) for bits in oracle):
            raise UserError(f"{path} is of an oracle of other than CelebA's 40 attributes; give main.py another")
        faces.append(Face(pair, record["image"], attributes, nuisance, bool(record["target"]), oracle))
    require_drawn(faces[0])  # one tells that the seed is another; the others are looked at where they are compared
    return faces


def require_drawn(face):
    """A Face -> (its original, its counterfactual, its Portraits); UserError where the original is not drawn so."""
    original, counterfactual = face.images()
    portraits = Portraits(face.nuisance, original.shape[-1])
    if _distance(original, portraits(face.attributes)) > SAME:
        raise UserError(f"{face.pair.original} is not {face.image} as demo.faces draws it; give the --seed of that")
    return original, counterfactual, portraits


def compare(face, query):
    """A Face -> its row of truth.csv.

    distance: of the counterfactual to the true one, mean |difference| of 1 from black to white;
    original_distance: of the original, the scale of it; ratio: their quotient; local_ratio: the same over the
    pixels that were to change. Both are missing where nothing was to change, as the original shows the target
    already, or where it would not be seen.
    query_share, told: see Reading. changed: the attributes, but for the query, that are not as they were, and
    others how many they are. mnac and oracle_mnac: how many attributes changed for the renderer and for the
    oracle, the query included, as MNAC counts.
    """
    original, counterfactual, portraits = require_drawn(face)
    wanted = face.attributes | {query: face.target}
    truth = portraits(wanted)
    reading = read_attributes(counterfactual, wanted, query, portraits)
    shown = reading.attributes
    if np.isnan(reading.query_share):  # a query that would not be seen has not changed
        shown = shown | {query: face.attributes[query]}
    changed = [name for name in CELEBA_ATTRIBUTES if shown[name] != face.attributes[name]]
    others = [name for name in changed if name != query]
    seen = portraits.tells(wanted, query) and not np.isnan(reading.query_share)
    asked = wanted != face.attributes and seen
    there = np.abs(portraits.change(wanted, query)).max(0) >= VISIBLE_CHANGE
    row = {
        "id": int(face.pair.id),
        "image": face.image,
        "reached": face.pair.reached == "CCF",
        "distance": _distance(counterfactual, truth),
        "original_distance": _distance(original, truth),
        "ratio": _ratio(counterfactual, original, truth) if asked else np.nan,
        "local_ratio": _ratio(*(each[:, there] for each in (counterfactual, original, truth))) if asked else np.nan,
        "query_share": reading.query_share,
        "told": len(reading.told),
        "changed": " ".join(others),
        "others": len(others),
        "mnac": len(changed),
    }
    row |= dict(zip(TRUTH, map(_bits, (face.attributes, shown)), strict=True))
    if face.oracle:
        row |= dict(zip(BITS, face.oracle, strict=True))
        row["oracle_mnac"] = sum(a != b for a, b in zip(*face.oracle, strict=True))
    return row


def tiles(face, query):
    """What the picture shows of a Face: original, counterfactual, true counterfactual, how the last two differ."""
    original, counterfactual = face.images()
    truth = Portraits(face.nuisance, original.shape[-1])(face.attributes | {query: face.target})
    difference = np.abs(counterfactual - truth).mean(0, keepdims=True).repeat(3, 0) * 255 / GLARING
    return [
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
        for pixels in (original, counterfactual, truth, difference)
    ]


def _distance(a, b):
    return float(np.abs(a - b).mean() / 255)


def _ratio(counterfactual, original, truth):
    return _distance(counterfactual, truth) / _distance(original, truth)


def _bits(attributes):
    return "".join(str(int(attributes[name])) for name in CELEBA_ATTRIBUTES)
