"""The images that show best what the classifier uses, with the attribute or the place put back."""

from dataclasses import dataclass

import numpy as np

from ..data.images import from_uint8, to_uint8, write_png
from .own_change import put_back

EXAMPLES = 6
EFFECT_DIGITS = 5  # of effects that are told apart; further ones depend on the size of the batches


@dataclass
class Example:
    """An image. effect: how far p falls (falls); p, p_back: in the counterfactual, and with it put back there.

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


def draw_examples(folder, name, rows, own, undone, pairs):
    """Writes folder/name/<id>.png, with the pixels own (M, H, W) put back in M rows of the pairs -> Examples."""
    (folder / name).mkdir(parents=True)
    examples = []
    for index, row in enumerate(rows):
        pair = pairs[row]
        x, counterfactual = (from_uint8(part)[None] for part in pair.pixels())
        write_png(folder / name / f"{pair.id}.png", to_uint8(put_back(x, counterfactual, own[index][None]))[0])
        p, at_end = float(undone.p[index]), float(undone.at_end[index])
        picture = f"{name}/{pair.id}.png"
        examples.append(Example(pair.id, float(undone.effect[index]), p, p - at_end, picture))
    return examples
