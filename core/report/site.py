"""Writing the report: experiments -> dataclasses -> templates -> OUTPUT_PATH/report."""

import csv
import io
import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from guided_diffusion.script.storage import write_folder

from ..data.words import counted, words
from ..metrics.batches import progress
from .audit import AuditPart, read_audit_part
from .cases import Case, Experiment, read_experiments
from .changes import Changes, read_changes
from .comparison import compare, same_images
from .failures import KINDS, failures_of, why_unknown
from .finding import Finding, find, percent, probability
from .measures import Measured, groups_of, measure, measured_by_networks
from .pictures import FULL, Pictures, change_of, draw_pictures, outside_mask
from .provenance import Provenance, read_provenance

TEMPLATES = Path(__file__).parent / "templates"
PAGES = ("index.html", "failures.html")
AUDIT = "audit.html"  # where an experiment was audited
COPIED = ("report.css", "report.js")
PICTURES = "pictures"  # the folder of the small pictures
NAMED = 3  # best and worst cases of an experiment that are named as such


@dataclass
class Chapter:
    """What the report says of an experiment."""

    experiment: Experiment
    finding: Finding
    provenance: Provenance
    measured: list[Measured]
    groups: list
    left_out: list[str]
    changes: Changes | None
    failed: dict[str, int]  # kind of failure -> how many images failed so
    unknown: dict[str, str]  # kind of failure -> why nothing is known of it
    audit: AuditPart | None


@dataclass
class Card:
    """A case as the gallery shows it."""

    experiment: Experiment
    case: Case
    pictures: Pictures | None
    failures: tuple[str, ...]
    random_rank: int  # the same for the same image in all experiments
    quality_rank: int  # 0 is the best of its experiment
    named: str  # best, worst or ""
    attributes: list[tuple[str, int, int]]  # the changed ones: name, its number in _attribute_numbers, 1 or -1

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
    with write_folder(report) as folder:
        (folder / PICTURES).mkdir()
        _measure_masks(experiments)
        chapters = [_chapter(each, report.parent) for each in experiments]
        ranks = _random_ranks(experiments)
        shown = {id(case): case for e in experiments for case in _shown(e, ranks, most)}
        cards = _cards(experiments, ranks, shown, report.parent, folder / PICTURES)
        facts = _context(chapters, cards, most or len(ranks), experiments)
        _write_data(folder, chapters, cards, experiments)
        _write_pages(folder, facts)
    return report / PAGES[0]


def _chapter(experiment, root):
    changes, audit = read_changes(experiment), read_audit_part(experiment, root)
    groups, left_out = groups_of(experiment)
    return Chapter(
        experiment,
        find(experiment, changes, audit and audit.found),
        read_provenance(experiment),
        measure(experiment.table),
        groups,
        left_out,
        changes,
        {kind: sum(kind in failures_of(case) for case in experiment.cases) for kind in KINDS},
        why_unknown(experiment),
        audit,
    )


def _measure_masks(experiments):
    """Sets how much of each case's change lies outside its mask."""
    cases = [case for e in experiments for case in e.cases if case.pair and case.pair.part("Mask")]

    def look(case):
        case.outside = outside_mask(case.pair, change_of(case.pair))

    with ThreadPoolExecutor() as pool:
        list(pool.map(look, cases))


def _random_ranks(experiments):
    """id -> its place in a random order, of the images of all experiments."""
    ids = sorted({case.id for e in experiments for case in e.cases})
    random.Random(0).shuffle(ids)
    return {name: rank for rank, name in enumerate(ids)}


def _attribute_numbers(experiments):
    """Name -> number, of the attributes of all oracles. Each has its own order, one filter is for all."""
    names = dict.fromkeys(name for e in experiments for name in e.oracle.names)
    return {name: number for number, name in enumerate(names)}


def _shown(experiment, ranks, most):
    """The cases that the pages show: the first of the random order, the best and worst, and those that failed."""
    by_chance = sorted(experiment.cases, key=lambda case: ranks[case.id])
    if not most:
        return by_chance
    by_quality = sorted(experiment.cases, key=_quality)
    chosen = by_chance[:most] + by_quality[:NAMED] + by_quality[-NAMED:]
    for kind in KINDS:
        chosen += [case for case in by_chance if kind in failures_of(case)][:most]
    return chosen


def _quality(case):
    """What the best and the worst are found by: reached, seen by the oracle, few attributes, a small change."""
    return not case.reached, case.agrees is False, case.mnac or 0, case.l_1, case.id


