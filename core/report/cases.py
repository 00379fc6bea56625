"""An experiment as the report tells it, read from the results folder, with each explained image."""

from dataclasses import dataclass

import numpy as np

from guided_diffusion.script.errors import UserError

from ..metrics.metric import read_metrics
from ..results.layout import REACHED, image_id
from ..results.reading import Pair, read_similarities
from ..results.records import correct, flipped
from ..running.run import Run, read_run
from .oracle import OracleDecisions, read_oracle

REQUIRED = ("label", "pred", "target", "cf_pred", "l_1")  # columns of records
OPTIONAL = ("image", "p_target_before", "p_target", "attempts", "scale", "mnac")  # that they may lack


@dataclass
class ExplainedImage:
    """An explained image. What its records do not have is None."""

    id: str
    label: int
    pred: int
    target: int
    cf_pred: int
    right: bool  # whether the classifier was right about the original
    reached: bool  # whether the counterfactual reached its target
    l_1: float
    changed: dict[int, int]  # attribute -> 1 where the oracle sees it appear, -1 where it vanishes
    pair: Pair | None  # its images; None where they were not saved
    similarity: float | None  # the cosine of the two faces, where compute_FVA.py measured it
    image: str | None  # its path, as the data have it
    p_target_before: float | None  # probabilities of the target
    p_target: float | None
    attempts: int | None
    scale: float | None
    mnac: int | None
    agrees: bool | None  # whether the oracle sees the change, too
    outside: float | None = None  # the share of the change that lies outside the mask

    @property
    def direction(self):
        return self.pred, self.target


@dataclass
class Experiment:
    """A Run as the report tells it. place: its position in the report, from 1; metrics: of metrics.yaml."""

    run: Run
    place: int
    metrics: dict
    oracle: OracleDecisions
    cases: list[ExplainedImage]

    @property
    def name(self):
        return self.run.name

    @property
    def method(self):
        return str(self.run.flags.get("method", "dime")) if self.run.flags else "not recorded"

    def called(self, number):
        """What a prediction is called."""
        return self.run.question.answer(number)

    def direction(self, pred, target):
        return f"{self.called(pred)} → {self.called(target)}"

    def numbers_of_runs(self, name):
        """The values of a number that its finished runs recorded."""
        return [facts[name] for facts in self.run.history if isinstance(facts.get(name), int | float)]

    def texts_of_runs(self, name):
        """What its finished runs recorded under a name, each once, as a text."""
        return ", ".join(dict.fromkeys(str(facts[name]) for facts in self.run.history if name in facts))


def read_experiments(output_path, exp_names):
    """The Experiments, in the order of their names; UserError for the first that is not there or holds no rows."""
    runs = [read_run(output_path, name) for name in dict.fromkeys(exp_names)]
    return [_read_experiment(run, place) for place, run in enumerate(runs, start=1)]


def _read_experiment(run, place):
    table = run.records
    if table is None:
        raise UserError(f"{run.layout.experiment} holds no explained images; run main.py first")
    similarities, oracle = read_similarities(run.layout), read_oracle(run)
    pairs = {int(pair.id): pair for pair in run.pairs(reached=tuple(REACHED)) if pair.id.isdecimal()}
    changes = oracle.changes if oracle.names else np.zeros((len(table), 0))
    rows, cases = table.astype(object).where(table.notna(), None).to_dict("records"), []
    for row, right, reached, change in zip(rows, correct(table), flipped(table), changes, strict=True):
        name = image_id(row["id"])
        cases.append(
            ExplainedImage(
                name,
                right=right,
                reached=reached,
                changed={int(a): int(change[a]) for a in np.flatnonzero(change)},
                pair=pairs.get(row["id"]),
                similarity=similarities.get(name),
                agrees={0: False, 1: True}.get(row.get("oracle_flip")),
                **{column: row[column] for column in REQUIRED},
                **{column: row.get(column) for column in OPTIONAL},
            )
        )
    return Experiment(run, place, read_metrics(run.layout.metrics), oracle, cases)
