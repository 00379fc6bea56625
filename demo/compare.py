"""Compares counterfactuals of drawn faces with the true ones: the same portraits, with the query at its target."""

import re
from dataclasses import dataclass

import numpy as np
from PIL import Image

from core.data.datasets import CELEBA_ATTRIBUTES
from core.results.reading import Pair
from core.results.records import BITS
from demo.faces import face_of
from demo.nearest import VISIBLE_CHANGE, Portraits, read_attributes
from guided_diffusion.script.errors import UserError

IMAGE = re.compile(r"(train|val|test)_(\d+)\.jpg")  # what demo.faces calls its images
TRUTH = ("truth_pred", "truth_cf_pred")  # the renderer's 40 attributes, in the format of BITS
SAME = 0.02  # encoding a drawing once more changes it by less: mean difference, where black and white differ by 1
GLARING = 64  # grey levels: a mean difference that the picture shows in white


@dataclass(frozen=True)
class Face:
    """A counterfactual, its row of records.csv, and the attributes and nuisance seed of its original."""

    pair: Pair
    record: dict
    attributes: dict[str, bool]
    nuisance: int

    def wanted(self, query):
        """Its attributes with the query at its target."""
        return self.attributes | {query: bool(self.record["target"])}

    def portraits(self):
        """The Portraits of its nuisance seed, of its images' size."""
        return Portraits(self.nuisance, self.images()[0].shape[-1])

    def images(self):
        """(original, counterfactual), each (3, S, S) in 0 … 255."""
        return tuple(pixels.numpy().astype(float) for pixels in self.pair.pixels())

    def drawn(self, portraits):
        """images(), but UserError where demo.faces does not draw this original. portraits: the face's."""
        original, counterfactual = self.images()
        if _distance(original, portraits(self.attributes)) > SAME:
            name = self.record["image"]
            raise UserError(f"{self.pair.original} is not {name} as demo.faces draws it; give the --seed of that")
        return original, counterfactual


def read_faces(run, query, seed):
    """The counterfactuals of a Run as Faces, sorted by id. seed: that of the data set.

    Raises UserError where there are none, where demo.faces does not draw these images with this seed, and where the
    labels are not those of the query.
    """
    path = run.layout.records
    if not path.exists():
        raise UserError(f"{path} is not there, and it alone names the images; give a run of main.py")
    records, faces = run.require_records().set_index("id").to_dict("index"), []
    if "oracle_pred" in run.records and len(run.records["oracle_pred"][0]) != len(CELEBA_ATTRIBUTES):
        raise UserError(f"{path} is of an oracle of other than CelebA's 40 attributes; give main.py another")
    for pair in run.require_pairs(reached=("CCF", "ICF")):
        if int(pair.id) not in records:
            raise UserError(f"{path} has no row for {pair.counterfactual}; restore it or remove the counterfactual")
        record = records[int(pair.id)]
        name = IMAGE.fullmatch(record["image"])
        if not name:
            raise UserError(f"{path} names {record['image']}, no image of demo.faces; give a run on that data")
        face = Face(pair, record, *face_of(seed, name[1], int(name[2])))
        if face.attributes[query] != record["label"]:
            raise UserError(
                f"{record['image']} of --seed {seed} has another label than {path} says for --query_label {query}; "
                "give the --query_label of main.py and the --seed of demo.faces"
            )
        faces.append(face)
    faces[0].drawn(faces[0].portraits())  # one is enough to notice another seed; compare() checks all of them
    return faces


def compare_all(faces, query):
    """name -> a Face, all of one image, to name -> its row of truth.csv. Nothing is drawn twice."""
    portraits = next(iter(faces.values())).portraits()
    return {name: compare(face, query, portraits) for name, face in faces.items()}


def compare(face, query, portraits):
    """A Face -> its row of truth.csv. portraits: the face's Portraits, which remember what they have drawn.

    distance: mean |difference| between the counterfactual and the true one; black and white differ by 1.
    original_distance: the same between the original and the true one. ratio: distance / original_distance.
    local_ratio: the ratio over the pixels that should change.
    outside: of the whole change from the original, the share at pixels that should not change.
    The ratios and this share are NaN where nothing should change, as the original shows the target already, and
    where the change would not be visible.
    query_share: see Reading. told: the number of attributes in Reading.told.
    changed: the attributes other than the query that have changed. others: their number.
    mnac, oracle_mnac: how many attributes, the query included, have changed for the renderer and for the oracle.
    """
    original, counterfactual = face.drawn(portraits)
    wanted = face.wanted(query)
    truth = portraits(wanted)
    reading = read_attributes(counterfactual, wanted, query, portraits)
    shown = reading.attributes
    if np.isnan(reading.query_share):  # a query whose change would not be visible counts as unchanged
        shown = shown | {query: face.attributes[query]}
    changed = [name for name in CELEBA_ATTRIBUTES if shown[name] != face.attributes[name]]
    others = [name for name in changed if name != query]
    row = {
        "id": int(face.pair.id),
        "image": face.record["image"],
        "reached": face.pair.reached == "CCF",
        "distance": _distance(counterfactual, truth),
        "original_distance": _distance(original, truth),
        **dict.fromkeys(("ratio", "local_ratio", "outside"), np.nan),
        "query_share": reading.query_share,
        "told": len(reading.told),
        "changed": " ".join(others),
        "others": len(others),
        "mnac": len(changed),
    }
    visible = portraits.tells(wanted, query) and not np.isnan(reading.query_share)
    if visible and wanted != face.attributes:
        changing = np.abs(portraits.change(wanted, query)).max(0) >= VISIBLE_CHANGE
        images = counterfactual, original, truth
        row |= {"ratio": _ratio(*images), "local_ratio": _ratio(*(image[:, changing] for image in images))}
        row["outside"] = outside(counterfactual, original, changing)
    row |= dict(zip(TRUTH, map(_bits, (face.attributes, shown)), strict=True))
    if "oracle_pred" in face.record:
        row |= {name: face.record[name] for name in BITS}
        row["oracle_mnac"] = sum(a != b for a, b in zip(*(row[name] for name in BITS), strict=True))
    return row


def true_counterfactual(face, query):
    """(3, S, S) in 0 … 255: the portrait of a Face with the query at its target."""
    return face.portraits()(face.wanted(query))


def brightened(difference):
    """(3, S, S) grey levels of difference -> the same in grey: the mean over channels, white from GLARING on."""
    return np.abs(difference).mean(0, keepdims=True).repeat(3, 0) * 255 / GLARING


def to_image(pixels):
    """(3, S, S) in 0 … 255 -> a PIL image."""
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def _distance(a, b):
    return float(np.abs(a - b).mean() / 255)


def _ratio(counterfactual, original, truth):
    return _distance(counterfactual, truth) / _distance(original, truth)


def outside(counterfactual, original, changing):
    """The share of the change outside the pixels (H, W) that should change; 0 where nothing changed."""
    change = np.abs(counterfactual - original).sum(0)
    return float(change[~changing].sum() / max(change.sum(), 1e-12))


def _bits(attributes):
    return "".join(str(int(attributes[name])) for name in CELEBA_ATTRIBUTES)
