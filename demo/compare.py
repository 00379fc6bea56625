"""Compares counterfactuals of drawn faces with the true ones: the same portraits, with the query at its target."""

import re
from dataclasses import dataclass

import numpy as np
from PIL import Image

from core.data.datasets import CELEBA_ATTRIBUTES
from core.data.images import read_image
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
    """A counterfactual, the attributes and nuisance seed that its original was drawn with, and the query's target.

    p_target: what the classifier gives the target in the counterfactual.
    oracle: the oracle's decisions before and after, 40 bits each; None without an oracle.
    """

    pair: Pair
    image: str
    attributes: dict[str, bool]
    nuisance: int
    target: bool
    p_target: float
    oracle: tuple[str, str] | None

    def wanted(self, query):
        """Its attributes with the query at its target."""
        return self.attributes | {query: self.target}

    def portraits(self):
        """The Portraits of its nuisance seed, of its images' size."""
        return Portraits(self.nuisance, self.images()[0].shape[-1])

    def images(self):
        """(original, counterfactual), each (3, S, S) in 0 … 255."""
        paths = (self.pair.original, self.pair.counterfactual)
        return tuple(read_image(path).numpy().astype(float) for path in paths)


def read_faces(run, query, seed):
    """The counterfactuals of a Run as Faces, sorted by id. seed: that of the data set.

    Raises UserError where there are none, where demo.faces does not draw these images with this seed, and where the
    labels are not those of the query.
    """
    if seed < 0:
        raise UserError(f"--seed {seed} must be at least 0")
    pairs = run.pairs(reached=("CCF", "ICF"))
    if not pairs:
        raise UserError(f"{run.layout.experiment} holds no images; run main.py with --save_images True")
    path = run.layout.records
    if not path.exists():
        raise UserError(f"{path} is not there, and it alone names the images; give a run of main.py")
    records = run.records.set_index("id")
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
        target, p_target = bool(record["target"]), record["p_target"]
        faces.append(Face(pair, record["image"], attributes, nuisance, target, p_target, oracle))
    require_drawn(faces[0])  # one is enough to notice another seed; compare() checks all of them
    return faces


def require_drawn(face, portraits=None):
    """A Face -> (original, counterfactual, Portraits); UserError where demo.faces does not draw this original."""
    original, counterfactual = face.images()
    portraits = portraits or face.portraits()
    if _distance(original, portraits(face.attributes)) > SAME:
        raise UserError(f"{face.pair.original} is not {face.image} as demo.faces draws it; give the --seed of that")
    return original, counterfactual, portraits


def compare_all(faces, query):
    """Faces of one image, each of another experiment -> their rows of truth.csv. Nothing is drawn twice."""
    portraits = faces[0].portraits()
    return [compare(face, query, portraits) for face in faces]


def compare(face, query, portraits=None):
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
    original, counterfactual, portraits = require_drawn(face, portraits)
    wanted = face.wanted(query)
    truth = portraits(wanted)
    reading = read_attributes(counterfactual, wanted, query, portraits)
    shown = reading.attributes
    if np.isnan(reading.query_share):  # a query whose change would not be visible counts as unchanged
        shown = shown | {query: face.attributes[query]}
    changed = [name for name in CELEBA_ATTRIBUTES if shown[name] != face.attributes[name]]
    others = [name for name in changed if name != query]
    visible = portraits.tells(wanted, query) and not np.isnan(reading.query_share)
    to_change = wanted != face.attributes and visible
    changing = np.abs(portraits.change(wanted, query)).max(0) >= VISIBLE_CHANGE
    images = counterfactual, original, truth
    row = {
        "id": int(face.pair.id),
        "image": face.image,
        "reached": face.pair.reached == "CCF",
        "distance": _distance(counterfactual, truth),
        "original_distance": _distance(original, truth),
        "ratio": _ratio(*images) if to_change else np.nan,
        "local_ratio": _ratio(*(image[:, changing] for image in images)) if to_change else np.nan,
        "outside": outside(counterfactual, original, changing) if to_change else np.nan,
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


def true_counterfactual(face, query):
    """(3, S, S) in 0 … 255: the portrait of a Face with the query at its target."""
    return face.portraits()(face.wanted(query))


def tiles(face, query):
    """A Face's images in the picture: original, counterfactual, true counterfactual, difference of the last two."""
    (original, counterfactual), truth = face.images(), true_counterfactual(face, query)
    return [to_image(each) for each in (original, counterfactual, truth, brightened(counterfactual - truth))]


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
