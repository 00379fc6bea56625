"""What an oracle of attributes decided on the images of an experiment."""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from guided_diffusion.script.errors import UserError

from ..data.datasets import CELEBA_ATTRIBUTES, data_attributes
from ..results.layout import image_id


@dataclass
class OracleDecisions:
    """names: of the A attributes; () without an oracle of attributes. query: the place of the queried one.

    before, after: (n, A) decisions, 0 or 1, on the originals and the counterfactuals of all n records.
    assumed: whether the names are assumed from their number, as nothing records them.
    """

    names: tuple[str, ...] = ()
    query: int | None = None
    assumed: bool = False
    before: np.ndarray | None = None
    after: np.ndarray | None = None

    @property
    def changes(self):
        """(n, A): 1 where an attribute appeared, -1 where it vanished, else 0."""
        return self.after - self.before


def read_oracle(run):
    """The OracleDecisions of a Run; UserError for the first image whose decisions are damaged."""
    if "mnac" not in run.records:
        return OracleDecisions()
    before, after = _decisions(run.records)
    count, asked = before.shape[1], run.question.attribute
    recorded = next((facts["oracle_attributes"] for facts in run.history if facts.get("oracle_attributes")), ())
    numbered = tuple(f"attribute {number}" for number in range(count))
    candidates = (tuple(map(str, recorded)), _names_of_data(run), CELEBA_ATTRIBUTES, numbered)
    names = next(each for each in candidates if len(each) == count)
    return OracleDecisions(names, names.index(asked) if asked in names else None, not recorded, before, after)


def _decisions(table):
    columns = table["oracle_pred"].astype(str), table["oracle_cf_pred"].astype(str)
    for number, before, after in zip(table["id"], *columns, strict=True):
        if not len(before) == len(after) == len(columns[0].iloc[0]) or set(before + after) - {"0", "1"}:
            raise UserError(
                f"records.csv has {before} and {after} as an oracle's decisions on image {image_id(number)}; "
                "remove this image's line, and main.py's same command explains it again"
            )
    return [np.array([list(map(int, text)) for text in column]) for column in columns]


def _names_of_data(run):
    """The names of the data's attributes; () where they cannot be read."""
    with suppress(UserError, OSError):
        return data_attributes(run.flags.get("data_dir")) if run.flags else ()
    return ()
