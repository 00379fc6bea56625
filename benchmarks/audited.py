"""What benchmarks.audit found, beside the truth: a row for each audited classifier."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import stats

from benchmarks.planted import ASKED, PROPERTIES
from core.data.datasets import CELEBA_ATTRIBUTES
from core.results.reading import read_pairs
from core.results.records import flipped, read_records, read_yaml

CASE = "case.yaml"  # in the folder of an experiment that was audited: what was audited, and the seconds it took
USED = 0.1  # a mean rendered change of p above which a classifier truly uses a property
SEEN = 0.01  # a change of p below this is noise, of the audit and of the renderings alike
BLOCK = 8  # pixels a side, of the map of change
AT_PLACE = 0.5  # of the change of a rendering's strongest block, which the blocks at its place have


@dataclass(frozen=True)
class Audited:
    """Two DataFrames, both with the columns shortcut, level, seed and method.

    rows: a row for each classifier and method. scores: a row for each of these and each attribute, as of compare().
    """

    rows: pd.DataFrame
    scores: pd.DataFrame


def collect(root, renderings):
    """The Audited of all classifiers in the folder."""
    rows, scores = [], []
    output_path = root / "explained"
    for path in sorted(output_path.glob(f"Results/*/{CASE}")):
        case = read_yaml(path)
        key = {name: case[name] for name in ("shortcut", "level", "seed", "method")}
        changes = pd.read_csv(root / "classifiers" / path.parent.name.rpartition("-")[0] / "changes.csv")
        share = flipped(read_records(path.parent / "records.csv")).mean()
        table = compare(pd.read_csv(path.parent / "audit.csv") if share else nothing_found(), changes)
        change = mean_change(output_path, path.parent.name) if share else np.zeros(renderings.originals.shape[1:3])
        found = judge_audit(table, changes, key["shortcut"])
        place = place_of_largest(change, key["shortcut"], renderings)
        rows.append(case | {"flipped": share} | found | place)
        scores.append(table.assign(**key))
    return Audited(pd.DataFrame(rows), pd.concat(scores, ignore_index=True))


def nothing_found():
    """The audit.csv of an experiment in which no image has flipped, so that there is none."""
    table = pd.DataFrame({"attribute": CELEBA_ATTRIBUTES, "score": 0.0, "named": False})
    return table.assign(asked=table["attribute"] == ASKED)


def compare(audit, changes):
    """audit.csv with the column `used`: the rendered |change| of p. Attributes that no drawing shows are left out.

    changes: of rendered_changes().
    """
    used = changes.set_index("property")["change"].abs()
    table = audit[audit["attribute"].isin(used.index)].reset_index(drop=True)
    return table.assign(used=used[table["attribute"]].to_numpy())


def judge_audit(table, changes, shortcut):
    """Columns of a classifier's row. table: of compare(), the highest score first; changes: of rendered_changes().

    first: the attribute that is named first, None for none. false_alarms: how many are named that are not used.
    score: the shortcut's, NaN where no attribute names it.
    """
    change = changes.set_index("property")["change"]
    others = table[~table["asked"]]
    named = others[others["named"]]
    own = others[others["attribute"] == shortcut]["score"]
    return {
        "asked_change": change[ASKED],
        "shortcut_change": change[shortcut],
        "score": own.iloc[0] if len(own) else np.nan,
        "first": named["attribute"].iloc[0] if len(named) else None,
        "false_alarms": int((named["used"] <= USED).sum()),
        "rank_correlation": rank_correlation(table["score"], table["used"]),
    }


def rank_correlation(score, used, least=SEEN):
    """Spearman's, between scores and truths, arrays of one shape; 0 where one of them is the same everywhere.

    least: what is below it counts as 0. Nearly all attributes have no influence, and their order is noise.
    """
    score, used = (np.where(values < least, 0, values).ravel() for values in (score, used))
    return stats.spearmanr(score, used).statistic if np.ptp(score) and np.ptp(used) else 0.0


def slope(score, used):
    """Of the scores over the truths, by least squares; 0 where the truth is the same everywhere."""
    return stats.linregress(used.ravel(), score.ravel()).slope if np.ptp(used) else 0.0


def mean_change(output_path, exp_name):
    """(S, S): the mean difference between the originals and the counterfactuals that reached their target."""
    pairs = (pair.pixels() for pair in read_pairs(output_path, exp_name))
    return torch.stack([(after.float() - before).abs().mean(0) for before, after in pairs]).mean(0).numpy()


def place_of_largest(change, shortcut, renderings):
    """Where a map of change (S, S) is largest, against where the shortcut's rendering changes the image.

    block: the rank of the largest block at that place, 1 where it is larger than all others. share: the mean change
    at that place over the mean change of all blocks, 0 where nothing changed.
    """
    found = _blocks(change)
    toggled = renderings.toggled[:, PROPERTIES.index(shortcut)].astype(float)
    rendered = _blocks(np.abs(toggled - renderings.originals).mean((0, 3)))
    there = rendered >= AT_PLACE * rendered.max()
    block = 1 + int((found[~there] >= found[there].max()).sum())
    return {"block": block, "share": found[there].mean() / found.mean() if found.any() else 0.0}


def _blocks(pixels):
    """(S, S) -> (S / BLOCK, S / BLOCK), means."""
    n = len(pixels) // BLOCK
    return pixels.reshape(n, BLOCK, n, BLOCK).mean((1, 3))
