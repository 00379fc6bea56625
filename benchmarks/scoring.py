"""What benchmarks.audit measured, beside the truth: how p changes when a property alone is drawn otherwise."""

import numpy as np
import pandas as pd
import torch
from scipy import stats

from benchmarks.planted import ASKED, PROPERTIES
from core.audit.files import FINDINGS, TABLE
from core.data.datasets import CELEBA_ATTRIBUTES
from core.metrics.intervals import mean_interval
from core.results.layout import experiment_names
from core.results.records import flipped, read_yaml
from core.running.run import read_run
from guided_diffusion.pixels import from_uint8
from guided_diffusion.script.storage import write_text
from models.classifiers import load_classifier

CONTRAST = "contrast"  # what stands for a method where attributes are contrasted on images as they are
CASE = "case.yaml"  # in the folder of an audited experiment: what was audited
USED = 0.1  # a mean rendered change of p above which a classifier truly uses a property
NO_INFLUENCE = 0.02  # a rendered change of p below which a property is not worth naming
NOISE = 0.01  # a rendered change of p below which nothing orders it
BLOCK = 8  # pixels a side, of the map of change
AT_PLACE = 0.5  # of the change of a rendering's strongest block, which the blocks at its place have
BATCH = 256

# -- the truth ---------------------------------------------------------------------------------------------------


def rendered_changes(path, weights, renderings):
    """The csv `path`, made where it is not there -> a table with a row for each of the PROPERTIES.

    change: mean of p(asked) with the property minus without, over the faces, and its interval, low and high.
    """
    if not path.exists():
        p, toggled = (probabilities(weights, images) for images in (renderings.originals, renderings.toggled))
        gains = np.where(renderings.has, p[:, None] - toggled, toggled - p[:, None])
        low, high = zip(*map(mean_interval, gains.T), strict=True)
        table = pd.DataFrame({"property": PROPERTIES, "change": gains.mean(0), "low": low, "high": high})
        write_text(path, table.round(6).to_csv(index=False))
    return pd.read_csv(path)


@torch.no_grad()
def probabilities(weights, images):
    """A classifier file of one attribute, uint8 (..., S, S, 3) -> p of each image, (...)."""
    classifier = load_classifier(weights).eval()
    pixels = torch.from_numpy(images.reshape(-1, *images.shape[-3:])).permute(0, 3, 1, 2)
    logits = [classifier(from_uint8(part))[:, 0] for part in pixels.split(BATCH)]
    return torch.cat(logits).sigmoid().numpy().reshape(images.shape[:-3])


# -- audits against it -------------------------------------------------------------------------------------------


def collect(root, renderings):
    """A DataFrame with a row for each classifier in the folder and each method, and one for its contrasts."""
    rows, explained = [], root / "explained"
    for name in experiment_names(explained):
        run = read_run(explained, name)
        if (run.layout.experiment / CASE).exists():  # it is no control
            changes = pd.read_csv(root / "classifiers" / name.rpartition("-")[0] / "changes.csv")
            rows += score_run(run, changes, renderings)
    # The contrasts of a classifier are the same whatever the method, as they are of no counterfactual.
    return pd.DataFrame(rows).drop_duplicates(["shortcut", "level", "seed", "method"])


def score_run(run, changes, renderings):
    """An audited Run -> its row, and that of its contrasts. changes: of rendered_changes().

    Where no image has flipped nothing was audited: no attribute and no place is named, and there are no contrasts.
    """
    case, folder = read_yaml(run.layout.experiment / CASE), run.layout.audit
    shortcut, share = case["shortcut"], flipped(run.records).mean()
    audit = pd.read_csv(folder / TABLE) if share else empty_audit()
    findings = read_yaml(folder / FINDINGS) if share else {"places": []}
    change = mean_change(run.pairs()) if share else np.zeros(renderings.originals.shape[1:3])
    whole = score_audit(audit.assign(certain=audit["score"]), changes, shortcut)
    row = case | {"flipped": share, "whole_first": whole["first"], "whole_false_alarms": whole["false_alarms"]}
    row |= score_audit(by_counterfactuals(audit), changes, shortcut)
    row |= place_of_largest(change, shortcut, renderings)
    row |= score_places(findings["places"], shortcut, renderings)
    if not share:
        return [row]
    contrasts = case | {"method": CONTRAST} | score_audit(by_contrasts(audit), changes, shortcut)
    return [row, contrasts | score_places(findings["colours"], shortcut, renderings)]


