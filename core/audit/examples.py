"""The images that show best what the classifier uses, with the attribute or the place put back."""

from dataclasses import dataclass

import numpy as np

from ..data.images import from_uint8, to_uint8, write_png
from .evidence import undo
from .own_change import put_back

EXAMPLES = 6
EFFECT_DIGITS = 5  # of effects that are told apart; further ones depend on the size of the batches


@dataclass
class Example:
    """An image. effect: of Undone; p, p_back: in the counterfactual, and with it put back there.

    picture: the counterfactual with it put back, a path in the audit's folder.
    """

    id: str
    effect: float
    p: float
    p_back: float
    picture: str


def strongest(effects):
    """(n,) effects, NaN where there are none -> the rows of the largest, at most EXAMPLES."""
    order = np.argsort(-np.nan_to_num(effects, nan=-np.inf).round(EFFECT_DIGITS), kind="stable")
    return [int(row) for row in order if not np.isnan(effects[row])][:EXAMPLES]


def draw_examples(folder, name, rows, own, pairs, networks):
    """Writes folder/name/<id>.png, with the pixels own (M, H, W) put back in M rows of the pairs -> Examples."""
    (folder / name).mkdir(parents=True)
    undone, examples = undo(rows, own, pairs, networks), []
    for row, pixels, effect, at_end, p in zip(rows, own, undone.effect, undone.at_end, undone.p, strict=True):
        pair, picture = pairs[row], f"{name}/{pairs[row].id}.png"
        x, counterfactual = (from_uint8(part)[None] for part in pair.pixels())
        write_png(folder / picture, to_uint8(put_back(x, counterfactual, pixels[None]))[0])
        examples.append(Example(pair.id, float(effect), float(p), float(p - at_end), picture))
    return examples
