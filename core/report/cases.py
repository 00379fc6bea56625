"""An experiment as the report tells it, read from the results folder: one Case for each explained image."""

from dataclasses import dataclass, field

import pandas as pd

from guided_diffusion.script.errors import UserError

from ..metrics.metric import read_metrics
from ..results.layout import REACHED, image_id
from ..results.reading import Pair, read_similarities
from ..results.records import correct, flipped
from ..running.run import Run, read_run
from .oracle import OracleAttributes, oracle_attributes


@dataclass
class Case:
    """An explained image. What a records.csv does not have is None."""

    id: str
    image: str | None  # its path, as the data have it
    label: int
    pred: int
    target: int
    cf_pred: int
    right: bool  # whether the classifier was right about the original
    reached: bool  # whether the counterfactual reached its target
    p_before: float | None  # probabilities of the target, before and after
    p_after: float | None
    l_1: float
    bkl: float
    attempts: int | None
    scale: float | None
    agrees: bool | None  # whether the oracle sees the change, too
    changed: dict[int, int] = field(default_factory=dict)  # attribute -> 1 where the oracle sees it appear, else -1
    mnac: int | None = None
    pair: Pair | None = None  # its images; None where they were not saved
    similarity: float | None = None  # the cosine of the two faces, where compute_FVA.py has kept it
    outside: float | None = None  # the share of the change that lies outside the mask

    @property
    def direction(self):
        return self.pred, self.target


@dataclass
class Experiment:
    """A Run as the report tells it. place: its position in the report, from 1."""

    run: Run
    place: int
    metrics: dict  # what metrics.yaml holds
    oracle: OracleAttributes
    cases: list[Case]

    @property
    def name(self):
        return self.run.name

    @property
    def flags(self):
        return self.run.flags

    @property
    def question(self):
        return self.run.question

    @property
    def table(self):
        """Its records."""
        return self.run.records

    def called(self, number):
        """What a prediction is called."""
        return self.question.answer(number)

    def direction(self, pred, target):
        return f"{self.called(pred)} → {self.called(target)}"

    def numbers_of_runs(self, name):
        """The values of a number that its finished runs recorded."""
        values = [facts.get(name) for facts in self.run.history]
        return [value for value in values if isinstance(value, int | float)]

    def texts_of_runs(self, name):
        """What its finished runs recorded under a name, each once, as a text."""
        return ", ".join(dict.fromkeys(str(facts[name]) for facts in self.run.history if name in facts))


def read_experiments(output_path, exp_names):
    """The Experiments, in the order of their names; UserError for the first that is not there or holds no rows."""
    runs = [read_run(output_path, name) for name in dict.fromkeys(exp_names)]
    return [read_experiment(run, place) for place, run in enumerate(runs, start=1)]


def read_experiment(run, place=1):
    table = run.records
    if table is None or not len(table):
        raise UserError(f"{run.layout.experiment} holds no explained images; run main.py first")
    similarities = read_similarities(run.layout)
    pairs = {int(pair.id): pair for pair in run.pairs(reached=tuple(REACHED)) if pair.id.isdecimal()}
    rows = zip(table.to_dict("records"), correct(table), flipped(table), strict=True)
    cases = [_case(row, bool(right), bool(reached), pairs) for row, right, reached in rows]
    for case in cases:
        case.similarity = similarities.get(case.id)
    return Experiment(run, place, read_metrics(run.layout.metrics), oracle_attributes(run), cases)


def _case(row, right, reached, pairs):
    """A row of the records as a Case."""

    def optional(name, kind=float):
        value = row.get(name)
        return None if value is None or pd.isna(value) else kind(value)

    name = image_id(row["id"])
    agrees, mnac = optional("oracle_flip", bool), optional("mnac", int)
    changed = _changed(name, row["oracle_pred"], row["oracle_cf_pred"]) if mnac is not None else {}
    numbers = {key: int(row[key]) for key in ("label", "pred", "target", "cf_pred")}
    return Case(
        name,
        optional("image", str),
        **numbers,
        right=right,
        reached=reached,
        p_before=optional("p_target_before"),
        p_after=optional("p_target"),
        l_1=row["l_1"],
        bkl=row["bkl"],
        attempts=optional("attempts", int),
        scale=optional("scale"),
        agrees=agrees,
        changed=changed,
        mnac=mnac,
        pair=pairs.get(row["id"]),
    )


def _changed(name, before, after):
    """Two texts of an oracle's 0 and 1 -> attribute -> 1 or -1, for those that differ."""
    if len(str(before)) != len(str(after)) or not {*str(before), *str(after)} <= {"0", "1"}:
        raise UserError(
            f"records.csv has {before} and {after} as an oracle's decisions on image {name}; remove this image's "
            "line, and main.py's same command explains it again"
        )
    bits = enumerate(zip(str(before), str(after), strict=True))
    return {a: int(end) - int(start) for a, (start, end) in bits if start != end}
