"""What benchmarks.audit found, beside the truth: a row for each audited classifier."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import stats

from benchmarks.planted import ASKED, PROPERTIES
from core.audit.files import FINDINGS, TABLE
from core.data.datasets import CELEBA_ATTRIBUTES
from core.results.layout import Layout
from core.results.reading import read_pairs
from core.results.records import flipped, read_records, read_yaml

CONTRAST = "contrast"  # what stands for a method where attributes are contrasted on images as they are
CASE = "case.yaml"  # in the folder of an experiment that was audited: what was audited, and the seconds it took
USED = 0.1  # a mean rendered change of p above which a classifier truly uses a property
NONE = 0.02  # a rendered change of p below which a property has no influence worth naming
SEEN = 0.01  # a rendered change of p below this is noise
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
    rows, scores, contrasted = [], [], set()
    output_path = root / "explained"
    for path in sorted(output_path.glob(f"Results/*/{CASE}")):
        case, experiment = read_yaml(path), path.parent
        classifier = {name: case[name] for name in ("shortcut", "level", "seed")}
        changes = pd.read_csv(root / "classifiers" / experiment.name.rpartition("-")[0] / "changes.csv")
        share = flipped(read_records(experiment / "records.csv")).mean()
        audit = pd.read_csv(experiment / "audit" / TABLE) if share else nothing_found()
        change = mean_change(output_path, experiment.name) if share else np.zeros(renderings.originals.shape[1:3])
        table = by_counterfactuals(audit, changes)
        whole = judge_audit(compare(audit.assign(seen=audit["score"]), changes), changes, case["shortcut"])
        findings = read_yaml(experiment / "audit" / FINDINGS) if share else {"places": []}
        rows.append(
            case
            | {"flipped": share}
            | judge_audit(table, changes, case["shortcut"])
            | {"whole_first": whole["first"], "whole_false_alarms": whole["false_alarms"]}
            | place_of_largest(change, case["shortcut"], renderings)
            | judge_places(findings["places"], case["shortcut"], renderings)
        )
        scores.append(table.assign(**classifier, method=case["method"]))
        if share and (key := tuple(classifier.values())) not in contrasted:
            contrasted.add(key)  # the same whatever the method, as attributes' contrasts are of no counterfactual
            table = by_contrasts(audit, changes)
            found = judge_audit(table, changes, case["shortcut"])
            found |= judge_places(findings["colours"], case["shortcut"], renderings)
            rows.append(classifier | {"method": CONTRAST} | found)
            scores.append(table.assign(**classifier, method=CONTRAST))
    return Audited(pd.DataFrame(rows), pd.concat(scores, ignore_index=True))


def nothing_found():
    """The table of an experiment in which no image has flipped, so that nothing was audited."""
    none = {"contrast": np.nan, "contrast_low": np.nan, "contrast_high": np.nan}
    table = pd.DataFrame({"attribute": CELEBA_ATTRIBUTES, "score": 0.0, "score_low": 0.0} | none)
    table = table.assign(by_change=False, by_contrast=False, named=False)
    return table.assign(asked=table["attribute"] == ASKED)


def by_counterfactuals(audit, changes):
    """compare() of what the counterfactuals alone say."""
    audit = audit.assign(named=audit["by_change"], seen=audit["score"].where(audit["score_low"] > 0, 0.0))
    return compare(audit.sort_values("score", ascending=False), changes)


def by_contrasts(audit, changes):
    """compare() of what the images as they are alone say; a contrast that is not known counts as 0."""
    score = audit["contrast"].abs().fillna(0.0)
    beyond_chance = audit["contrast_low"] * audit["contrast_high"] > 0
    audit = audit.assign(score=score, named=audit["by_contrast"], seen=score.where(beyond_chance, 0.0))
    return compare(audit.sort_values("score", ascending=False), changes)


def compare(audit, changes):
    """The table of an audit with the column `used`: the rendered |change| of p. It leaves out attributes that no
    drawing shows. changes: of rendered_changes(). `seen`, in the two above: the score, 0 where chance may have it.
    """
    used = changes.set_index("property")["change"].abs()
    table = audit[audit["attribute"].isin(used.index)].reset_index(drop=True)
    return table.assign(used=used[table["attribute"]].to_numpy())


def judge_audit(table, changes, shortcut):
    """Columns of a classifier's row. table: of compare(), in the order of naming; changes: of rendered_changes().

    first: the attribute that is named first, None for none. false_alarms: how many are named that are not used;
    without_influence: that have none.
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
        "without_influence": int((named["used"] < NONE).sum()),
        "rank_correlation": rank_correlation(table["seen"], table["used"]),
    }


def rank_correlation(score, used, least=SEEN):
    """Spearman's, between scores and truths, arrays of one shape; 0 where one of them is the same everywhere.

    least: a truth below it counts as 0. Nearly all attributes have no influence, and their order is noise.
    """
    score, used = np.ravel(score), np.where(used < least, 0, used).ravel()
    return stats.spearmanr(score, used).statistic if np.ptp(score) and np.ptp(used) else 0.0


def slope(score, used):
    """Of the scores over the truths, by least squares; 0 where the truth is the same everywhere."""
    return stats.linregress(used.ravel(), score.ravel()).slope if np.ptp(used) else 0.0


def mean_change(output_path, exp_name):
    """(S, S): the mean difference between the originals and the counterfactuals that reached their target."""
    pairs = (pair.pixels() for pair in read_pairs(Layout(output_path, exp_name)))
    return torch.stack([(after.float() - before).abs().mean(0) for before, after in pairs]).mean(0).numpy()


def place_of_largest(change, shortcut, renderings):
    """Where a map of change (S, S) is largest, against where the shortcut's rendering changes the image.

    block: the rank of the largest block at that place, 1 where it is larger than all others. share: the mean change
    at that place over the mean change of all blocks, 0 where nothing changed.
    """
    found, there = _blocks(change), _blocks_of(shortcut, renderings)
    block = 1 + int((found[~there] >= found[there].max()).sum())
    return {"block": block, "share": found[there].mean() / found.mean() if found.any() else 0.0}


def judge_places(places, shortcut, renderings):
    """What the audit says of places. places: of audit.yaml, or its colours.

    place_named: whether one that it calls used holds a block that the shortcut's rendering changes. places_used:
    how many it calls used.
    """
    there = _blocks_of(shortcut, renderings)
    rows, columns = np.nonzero(there)
    y, x = (rows + 0.5) / there.shape[0], (columns + 0.5) / there.shape[1]
    used = [place["box"] for place in places if place["used"]]
    held = [((left < x) & (x < right) & (top < y) & (y < bottom)).any() for left, top, right, bottom in used]
    return {"place_named": any(held), "places_used": len(used)}


def _blocks_of(shortcut, renderings):
    """(S / BLOCK, S / BLOCK) booleans: where the shortcut's rendering changes the image most."""
    toggled = renderings.toggled[:, PROPERTIES.index(shortcut)].astype(float)
    rendered = _blocks(np.abs(toggled - renderings.originals).mean((0, 3)))
    return rendered >= AT_PLACE * rendered.max()


def _blocks(pixels):
    """(S, S) -> (S / BLOCK, S / BLOCK), means."""
    n = len(pixels) // BLOCK
    return pixels.reshape(n, BLOCK, n, BLOCK).mean((1, 3))
