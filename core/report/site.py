"""Writing the report: experiments -> dataclasses -> templates -> OUTPUT_PATH/report."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from guided_diffusion.script.flags import MANY
from guided_diffusion.script.storage import write_folder

from ..data.words import counted, words
from ..metrics.batches import progress
from .audit import AuditPart, read_audit_part
from .cases import Experiment, ExplainedImage, read_experiments
from .changes import Changes, read_changes
from .comparison import compare, same_images
from .failures import KINDS, count_failures, failures_of
from .finding import finding, limits_of, percent, probability
from .measures import Group, Measured, groups_of, measure, measured_by_networks
from .pictures import FULL, Pictures, change_of, draw_pictures, outside_mask
from .provenance import Provenance, read_provenance

TEMPLATES = Path(__file__).parent / "templates"
PAGES = ("index.html", "failures.html")
AUDIT = "audit.html"  # where an experiment was audited
COPIED = ("report.css", "report.js")
MARKS = (*COPIED, *PAGES)  # of a folder that is a report
PICTURES = "pictures"  # the folder of the small pictures
NAMED = 3  # best and worst cases of an experiment that are named as such


@dataclass
class Chapter:
    """What the report says of an experiment."""

    experiment: Experiment
    finding: str
    limits: list[str]
    provenance: Provenance
    measured: list[Measured]
    groups: list[Group]
    left_out: list[str]
    changes: Changes | None
    failures: dict[str, str]  # kind -> how many images failed so, or why that is not known
    audit: AuditPart | None


@dataclass
class Card:
    """A case as the gallery shows it."""

    experiment: Experiment
    case: ExplainedImage
    random_rank: int  # the same for the same image in all experiments
    quality_rank: int  # 0 is the best of its experiment
    named: str  # best, worst or ""
    failures: tuple[str, ...]
    attributes: list[tuple[str, int, int]]  # the changed ones: name, its number in the report, 1 or -1
    pictures: Pictures | None = None

    @property
    def anchor(self):
        return f"e{self.experiment.place}-{self.case.id}"


def write_report(output_path, exp_names, most=1000):
    """Writes OUTPUT_PATH/report, in place of an earlier one -> the path of its first page.

    most: how many images of an experiment the gallery, and each part of the page of failures, shows; 0: all.
    Raises UserError where an experiment is not there or holds nothing, or the folder cannot be written.
    """
    experiments = read_experiments(output_path, exp_names)
    report = experiments[0].run.layout.report
    with write_folder(report, *MARKS) as folder:
        (folder / PICTURES).mkdir()
        _measure_masks(experiments)
        chapters = [_chapter(each, report.parent) for each in experiments]
        cards = _cards(experiments, most or MANY)
        _draw(cards, report.parent, folder / PICTURES)
        _write_data(folder, chapters)
        _write_pages(folder, _context(chapters, cards, most or MANY, experiments))
    return report / PAGES[0]


def _measure_masks(experiments):
    """Sets how much of each case's change lies outside its mask."""
    cases = [case for e in experiments for case in e.cases if case.pair and case.pair.part("Mask")]

    def look(case):
        case.outside = outside_mask(case.pair, change_of(case.pair))

    with ThreadPoolExecutor() as pool:
        list(pool.map(look, cases))


def _chapter(experiment, root):
    changes, audit = read_changes(experiment), read_audit_part(experiment, root)
    groups, left_out = groups_of(experiment)
    return Chapter(
        experiment,
        finding(experiment, changes),
        list(limits_of(experiment, changes, audit and audit.findings)),
        read_provenance(experiment),
        measure(experiment.run.records),
        groups,
        left_out,
        changes,
        count_failures(experiment),
        audit,
    )


def _cards(experiments, most):
    """The Cards that the pages show, without pictures: at random, the same image of all experiments together.

    They are the first `most` of the random order, the best and the worst, and as many of each kind of failure.
    """
    ids = sorted({case.id for e in experiments for case in e.cases})
    random.Random(0).shuffle(ids)
    ranks = {name: rank for rank, name in enumerate(ids)}
    # Each oracle has its own order of attributes, one filter is for all.
    attributes = dict.fromkeys(name for e in experiments for name in e.oracle.names)
    numbers = {name: number for number, name in enumerate(attributes)}
    cards = []
    for e in experiments:
        names, by_quality = e.oracle.names, sorted(e.cases, key=_quality)
        of_experiment = []
        for rank, case in enumerate(by_quality):
            worst = rank >= max(len(by_quality) - NAMED, NAMED)
            named = "best" if rank < NAMED and case.reached else "worst" if worst else ""
            changed = [(names[a], numbers[names[a]], sign) for a, sign in case.changed.items()]
            of_experiment.append(Card(e, case, ranks[case.id], rank, named, failures_of(case), changed))
        by_chance = sorted(of_experiment, key=lambda card: card.random_rank)
        shown = by_chance[:most] + of_experiment[:NAMED] + of_experiment[-NAMED:]
        for kind in KINDS:
            shown += [card for card in by_chance if kind in card.failures][:most]
        cards += {card.case.id: card for card in shown}.values()
    return sorted(cards, key=lambda card: (card.random_rank, card.experiment.place))


