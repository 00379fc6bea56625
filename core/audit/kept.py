"""The files of an audit, in the folder audit/ of an experiment.

audit.yaml: all that was found, for readers and for the report. attributes.csv: a row for each attribute. map.npz
and map.png: the map of change. Beside them, in folders, examples with what was put back.
"""

from dataclasses import asdict, fields
from numbers import Real

import numpy as np
import pandas as pd

from guided_diffusion.script.errors import UserError
from guided_diffusion.script.storage import write_file, write_text

from ..results.records import read_yaml, write_yaml
from .map_picture import draw_map
from .ranking import Ranked

FINDINGS, TABLE, ARRAYS, PICTURE = "audit.yaml", "attributes.csv", "map.npz", "map.png"
DIGITS = 6
# What readers need of audit.yaml: the types of its values, and of those in its lists, whose rows are all alike.
NUMBER, OR_NONE = Real, (Real, type(None))
EXAMPLE = {"id": str, "effect": NUMBER, "p": NUMBER, "p_back": NUMBER, "picture": str}
ATTRIBUTE = {
    **{"attribute": str, "alike": str, "asked": bool, "by_change": bool, "by_contrast": bool, "named": bool},
    **dict.fromkeys(("n", "effect_n", "changed", "control", "score", "score_low", "score_high"), NUMBER),
    **dict.fromkeys(("excess", "excess_low", "excess_high"), NUMBER),
    **dict.fromkeys(("effect", "effect_low", "effect_high", "effect_at_end"), OR_NONE),
    **dict.fromkeys(("contrast", "contrast_low", "contrast_high", "with_it"), OR_NONE),
    "examples": [EXAMPLE],
}
PLACE = {
    **{"place": str, "used": bool, "examples": [EXAMPLE]},
    **dict.fromkeys(("share", "change", "known", "effect", "effect_low", "effect_high"), NUMBER),
}
COLOURS = {"place": str, "used": bool, "share": NUMBER, "effect": NUMBER, "known": NUMBER}
CLUSTER = {"place": str, "n": NUMBER, "examples": [str]}
AUDIT = {
    **{"verdict": str, "limits": [str], "asked": str, "control": (str, type(None)), "images": NUMBER},
    **{
        "contrasted": NUMBER,
        "contrasted_source": str,
        "labelled": [str],
        "no_attributes": str,
        "records": (str, type(None)),
    },
    **{"attributes": [ATTRIBUTE], "places": [PLACE], "colours": [COLOURS], "clusters": [CLUSTER]},
}


def write_tables(folder, rows, change_map, colour_map):
    """Writes attributes.csv, where there are any Ranked, and the two files of the maps into a folder.

    change_map: a ChangeMap; colour_map: a ColourMap, or None.
    """
    if rows:
        table = pd.DataFrame([asdict(row) for row in rows], columns=[field.name for field in fields(Ranked)])
        write_text(folder / TABLE, table.round(DIGITS).to_csv(index=False))
    m = change_map
    arrays = {"change": m.change, "signed": m.signed, "original": m.original, "images": m.images, "p": m.p}
    arrays |= {"found": m.found} | ({} if m.control is None else {"control": m.control})
    if colour_map is not None:
        arrays |= {"colour_effect": colour_map.effect, "colour_p": colour_map.p}
    write_file(folder / ARRAYS, lambda file: np.savez_compressed(file, **arrays))
    draw_map(folder / PICTURE, m, colour_map)


def write_findings(folder, findings):
    """Writes audit.yaml. findings: a dict of texts, numbers, lists and dicts."""
    write_yaml(folder / FINDINGS, _plain(findings))


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
    path = folder / FINDINGS
    if not path.exists():
        return None
    audit = read_yaml(path)
    wrong = _first_wrong(audit, AUDIT, "") or next(filter(None, map(_halves, audit["attributes"])), "")
    if wrong:
        raise UserError(f"{path} is not what audit.py wrote ({wrong}); run audit.py again")
    return audit


def _halves(row):
    """The first value of an attribute that is there without its interval, or the other way round; "" for none."""
    kinds = {"effect": ("effect_low", "effect_high"), "contrast": ("contrast_low", "contrast_high")}
    return next((k for k, ends in kinds.items() if len({row[name] is None for name in (k, *ends)}) > 1), "")


def _first_wrong(value, expected, name):
    """The name of the first value of another type than is expected; "" where all are as they should be."""
    match expected:
        case dict():
            if not isinstance(value, dict):
                return name
            found = (_first_wrong(value.get(key), each, f"{name} {key}".strip()) for key, each in expected.items())
        case list():
            if not isinstance(value, list):
                return name
            found = (_first_wrong(row, expected[0], name) for row in value)
        case _:
            return "" if isinstance(value, expected) else name
    return next(filter(None, found), "")
