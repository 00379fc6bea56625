"""The files of an audit in the results folder.

audit.csv: a row for each attribute. audit_map.npz and .png: the map of change. audit/: examples, with what was put
back. audit.yaml: all that was found, for readers and for the report.
"""

from dataclasses import asdict, fields

import numpy as np
import pandas as pd

from guided_diffusion.errors import UserError
from guided_diffusion.storage import write_file, write_text

from ..results.records import read_yaml, write_yaml
from .change_map import ChangeMap
from .clusters import Cluster
from .map_picture import draw_map
from .ranking import Ranked

DIGITS = 6
# What audit.yaml holds, and the rows of its lists.
KEYS = {"verdict", "limits", "asked", "control", "images", "explained", "finished", "no_attributes"}
ROWS = {
    "attributes": {field.name for field in fields(Ranked)} | {"examples"},
    "places": {
        "place",
        "share",
        "box",
        "change",
        "known",
        "effect",
        "effect_low",
        "effect_high",
        "used",
        "examples",
    },
    "clusters": {field.name for field in fields(Cluster)},
}


def write_tables(folder, rows, change_map: ChangeMap):
    """Writes audit.csv, where there are any rows, and the two files of the map into a ResultsFolder."""
    if rows:
        table = pd.DataFrame([asdict(row) for row in rows], columns=[field.name for field in fields(Ranked)])
        write_text(folder.audit_table_path, table.round(DIGITS).to_csv(index=False))
    else:
        folder.audit_table_path.unlink(missing_ok=True)
    m = change_map
    arrays = {"change": m.change, "signed": m.signed, "original": m.original, "images": m.images, "p": m.p}
    arrays |= {"found": m.found} | ({} if m.control is None else {"control": m.control})
    write_file(folder.audit_arrays_path, lambda file: np.savez_compressed(file, **arrays))
    draw_map(folder.audit_picture_path, m)


def write_findings(folder, findings):
    """Writes audit.yaml. findings: a dict of texts, numbers, lists and dicts."""
    write_yaml(folder.audit_path, _plain(findings))


def _plain(value):
    """What YAML can hold: numpy's numbers as Python's, floats rounded, tuples as lists."""
    match value:
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case float() | np.floating():
            return round(float(value), DIGITS)
        case np.integer() | np.bool_():
            return value.item()
    return value


def read_audit(folder):
    """What write_findings wrote; None where there is no audit.yaml. UserError where it is another file."""
    if not folder.audit_path.exists():
        return None
    audit = read_yaml(folder.audit_path)
    whole = KEYS | ROWS.keys() <= audit.keys() and isinstance(audit["verdict"], str)
    if not whole or not all(_are_rows(audit[name], keys) for name, keys in ROWS.items()):
        raise UserError(f"{folder.audit_path} is not an audit.yaml; remove it, or run audit.py again")
    return audit


def _are_rows(rows, keys):
    """Whether a value read from a file is a list of dicts that have these keys."""
    return isinstance(rows, list) and all(isinstance(row, dict) and keys <= row.keys() for row in rows)
