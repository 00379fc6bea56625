"""CD: do attributes change together as they go together in the data? (Jeanneret et al., ACCV 2022)"""

import numpy as np

from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag

from ..data.datasets import CELEBA_ATTRIBUTES
from ..running.run import FLIPPED
from .charts import correlation_chart
from .correlations import train_correlations
from .judges import decisions_of, judge_pairs
from .metric import Source, statistic_of
from .scores import change_correlations, correlation_difference

NAMES = ("CD",)
FLAGS = {"celeba_path": Flag(None, "the data, whose train split says what to expect; by default the run's")}
SHOWN = 5  # attributes that are named


def measure(run, judges):
    """The Metric of a Run, with the attributes that are furthest from expectation. Draws CD.png."""
    if run.question.of_classes:
        raise UserError(f"CD is of attributes, but {run.name} was run with --task classes")
    pairs, data_dir = run.require_pairs(), judges.flags["celeba_path"] or run.flags.get("data_dir")
    if not data_dir:
        raise UserError("--celeba_path must be given")
    oracle, name = judges.of_role("oracle", run, pairs)
    attributes = tuple(oracle.attributes or CELEBA_ATTRIBUTES)
    query = run.question.place_in(attributes)
    expected = expected_correlations(data_dir, attributes, query)
    before, after = judge_pairs(decisions_of(oracle), pairs, judges.batches)
    if not judges.ranks.first:
        return []

    def cd(rows):
        return correlation_difference(expected, change_correlations(before[rows], after[rows], query))

    asked = {"query_label": attributes[query], "attributes": len(attributes), "celeba_path": data_dir}
    source = Source(name.weights, asked | name.options)
    measured, chart = change_correlations(before, after, query), run.layout.chart
    remarks = [f"furthest from expectation, in their correlation with {attributes[query]}:"]
    for a in np.argsort(-np.abs(expected - measured), kind="stable")[:SHOWN]:
        where = f"{expected[a]:+.2f} in the data, {measured[a]:+.2f} in the counterfactuals"
        remarks.append(f"  {attributes[a]:20} {where}")
    metric = statistic_of("CD", cd, len(pairs), FLIPPED, lowest=0, source=source)
    correlation_chart(chart, attributes, expected, measured, attributes[query], metric.value)
    metric.remarks = (*remarks, f"the chart: {chart}")
    return [metric]


def expected_correlations(data_dir, attributes, query):
    """(A,) correlations of the attributes' labels with the queried one's; UserError where the data lacks one."""
    table = train_correlations(data_dir, flag="celeba_path")
    missing = [name for name in attributes if name not in table]
    if missing:
        raise UserError(f"--celeba_path {data_dir} has no labels of {', '.join(missing)}, which the oracle answers")
    return table.loc[attributes[query], list(attributes)].to_numpy()
