"""What an experiment asks, and what its answers and the oracle's attributes are called."""

from contextlib import suppress
from dataclasses import dataclass

from guided_diffusion.script.errors import UserError

from ..data.class_names import numbered
from ..data.datasets import CELEBA_ATTRIBUTES, data_attributes
from ..results.reading import read_classes
from ..running.flags import BEFORE_THE_FLAG, SMILING


@dataclass
class Question:
    """What was asked. A prediction, a number, is called by answers[number]."""

    task: str  # attributes or classes
    about: str  # the queried attribute; "" of classes, and where no flags.yaml says it
    answers: tuple[str, ...]
    attributes: tuple[str, ...]  # what the oracle decides on; () without an oracle, or with one of classes
    query: int | None  # the queried attribute among these
    assumed: bool  # whether the attributes' names are assumed, as nothing says them


def read_question(output_path, exp_name, flags, table, runs):
    """The Question of an experiment. flags: flags_of_run's; table: its records; runs: read_runs'."""
    recorded = next((run["oracle_attributes"] for run in runs if run.get("oracle_attributes")), ())
    classes = read_classes(output_path, exp_name)
    task = (BEFORE_THE_FLAG | flags)["task"] if flags else ("classes" if classes else "attributes")
    largest = int(table[["label", "pred", "target", "cf_pred"]].to_numpy().max())
    if task == "classes" or not flags:
        answers = (*classes, *numbered(largest + 1)[len(classes) :])
        return Question(task, "", answers, *_oracle_attributes(table, recorded, (), ""))
    known = _data_attributes(flags.get("data_dir"))
    about = str(flags.get("query_label") or SMILING)
    if about not in known and about.isdigit() and int(about) < len(known):
        about = known[int(about)]
    answers = (f"not {about}", about, *numbered(largest + 1)[2:])
    return Question(task, about, answers, *_oracle_attributes(table, recorded, known, about))


def _data_attributes(data_dir):
    """The names of the data's attributes; CelebA's where the data are not there, or in another layout."""
    with suppress(UserError, OSError):
        return data_attributes(data_dir) or CELEBA_ATTRIBUTES
    return CELEBA_ATTRIBUTES


def _oracle_attributes(table, recorded, known, about):
    """(the names of what the oracle decided on, the queried one among them, whether the names are assumed).

    recorded: the names as runs.yaml has them; known: those of the data.
    """
    if "mnac" not in table or not isinstance(table["oracle_pred"].iloc[0], str):
        return (), None, False
    count = len(table["oracle_pred"].iloc[0])
    for names in (tuple(map(str, recorded)), tuple(known), CELEBA_ATTRIBUTES):
        if len(names) == count:
            return names, names.index(about) if about in names else None, not recorded
    return tuple(f"attribute {number}" for number in range(count)), None, True