def _quality(case):
    """What the best and the worst are found by: reached, seen by the oracle, few attributes, a small change."""
    return not case.reached, case.agrees is False, case.mnac or 0, case.l_1, case.id


def _draw(cards, root, folder):
    """Sets the pictures of the cards whose images were saved."""

    def draw(card):
        if card.case.pair:
            card.pictures = draw_pictures(card.case, card.experiment, root, folder)

    with progress(total=len(cards), desc="report", unit="image") as bar, ThreadPoolExecutor() as pool:
        for _ in pool.map(draw, cards):
            bar.update()


def _context(chapters, cards, most, experiments):
    """The variables of the templates."""
    comparisons, apart = compare(experiments)
    in_gallery = [card for card in cards if card.random_rank < most or card.named]
    return {
        "chapters": chapters,
        "audits": [chapter.audit for chapter in chapters if chapter.audit],
        "most": most,
        "in_gallery": in_gallery,
        "hidden": sum(len(e.cases) for e in experiments) - len(in_gallery),
        "failed": {kind: [card for card in cards if kind in card.failures] for kind in KINDS},
        "directions": sorted({card.experiment.direction(*card.case.direction) for card in in_gallery}),
        "comparisons": comparisons,
        "apart": apart,
        "together": len(experiments) > 1 and same_images(experiments),
        "by_networks": measured_by_networks(experiments),
        "attributes": sorted({(name, number) for card in cards for name, number, _ in card.attributes}),
        "kinds": KINDS,
        "full": FULL,
    }


def _write_pages(folder, context):
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    options = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, **options)
    filters = (number, percent, fixed, signed, value, probability, words, counted)
    environment.filters |= {each.__name__: each for each in filters}
    for page in (*PAGES, *[AUDIT] * bool(context["audits"])):
        text = environment.get_template(page).render(context)
        (folder / page).write_text(text, encoding="utf-8", errors="replace")
    for name in COPIED:
        (folder / name).write_bytes((TEMPLATES / name).read_bytes())


# -- filters of the templates ------------------------------------------------------------------------------------


def number(value):
    """A number with three significant digits."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def fixed(value, digits=2):
    """A number with so many decimals; 0 has no sign."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def signed(value, digits=2):
    """A number with so many decimals and its sign, a minus as it is printed; 0 has a plus."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def value(value, in_percent):
    return percent(value) if in_percent else number(value)


# -- the data ----------------------------------------------------------------------------------------------------


def _write_data(folder, chapters):
    """data.csv, with a row for each image that was explained, and data.json, with the figures as well."""
    rows = [_row(chapter.experiment, case) for chapter in chapters for case in chapter.experiment.cases]
    table = pd.DataFrame(rows, dtype=object)  # object: numbers stay as they are beside those that are None
    table.to_csv(folder / "data.csv", index=False, errors="replace", lineterminator="\r\n")
    contents = {"experiments": [_figures(chapter) for chapter in chapters], "images": rows}
    (folder / "data.json").write_text(json.dumps(contents, indent=1, default=str))


def _row(experiment, case):
    names = experiment.oracle.names
    return {
        "experiment": experiment.name,
        "id": case.id,
        "image": case.image,
        "label": experiment.called(case.label),
        "predicted": experiment.called(case.pred),
        "target": experiment.called(case.target),
        "predicted_after": experiment.called(case.cf_pred),
        "reached": case.reached,
        "p_target_before": case.p_target_before,
        "p_target": case.p_target,
        "l_1": case.l_1,
        "attempts": case.attempts,
        "scale": case.scale,
        "oracle_agrees": case.agrees,
        "attributes_changed": case.mnac,
        "appeared": " ".join(names[a] for a, sign in case.changed.items() if sign > 0),
        "vanished": " ".join(names[a] for a, sign in case.changed.items() if sign < 0),
        "similarity": case.similarity,
        "outside_mask": case.outside,
        "failures": " ".join(failures_of(case)),
    }


def _figures(chapter):
    """What data.json says of an experiment."""
    return {
        "name": chapter.experiment.name,
        "finding": chapter.finding,
        "limits": chapter.limits,
        "command": " ".join(chapter.provenance.command),
        "flags": dict(chapter.experiment.run.flags),
        "metrics": _entries(chapter.measured),
        "groups": [
            {"kind": g.kind, "of": g.title, "n": g.n, "metrics": _entries(g.measured)} for g in chapter.groups
        ],
        "attributes": [
            {"attribute": row.attribute, **row.often.entry(), "appeared": row.appeared, "vanished": row.vanished}
            | {"correlation_in_data": row.expected, "correlation_of_changes": row.measured}
            for row in (chapter.changes.rows if chapter.changes else ())
        ],
    }


def _entries(measured):
    metrics = {each.measure.name: {"flipped": each.flips, "all": each.all} for each in measured}
    return {name: {k: metric.entry() for k, metric in row.items() if metric} for name, row in metrics.items()}
