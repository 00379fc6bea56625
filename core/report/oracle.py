"""What the oracle of an experiment decided on."""

from contextlib import suppress
from dataclasses import dataclass

from guided_diffusion.script.errors import UserError

from ..data.datasets import CELEBA_ATTRIBUTES, data_attributes


@dataclass
class OracleAttributes:
    """names: () without an oracle, or with one of classes. query: the place of the queried attribute among them.
    assumed: whether the names are assumed from their number, as nothing records them."""

    names: tuple[str, ...] = ()
    query: int | None = None
    assumed: bool = False


def oracle_attributes(run):
    """The OracleAttributes of a Run."""
    table, question = run.records, run.question
    if "mnac" not in table or not isinstance(table["oracle_pred"].iloc[0], str):
        return OracleAttributes()
    count = len(table["oracle_pred"].iloc[0])
    recorded = next((each["oracle_attributes"] for each in run.history if each.get("oracle_attributes")), ())
    for names in (tuple(map(str, recorded)), _of_data(run), CELEBA_ATTRIBUTES):
        if len(names) == count:
            query = names.index(question.attribute) if question.attribute in names else None
            return OracleAttributes(names, query, not recorded)
    return OracleAttributes(tuple(f"attribute {number}" for number in range(count)), None, True)


def _of_data(run):
    """The names of the data's attributes, where they can be read."""
    with suppress(UserError, OSError):
        return data_attributes(run.flags.get("data_dir")) if run.flags else ()
    return ()
