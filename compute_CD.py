"""CD: do attributes change together as they go together in the data? (Jeanneret et al., ACCV 2022)"""

if __name__ == "__main__":
    from guided_diffusion.script.interrupts import end_on_interrupt

    end_on_interrupt()

import numpy as np

from core.metrics.charts import correlation_chart
from core.metrics.correlations import train_correlations
from core.metrics.inference import (
    DEVICE_FLAGS,
    FLIPPED,
    ORACLE_FLAGS,
    QUERY_FLAGS,
    RESULTS_FLAGS,
    find_query,
    judge,
    require_pairs,
    size_of,
    start_ranks,
    take_from_run,
    task_of_run,
    what_was_used,
)
from core.metrics.metric import publish, statistic_of
from core.metrics.scores import change_correlations, correlation_difference
from core.results.folder import ResultsFolder
from core.running.flags import network_arguments
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag, FlagParser, check_flags, group_flags
from guided_diffusion.script.run import require_flags, run_script
from models.oracles import load_oracle

CELEBA_PATH = Flag(None, "the data, whose train split says what to expect; by default the run's")
FLAGS = group_flags(
    data=RESULTS_FLAGS | {"celeba_path": CELEBA_PATH},
    question=QUERY_FLAGS,
    networks=ORACLE_FLAGS,
    speed=DEVICE_FLAGS,
)
SHOWN = 5  # attributes that are named


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    device, first = start_ranks(args)
    if task_of_run(args) == "classes":
        raise UserError(f"CD is of attributes, but {args.exp_name} was run with --task classes")
    taken = take_from_run(args, "celeba_path", "oracle_path", "query_label")
    pairs = require_pairs(args.output_path, args.exp_name)
    require_flags(args, "celeba_path")
    named = network_arguments(args, "oracle")
    oracle = load_oracle(*named, size_of(pairs), "oracle_path" not in taken).to(device)
    attributes, query = find_query(args, oracle)
    expected = expected_correlations(args.celeba_path, attributes, query)

    before, after = judge(oracle, pairs, args.batch_size, device, workers=args.num_workers)
    if not first:
        return

    def cd(rows):
        return correlation_difference(expected, change_correlations(before[rows], after[rows], query))

    metric = statistic_of("CD", cd, len(pairs), FLIPPED, lowest=0)
    question = {"query_label": attributes[query], "attributes": len(attributes)}
    weights, options = what_was_used(args, "oracle")
    options = {**question, "celeba_path": args.celeba_path, **options}
    publish(args.output_path, args.exp_name, [metric], weights, options)

    measured = change_correlations(before, after, query)
    print(f"furthest from expectation, in their correlation with {attributes[query]}:")
    for a in np.argsort(-np.abs(expected - measured), kind="stable")[:SHOWN]:
        print(f"  {attributes[a]:20} {expected[a]:+.2f} in the data, {measured[a]:+.2f} in the counterfactuals")
    chart = ResultsFolder(args.output_path, args.exp_name).chart_path
    correlation_chart(chart, attributes, expected, measured, attributes[query], metric.value)
    print(f"the chart: {chart}")


def expected_correlations(data_dir, attributes, query):
    """(A,) correlations of the attributes' labels with the queried one's; UserError where the data lacks one."""
    table = train_correlations(data_dir, flag="celeba_path")
    missing = [name for name in attributes if name not in table]
    if missing:
        raise UserError(f"--celeba_path {data_dir} has no labels of {', '.join(missing)}, which the oracle answers")
    return table.loc[attributes[query], list(attributes)].to_numpy()


if __name__ == "__main__":
    run_script(main)
