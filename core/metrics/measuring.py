"""From the command line of a script to metrics.yaml: one metric of one run, or all of several."""

import sys
import traceback

from guided_diffusion.ranks.connecting import connect
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag
from guided_diffusion.script.storage import require_writable, write_text

from ..results.layout import Layout
from ..running.run import read_run
from . import cd, cout, fid, fr, fva, mnac, sigma_l
from .judges import Judges
from .metric import BETTER, metrics_table, publish, read_metrics

OF_ONE_RUN = (fr, fva, mnac, cd, cout, fid)
ALL_FLAGS = {
    "exp_names": Flag([], "the experiments", many=True),
    "metrics": Flag(None, "compute these alone, such as FR,MNAC,COUT"),
}
TABLE_FLAGS = {"markdown": Flag(None, "write the table, which is Markdown, to this file as well")}


def measure_run(metric, flags, loaders):
    """Measures a metric, one of OF_ONE_RUN, of the run that a script's flags name. loaders: see Judges."""
    publish_run(metric, flags["exp_name"], flags, Judges(flags, loaders, connect()))


def measure_spread(flags, loaders):
    """Measures sigma_L of the runs that compute_LPIPS.py's flags name."""
    publish_spread(flags, Judges(flags, loaders, connect()))


def measure_all(flags, loaders):
    """Measures all metrics of the experiments that compute_metrics.py's flags name, as far as they can be.

    One that fails is reported, and the others go on. UserError where none could be computed.
    """
    ranks = connect()
    wanted, judges = wanted_metrics(flags["metrics"]), Judges(flags, loaders, ranks)
    if flags["markdown"] and ranks.first:
        require_writable(flags["markdown"], "--markdown")
    first, *_ = layouts = [Layout(flags["output_path"], name) for name in flags["exp_names"]]
    if not any(layout.experiment.is_dir() for layout in layouts):
        raise UserError(f"{first.experiment} is not there; check --output_path and --exp_names, or run main.py")
    tasks = [(metric, name) for metric in OF_ONE_RUN for name in flags["exp_names"]]
    tasks.append((sigma_l, flags["exp_pattern"]))
    computed, reasons = 0, []
    for metric, name in tasks:
        title = ", ".join(metric.NAMES)
        if not wanted & set(metric.NAMES):
            continue
        if metric is sigma_l and not name:
            reasons.append(f"{title}: give --exp_pattern, for it compares several runs")
            continue
        print(f"-- {title} of {name}", flush=True)
        reason = _why_not(metric, name, flags, judges)
        computed += not reason
        if reason:
            old = " (the table has an earlier value)" if _has_earlier(flags, name, metric) else ""
            reasons.append(f"{title} of {name}: {reason}{old}")
    if ranks.first:
        _conclude(flags, computed, reasons)


def publish_run(metric, exp_name, flags, judges):
    run = read_run(flags["output_path"], exp_name, flags.get("query_label"), flags.get("celeba_path"))
    metrics = metric.measure(run, judges)
    if judges.ranks.first:
        publish(run.layout, metrics)


def publish_spread(flags, judges):
    names = sigma_l.names_of_runs(flags["output_path"], flags["exp_pattern"], flags["exp_values"])
    runs = [read_run(flags["output_path"], name) for name in names]
    metrics = sigma_l.measure(runs, judges)
    if judges.ranks.first:
        for run in runs:
            publish(run.layout, metrics, quiet=run is not runs[0])


def wanted_metrics(text):
    """--metrics, such as FR,MNAC, or None for all -> a set of names; UserError for an unknown one."""
    names = {name.strip() for name in text.split(",")} if text else set(BETTER)
    if unknown := names - set(BETTER):
        raise UserError(f"--metrics {', '.join(sorted(unknown))} is unknown; choose of {', '.join(BETTER)}")
    return names


def _why_not(metric, name, flags, judges):
    """Measures a metric -> why it could not be, "" where it could."""
    try:
        if metric is sigma_l:
            publish_spread(flags, judges)
        else:
            publish_run(metric, name, flags, judges)
    except UserError as error:
        print(f"{sys.argv[0]}: error: {error}", file=sys.stderr)
        return str(error)
    except Exception as error:  # of whatever kind: the other metrics are none of its
        if judges.ranks.several:  # which would no longer do the same
            raise
        traceback.print_exc()
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def _has_earlier(flags, exp_name, metric):
    """Whether the experiment's metrics.yaml, and so the table, has one of the metrics."""
    if exp_name not in flags["exp_names"]:
        return False
    return bool(read_metrics(Layout(flags["output_path"], exp_name).metrics).keys() & set(metric.NAMES))


def _conclude(flags, computed, reasons):
    """Prints the table and what was not computed, and writes the table where it is asked for."""
    table, names = metrics_table(flags["output_path"], flags["exp_names"]), flags["exp_names"]
    print(f"\n{table}")
    for reason in reasons:
        print(f"not computed: {reason}")
    if not computed:
        raise UserError(f"no metric of {', '.join(names)} could be computed; the lines above say why")
    if flags["markdown"]:
        write_text(flags["markdown"], table)
    folders = [Layout(flags["output_path"], name).experiment for name in names]
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        there = "check --exp_names, or run main.py. All else was measured"
        raise UserError(f"{', '.join(missing)}: not there; {there}")
