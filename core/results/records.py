"""Records, one row for each explained image: making them, summarising them, reading and writing files."""

import csv
import math
from io import StringIO
from pathlib import Path

import pandas as pd
import yaml

from guided_diffusion.script.errors import UserError, require_file
from guided_diffusion.script.flags import MANY
from guided_diffusion.script.storage import append_text, write_text

from ..data.images import to_uint8

BITS = ("oracle_pred", "oracle_cf_pred")  # an oracle's decisions, a 0 or 1 for each attribute; or its class
LOST_FLAGS = "name another --exp_name, or explain all anew with --overwrite True"
LOST = "remove it and run again the command that wrote it"  # where it is another YAML file
KINDS = {  # column -> what its cells are; those of other columns are text
    **dict.fromkeys(("id", "label", "pred", "target", "cf_pred", "attempts"), int),
    **dict.fromkeys(("bkl", "l_1", "p_target_before", "p_target", "scale"), float),
    **dict.fromkeys(("mnac", "oracle_flip"), int),
}
REQUIRED = ("id", "label", "pred", "target", "cf_pred", "attempts", "bkl", "l_1")
OF_CLASSES = ("label", "pred", "target", "cf_pred")
MOST_CLASSES = 100_000  # a class beyond is a damaged number, and would be as many names in a report
LARGEST_YAML, MOST_VALUES = 2**22, 200_000  # bytes of a YAML file, and what it may hold, its aliases followed
PLAIN = (str, int, float, bool, type(None))


def make_records(ids, names, images, labels, explanation, oracle_decisions=None, query=None):
    """A DataFrame with a row for each image of a batch.

    ids: (N,) indices in the dataset; names: paths, as the dataset has them; images (N, 3, H, W) in [-1, 1]; labels
    (N,) true classes. explanation: their Explanation. oracle_decisions: (before, after), each (N, A) of 0/1, or
    (N,) classes. query: the index of the explained attribute among the A; None for classes.
    """
    e = explanation
    pixels, cf_pixels = to_uint8(images).cpu().float(), to_uint8(e.counterfactual).cpu().float()
    l_1 = (pixels - cf_pixels).abs().flatten(1).mean(1) / 255
    table = pd.DataFrame(
        {
            "id": list(ids),
            "image": list(names),
            "label": labels.tolist(),
            "pred": e.prediction.tolist(),
            "target": e.target.tolist(),
            "cf_pred": e.cf_prediction.tolist(),
            "p_target_before": e.p_target_before.tolist(),
            "p_target": e.p_target.tolist(),
            "bkl": (1 - e.p_target).tolist(),
            "l_1": l_1.tolist(),
            "attempts": e.attempts.tolist(),
            "scale": e.scale.tolist(),
        }
    )
    if oracle_decisions is not None:
        before, after = (decisions.cpu() for decisions in oracle_decisions)
        for name, decisions in zip(BITS, (before, after), strict=True):
            table[name] = ["".join(map(str, row)) for row in decisions.reshape(len(table), -1).tolist()]
        if query is None:
            flip = changed_to(before, after, e.target.cpu())
        else:
            table["mnac"], flip = (before != after).sum(1).tolist(), before[:, query] != after[:, query]
        table["oracle_flip"] = flip.long().tolist()
    # Rounded, so that reading a file and writing it again changes nothing.
    return table.round(6)


def changed_to(before, after, target):
    """(N,) classes before and after -> (N,) whether they became the target, and were not before."""
    return (before != target) & (after == target)


def correct(table):
    """(N,) booleans: whether the classifier was right about the original."""
    return table["label"] == table["pred"]


def flipped(table):
    """(N,) booleans: whether the counterfactual reached its target."""
    return table["cf_pred"] == table["target"]


def summarise(table):
    """Records -> a dict with the keys of the authors' summary.yaml.

    `clean acc` is in percent; `cf acc`, `bkl` and `l_1` are fractions. With an oracle also `oracle fr`, and with
    one of attributes `mnac`: means over the images that have flipped.
    """
    cf = flipped(table)
    summary = {}
    for key, group in (("class-cor", cf[correct(table)]), ("class-inc", cf[~correct(table)])):
        summary[key] = {"cf-cor": int(group.sum()), "cf-inc": int((~group).sum())}
    summary |= {
        "cf-cor": int(cf.sum()),
        "cf-inc": int((~cf).sum()),
        "clean acc": round(100 * float(correct(table).mean()), 6),
        "cf acc": round(float(cf.mean()), 6),
        "bkl": round(float(table["bkl"].mean()), 6),
        "l_1": round(float(table["l_1"].mean()), 6),
        "n": len(table),
    }
    for key, column in (("oracle fr", "oracle_flip"), ("mnac", "mnac")):
        if column in table and cf.any():
            summary[key] = round(float(table[column][cf].mean()), 6)
    return summary


