"""Every metric of some experiments that can be computed, why the others could not, and a table"""

if __name__ == "__main__":
    from guided_diffusion.script.interrupts import end_on_interrupt

    end_on_interrupt()

import sys
from dataclasses import replace
from pathlib import Path

from core.metrics.inference import DEVICE_FLAGS, RESULTS_FLAGS
from core.metrics.metric import BETTER, metrics_table, read_metrics
from core.metrics.started import environment, run
from core.results.folder import ResultsFolder, require_experiments
from core.running.flags import NETWORK_FLAGS, named_flags
from guided_diffusion.ranks.connecting import connect
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag, FlagParser, check_flags, group_flags
from guided_diffusion.script.run import require_flags, run_script
from guided_diffusion.script.storage import require_writable, write_text

ROOT = Path(__file__).parent
DEVICE = ("gpu", "batch_size", "num_workers")
ORACLE = ("oracle_path", "oracle_architecture", *named_flags("oracle"), "query_label")
CLASSIFIER = ("classifier_path", "classifier_architecture", *named_flags("classifier"), "query_label")
SCRIPTS = {  # script -> (its metrics, the flags that are passed on to it)
    "compute_FR.py": (("FR", "bKL", "L1"), ()),
    "compute_FVA.py": (("FVA", "FS"), ("weights_path", *DEVICE)),
    "compute_MNAC.py": (("MNAC", "Oracle FR"), (*ORACLE, *DEVICE)),
    "compute_CD.py": (("CD",), ("celeba_path", *ORACLE, *DEVICE)),
    "compute_COUT.py": (("COUT",), (*CLASSIFIER, *DEVICE)),
    "compute_FID.py": (("FID", "sFID", "KID"), ("inception_path", *DEVICE)),
    "compute_LPIPS.py": (("sigma_L",), ("exp_pattern", "exp_values", "vgg_path", *DEVICE)),
}
FLAGS = group_flags(
    data={
        "output_path": RESULTS_FLAGS["output_path"],
        "exp_names": Flag([], "the experiments", many=True),
        "metrics": Flag(None, "compute these alone, such as FR,MNAC,COUT"),
        "exp_pattern": Flag(None, "the runs that sigma_L compares, as in compute_LPIPS.py"),
        "exp_values": Flag([], "what fills --exp_pattern", many=True),
        "celeba_path": Flag(None, "the data, for CD; by default each run's"),
    },
    question={
        "query_label": Flag(None, "the attribute that was to change, by name or index; by default each run's"),
    },
    networks={
        "oracle_path": Flag(None, "the oracle, a file or a name; by default each run's"),
        "oracle_architecture": NETWORK_FLAGS["oracle_architecture"],
        **named_flags("oracle"),
        "weights_path": Flag(None, "VGGFace2's resnet50_ft; by default models/resnet50_ft_weight.pkl"),
        "classifier_path": Flag(None, "the explained classifier, a file or a name; by default each run's"),
        "classifier_architecture": NETWORK_FLAGS["classifier_architecture"],
        **named_flags("classifier"),
        "inception_path": Flag(None, "weights of pytorch-fid's Inception; by default its own, downloaded"),
        "vgg_path": Flag(None, "weights of VGG16, for sigma_L; by default torchvision's, downloaded"),
    },
    output={"markdown": Flag(None, "write the table, which is Markdown, to this file as well")},
    speed={name: replace(flag, default=None) for name, flag in DEVICE_FLAGS.items()},
)
REQUIRED = ("exp_names",)


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    require_flags(args, *REQUIRED)
    ranks = connect()
    wanted = wanted_metrics(args.metrics)
    if args.markdown and ranks.first:
        require_writable(args.markdown, "--markdown")
    computed, reasons = 0, []
    for script, (metrics, flags) in SCRIPTS.items():
        if not wanted & set(metrics):
            continue
        title = ", ".join(metrics)
        if script == "compute_LPIPS.py" and not args.exp_pattern:
            reasons.append(f"{title}: give --exp_pattern, for it compares several runs")
            continue
        for target, target_flags in targets(script, args):
            print(f"-- {title} of {target}", flush=True)
            words = ["--output_path", args.output_path, *target_flags, *passed_on(args, flags)]
            code, error = run([sys.executable, ROOT / script, *words], **environment(ranks))
            computed += code == 0
            if code:
                old = " (the table has an earlier value)" if measured(args, target, metrics) else ""
                reasons.append(f"{title} of {target}: {error}{old}")
    table = metrics_table(args.output_path, args.exp_names)
    print(f"\n{table}")
    for reason in reasons:
        print(f"not computed: {reason}")
    if not ranks.first:
        return
    if not computed:
        raise UserError(f"no metric of {', '.join(args.exp_names)} could be computed; the lines above say why")
    if args.markdown:
        write_text(args.markdown, table)
    require_experiments(args.output_path, args.exp_names)


def wanted_metrics(text):
    """--metrics, such as FR,MNAC, or None for all -> a set of names; UserError for an unknown one."""
    names = {name.strip() for name in text.split(",")} if text else set(BETTER)
    if unknown := names - set(BETTER):
        raise UserError(f"--metrics {', '.join(sorted(unknown))} is unknown; choose of {', '.join(BETTER)}")
    return names


def targets(script, args):
    """The runs of a script: a list of (what it measures, to print; the flags that say so)."""
    if script == "compute_LPIPS.py":
        return [(args.exp_pattern, [])]
    return [(name, ["--exp_name", name]) for name in args.exp_names]


def measured(args, exp_name, metrics):
    """Whether the experiment's metrics.yaml, and so the table, has one of the metrics."""
    return exp_name in args.exp_names and bool(
        read_metrics(ResultsFolder(args.output_path, exp_name).metrics_path).keys() & set(metrics)
    )


def passed_on(args, flags):
    """The words of a command line with those of the flags that have a value."""
    words = []
    for flag in flags:
        value = getattr(args, flag)
        if value not in (None, []):
            words += [f"--{flag}", *(value if isinstance(value, list) else [str(value)])]
    return words


if __name__ == "__main__":
    run_script(main, hint="what was measured is kept; --metrics measures the rest alone")