def empty_audit():
    table = pd.DataFrame({"attribute": CELEBA_ATTRIBUTES, "score": 0.0, "score_low": 0.0})
    return table.assign(by_change=False, named=False, asked=table["attribute"] == ASKED)


def by_counterfactuals(audit):
    """An audit's table as the counterfactuals alone have it. certain: the score, 0 where chance may have it."""
    audit = audit.assign(named=audit["by_change"], certain=audit["score"].where(audit["score_low"] > 0, 0.0))
    return audit.sort_values("score", ascending=False)


def by_contrasts(audit):
    """The same of the images as they are alone; a contrast that is not known counts as 0."""
    score = audit["contrast"].abs().fillna(0.0)
    beyond_chance = audit["contrast_low"] * audit["contrast_high"] > 0
    audit = audit.assign(score=score, named=audit["by_contrast"], certain=score.where(beyond_chance, 0.0))
    return audit.sort_values("score", ascending=False)


def score_audit(audit, changes, shortcut):
    """Columns of a classifier's row. audit: its table, in the order of naming; changes: of rendered_changes().

    Attributes that no drawing shows are left out.
    first: the attribute that is named first, None for none. false_alarms: how many are named that are not used;
    without_influence: that have none.
    score: the shortcut's, NaN where no attribute names it.
    """
    change = changes.set_index("property")["change"]
    table = audit[audit["attribute"].isin(change.index)]
    table = table.assign(used=change.abs()[table["attribute"]].to_numpy())
    named = table[table["named"] & ~table["asked"]]
    own = table[~table["asked"] & (table["attribute"] == shortcut)]["score"]
    return {
        "asked_change": change[ASKED],
        "shortcut_change": change[shortcut],
        "score": own.iloc[0] if len(own) else np.nan,
        "first": named["attribute"].iloc[0] if len(named) else None,
        "false_alarms": int((named["used"] <= USED).sum()),
        "without_influence": int((named["used"] < NO_INFLUENCE).sum()),
        "rank_correlation": rank_correlation(table["certain"], table["used"]),
    }


def rank_correlation(score, used):
    """Spearman's, between scores and truths; 0 where one of them is the same everywhere.

    A truth below NOISE counts as 0. Nearly all attributes have no influence, and their order is noise.
    """
    used = np.where(used < NOISE, 0, used)
    return stats.spearmanr(score, used).statistic if np.ptp(score) and np.ptp(used) else 0.0


def slope(score, used):
    """Of the scores over the truths, by least squares; 0 where the truth is the same everywhere."""
    return stats.linregress(used, score).slope if np.ptp(used) else 0.0


def mean_change(pairs):
    """(S, S): the mean difference between the originals and the counterfactuals of these Pairs."""
    pixels = (pair.pixels() for pair in pairs)
    return torch.stack([(after.float() - before).abs().mean(0) for before, after in pixels]).mean(0).numpy()


def place_of_largest(change, shortcut, renderings):
    """Where a map of change (S, S) is largest, against where the shortcut's rendering changes the image.

    block: the rank of the largest block at that place, 1 where it is larger than all others. share: the mean change
    at that place over the mean change of all blocks, 0 where nothing changed.
    """
    blocks, there = _blocks(change), _blocks_of(shortcut, renderings)
    rank = 1 + int((blocks[~there] >= blocks[there].max()).sum())
    return {"block": rank, "share": blocks[there].mean() / blocks.mean() if blocks.any() else 0.0}


def score_places(places, shortcut, renderings):
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