def read_records(path):
    """records.csv -> the DataFrame, exactly as it was written; UserError where it is another file, or has an image
    twice.

    A last row without its end is left out: whoever wrote it was killed meanwhile.
    """
    require_file(path)
    try:
        content = Path(path).read_bytes()
        text = content[: content.rfind(b"\n") + 1].decode(errors="surrogateescape")
        header, *rows = csv.reader(StringIO(text, newline=""))
        if missing := [name for name in REQUIRED if name not in header]:
            raise ValueError(f"it has no column {missing[0]}")
    except (OSError, ValueError, csv.Error) as error:  # bytes that are no text, no line at all, or other columns
        raise UserError(
            f"{path} is not a records.csv ({error}); restore it: without it main.py explains all images again"
        ) from None
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header) or not all(map(_fits, header, row)):
            raise UserError(
                f"{path} is damaged in line {number} ({','.join(row)[:60]}); remove this line, and main.py's same "
                "command goes on with the images that are not in the file"
            )
    table = pd.DataFrame(rows, columns=header)
    kinds = {name: kind for name, kind in KINDS.items() if name in table}
    table = table.astype(kinds).round(6)
    if (repeated := table["id"][table["id"].duplicated()]).size:
        raise UserError(f"{path} has image {repeated.iloc[0]} twice; remove one of the rows")
    return table


def _fits(name, text):
    """Whether a cell is what its column holds: any text, a finite number, a count, or a class."""
    kind = KINDS.get(name, str)
    try:
        if kind is int:
            return 0 <= int(text) < (MOST_CLASSES if name in OF_CLASSES else MANY)
        return kind is str or math.isfinite(float(text))
    except ValueError:
        return False


def is_torn(path):
    """Whether the last row of a records.csv has no end."""
    return not Path(path).read_bytes().endswith(b"\n")


def write_records(path, table):
    """Writes records as a csv, sorted by id, whole or not at all (write_file)."""
    write_text(path, _as_csv(table))


def append_records(path, table):
    """Adds rows to a csv, at its end; it may be new. The file must not be torn."""
    if Path(path).exists():
        append_text(path, _as_csv(table, header=False))
    else:
        write_records(path, table)


def _as_csv(table, header=True):
    # A carriage return in a name must stand in quotes, which csv gives it only where every text has them.
    odd = any("\r" in str(name) for name in table.get("image", ()))
    quoting = csv.QUOTE_NONNUMERIC if odd else csv.QUOTE_MINIMAL
    return table.sort_values("id").to_csv(index=False, header=header, quoting=quoting)


def write_yaml(path, values):
    write_text(path, yaml.safe_dump(values, sort_keys=False))


def read_yaml(path):
    """A YAML file -> its dict; UserError where it is missing or holds no dict."""
    if not Path(path).exists():
        raise UserError(f"{path} is missing; {remedy_of(path)}")
    require_file(path)
    try:
        values, wrong = _load_yaml(Path(path)), "it holds no names with values"
    except Exception:  # the reader raises nearly anything on a damaged text
        values, wrong = None, "it is not readable as YAML"
    if not isinstance(values, dict) or not _is_plain(values):
        raise UserError(f"{path} is damaged: {wrong}; {remedy_of(path)}")
    return values


def _load_yaml(path):
    if path.stat().st_size > LARGEST_YAML:
        raise ValueError("too large")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _is_plain(values):
    """Whether a dict holds what write_yaml writes: names, lists, texts, numbers in 64 bits, and not too many."""
    left, count = [values], 0
    while left and count <= MOST_VALUES:
        value, count = left.pop(), count + 1
        if isinstance(value, dict) and all(isinstance(name, str) for name in value):
            left += value.values()
        elif isinstance(value, list):
            left += value
        elif not isinstance(value, PLAIN) or isinstance(value, int) and abs(value) >= 2**63:
            return False
    return not left


def remedy_of(path):
    """What mends a missing or damaged YAML file of an experiment."""
    return f"restore it, or {LOST_FLAGS if Path(path).name.endswith('flags.yaml') else LOST}"