def _cards(experiments, ranks, shown, root, folder):
    """The Cards in the random order, the same image of all experiments together."""
    waiting, numbers = [], _attribute_numbers(experiments)
    for experiment in experiments:
        by_quality = sorted(experiment.cases, key=_quality)
        for rank, case in enumerate(by_quality):
            if id(case) in shown:
                worst = rank >= max(len(by_quality) - NAMED, NAMED)
                named = "best" if rank < NAMED and case.reached else "worst" if worst else ""
                waiting.append((experiment, case, rank, named))

    def draw(experiment, case, rank, named):
        pictures = draw_pictures(case, experiment, root, folder) if case.pair else None
        names = experiment.oracle.names
        changed = [(names[a], numbers[names[a]], sign) for a, sign in case.changed.items() if a < len(names)]
        return Card(experiment, case, pictures, failures_of(case), ranks[case.id], rank, named, changed)

    with progress(total=len(waiting), desc="report", unit="image") as bar, ThreadPoolExecutor() as pool:
        cards = []
        for card in pool.map(lambda each: draw(*each), waiting):
            cards.append(card)
            bar.update()
    return sorted(cards, key=lambda card: (card.random_rank, card.experiment.place))


def _context(chapters, cards, most, experiments):
    """What the templates are given."""
    comparisons, apart = compare(experiments)
    in_gallery = [card for card in cards if card.random_rank < most or card.named]
    failed = {kind: [card for card in cards if kind in card.failures] for kind in KINDS}
    return {
        "chapters": chapters,
        "audits": [chapter.audit for chapter in chapters if chapter.audit],
        "cards": cards,
        "most": most,
        "in_gallery": in_gallery,
        "hidden": sum(len(e.cases) for e in experiments) - len(in_gallery),
        "failed": failed,
        "directions": sorted({card.experiment.direction(*card.case.direction) for card in in_gallery}),
        "comparisons": comparisons,
        "apart": apart,
        "together": len(experiments) > 1 and same_images(experiments),
        "by_networks": measured_by_networks(experiments),
        "attributes": sorted({(name, number) for card in cards for name, number, _ in card.attributes}),
        "kinds": KINDS,
        "full": FULL,
    }


def _write_pages(folder, facts):
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "fixed": fixed,
        "signed": signed,
        "value": _value,
        "probability": probability,
        "words": words,
        "counted": counted,
    }
    for page in (*PAGES, *[AUDIT] * bool(facts["audits"])):
        text = environment.get_template(page).render(facts)
        (folder / page).write_text(text, encoding="utf-8", errors="replace")
    for name in COPIED:
        (folder / name).write_bytes((TEMPLATES / name).read_bytes())


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


def _value(value, in_percent):
    return percent(value) if in_percent else number(value)


# -- the data ----------------------------------------------------------------------------------------------------


def _write_data(folder, chapters, cards, experiments):
    """data.csv, with a row for each image that was explained, and data.json, with the figures as well."""
    rows = [_row(e, case) for e in experiments for case in e.cases]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    (folder / "data.csv").write_text(text.getvalue(), encoding="utf-8", errors="replace")
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
        "p_target_before": case.p_before,
        "p_target": case.p_after,
        "l_1": case.l_1,
        "attempts": case.attempts,
        "scale": case.scale,
        "oracle_agrees": case.agrees,
        "attributes_changed": case.mnac,
        "appeared": " ".join(names[a] for a, sign in case.changed.items() if sign > 0 and a < len(names)),
        "vanished": " ".join(names[a] for a, sign in case.changed.items() if sign < 0 and a < len(names)),
        "similarity": case.similarity,
        "outside_mask": case.outside,
        "failures": " ".join(failures_of(case)),
    }


def _figures(chapter):
    """What data.json says of an experiment."""

    def entries(measured):
        return {
            each.measure.name: {
                kind: metric.entry() for kind, metric in (("flipped", each.flips), ("all", each.all)) if metric
            }
            for each in measured
        }

    return {
        "name": chapter.experiment.name,
        "finding": chapter.finding.sentence,
        "limits": chapter.finding.limits,
        "command": " ".join(chapter.provenance.command),
        "flags": dict(chapter.experiment.flags),
        "metrics": entries(chapter.measured),
        "groups": [
            {"kind": g.kind, "of": g.title, "n": g.n, "metrics": entries(g.measured)} for g in chapter.groups
        ],
        "attributes": [
            {"attribute": row.attribute, **row.often.entry(), "appeared": row.appeared, "vanished": row.vanished}
            | {"correlation_in_data": row.expected, "correlation_of_changes": row.measured}
            for row in (chapter.changes.rows if chapter.changes else ())
        ],
    }
