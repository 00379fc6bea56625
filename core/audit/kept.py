"""The files of an audit in the results folder: audit.csv, a row for each attribute, and audit.yaml."""

from dataclasses import asdict, fields

import pandas as pd

from guided_diffusion.errors import UserError
from guided_diffusion.storage import write_text

from ..results.records import read_yaml, write_yaml
from .ranking import Ranked

DIGITS = 6


def write_audit(folder, facts, rows):
    """Writes an audit into a ResultsFolder, in place of an earlier one. facts: what audit.yaml holds beside rows.

    audit.yaml goes first and comes last: while it is there the other files are of the same audit.
    """
    folder.audit_path.unlink(missing_ok=True)
    table = pd.DataFrame([asdict(row) for row in rows], columns=[field.name for field in fields(Ranked)])
    if rows:
        write_text(folder.audit_table_path, table.round(DIGITS).to_csv(index=False))
    else:
        folder.audit_table_path.unlink(missing_ok=True)
    attributes = [{key: _plain(value) for key, value in asdict(row).items()} for row in rows]
    write_yaml(folder.audit_path, facts | {"attributes": attributes})


def _plain(value):
    return round(value, DIGITS) if isinstance(value, float) else value


def read_audit(folder):
    """What write_audit wrote into audit.yaml; None where there is none. UserError where it is another file."""
    if not folder.audit_path.exists():
        return None
    audit = read_yaml(folder.audit_path)
    if not isinstance(audit.get("verdict"), str) or not isinstance(audit.get("attributes"), list):
        raise UserError(f"{folder.audit_path} is not an audit.yaml; remove it, or run audit.py again")
    return audit
