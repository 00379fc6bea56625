"""Several experiments on identical images."""

from argparse import Namespace
from dataclasses import dataclass

from guided_diffusion.errors import UserError

from ..methods.flags import method_and_options
from ..metrics.intervals import mean_interval
from ..running.flags import FLAGS
from .measures import MEASURES, Measure, Measured, measure


@dataclass
class Method:
    """A row of the table of methods. What is not known is None."""

    experiment: object
    method: str
    evaluations: float | None  # of the network, an image
    seconds: float | None  # an image
    memory: float | None  # MiB, the most that a run held
    device: str
    measured: list[Measured]


@dataclass
class Comparison:
    """Some experiments on the images that all of them explained. why_not: why there is no comparison."""

    ids: list[int]
    methods: list[Method]
    why_not: str = ""


def compare(experiments):
    """The methods of some experiments on identical images."""
    if len(experiments) > 1 and (why_not := _different(experiments)):
        return Comparison([], [], why_not)
    ids = sorted(set.intersection(*(set(e.table["id"]) for e in experiments)))
    if not ids:
        return Comparison([], [], "they have no image in common")
    tables = [e.table[e.table["id"].isin(ids)] for e in experiments]
    methods = [
        Method(
            e,
            str(e.flags.get("method", "dime" if e.flags else "not recorded")),
            evaluations(e, table),
            *_surroundings(e),
            measure(table),
        )
        for e, table in zip(experiments, tables, strict=True)
    ]
    return Comparison(ids, methods)


def _surroundings(experiment):
    """(seconds an image, MiB of memory, the device) of an experiment's runs; None and "" where not recorded."""
    timed = sum(experiment.numbers_of_runs("images"))
    return (
        sum(experiment.numbers_of_runs("seconds")) / timed if timed else None,
        max(experiment.numbers_of_runs("memory_mib"), default=None),
        experiment.texts_of_runs("device"),
    )


DATA = ("dataset", "data_dir", "images", "split", "image_size")  # the flags that decide what an id stands for


def _different(experiments):
    """Why some experiments are not of the same images, or ""."""
    first, *others = experiments
    for other in others:
        for name in DATA:
            values = [e.flags.get(name) for e in (first, other)]
            if first.flags and other.flags and values[0] != values[1]:
                return f"{first.name} was run with --{name} {values[0]}, {other.name} with --{name} {values[1]}"
        names = [{case.id: case.image for case in e.cases} for e in (first, other)]
        for name in names[0].keys() & names[1].keys():
            if names[0][name] != names[1][name]:
                return f"image {name} is {names[0][name]} in {first.name}, but {names[1][name]} in {other.name}"
    return ""


def evaluations(experiment, table):
    """Network evaluations an image took, the mean over the rows; None where that is not recorded."""
    known = {name: flag.default for name, flag in FLAGS.items()} | experiment.flags
    if not experiment.flags or "attempts" not in table:
        return None
    args = Namespace(**known)
    try:
        method, options = method_and_options(args)
        steps = None if args.guided_iterations == -1 else args.guided_iterations
        cost = method.cost(args.start_step, guided_steps=steps, **options)
    except (UserError, TypeError):  # flags of an older version
        return None
    return float((cost.once + cost.each * table["attempts"]).mean())


@dataclass
class Difference:
    """How two experiments differ on the same images: the mean of a - b, and its interval or None."""

    measure: Measure
    better: str
    worse: str
    value: float
    interval: tuple[float, float] | None

    @property
    def certain(self):
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def differences(comparison):
    """For FR, Oracle FR, MNAC and L1, over all images: the best experiment against the second best."""
    found = []
    for each in MEASURES[:-1]:
        tables = {
            m.experiment.name: m.experiment.table.set_index("id").loc[comparison.ids] for m in comparison.methods
        }
        if not all(each.column in table for table in tables.values()):
            continue
        values = {name: each.values(table).astype(float).to_numpy() for name, table in tables.items()}
        best, second = sorted(values, key=lambda name: values[name].mean() * (-1 if each.percent else 1))[:2]
        gaps = values[best] - values[second]
        found.append(Difference(each, best, second, float(gaps.mean()), mean_interval(gaps)))
    return found
