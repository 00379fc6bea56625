"""A run: one experiment, as main.py plans it and as every reader finds it in its folder.

    run = plan_run(flags)                       main.py: its flags, checked
    run = read_run(output_path, exp_name)       metrics, audit, report, demo, benchmarks

Nothing below takes a script's arguments, and nothing changes a Run: what is learned later makes a new one.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from guided_diffusion.ranks.ranks import connected
from guided_diffusion.script.errors import UserError

from ..data.explained_data import settle_dataset
from ..methods.flags import method_and_options
from ..methods.registry import Cost
from ..results.layout import CLASSIFIED, REACHED, Layout, image_id
from ..results.reading import hash_of, read_all_rows, read_flags, read_pairs, read_runs, rows_of_infos
from ..results.records import correct, flipped, remedy_of
from .explainer import Settings
from .flags import FLAGS, check_run_flags, choose_split, scales_of
from .network_names import network_name
from .question import Question, read_question

FLIPPED = "pairs that reached their target"


@dataclass(frozen=True)
class Run:
    """layout: of its folder. flags: main.py's, name -> value, as they were checked; {} where nothing records them,
    as in a folder of the authors' release. question: None until it is asked (asking)."""

    layout: Layout
    flags: Mapping
    question: Question | None = None
    settings: Settings | None = None  # of the method; None of a run that was read
    cost: Cost | None = None  # of the method, for an image

    @property
    def name(self):
        return self.layout.exp_name

    def asking(self, question):
        """The same run with its question."""
        return replace(self, question=question)

    def network(self, role, flags=MappingProxyType({})):
        """The NetworkName of a role. flags: those of a command line, which win over the run's."""
        return network_name(role, flags, self.flags)

    # -- what its folder holds -----------------------------------------------------------------------------------

    @property
    def finished(self):
        """Whether main.py has finished it, and merged its chunks; None where nothing says that it began it."""
        return self.layout.summary.exists() or (False if self.flags else None)

    @cached_property
    def records(self):
        """The rows of all images that were explained so far, also of chunks that are not merged; None without any.

        A folder without a records.csv, such as the authors' release writes, has them in its Info files.
        """
        table = read_all_rows(self.layout)
        if table is None and not self.flags and self.layout.experiment.is_dir():
            table = rows_of_infos(self.pairs(reached=tuple(REACHED)))
        return table

    @property
    def records_hash(self):
        return hash_of(self.records)

    @cached_property
    def history(self):
        """What runs.yaml records of each run of main.py that came to its end: a list of dicts."""
        return read_runs(self.layout)

    def require_classes(self):
        """What the classes are called; UserError where the experiment does not say."""
        if not self.question.answers:
            raise UserError(f"{self.layout.experiment} has no {self.layout.classes.name}; run main.py again")
        return self.question.answers

    def pairs(self, **which):
        """The Pairs that are there. which: read_pairs's further arguments."""
        return read_pairs(self.layout, **which)

    def require_pairs(self, **which):
        """pairs(), but UserError where there is no pair, or one that was explained is gone."""
        self.tell_unfinished()
        pairs = self.pairs(**which)
        if not pairs:
            kind = "images" if "ICF" in which.get("reached", ()) else FLIPPED
            raise UserError(f"{self.layout.experiment} holds no {kind}, or --save_images was False")
        self.require_recorded(pairs, **which)
        return pairs

    def require_recorded(self, pairs, classified=tuple(CLASSIFIED), reached=("CCF",)):
        """UserError where an image that records.csv has in these folders is not among the pairs."""
        if not self.layout.records.exists() or not self.flags.get("save_images", True):
            return
        table = self.records
        wanted = correct(table).isin([CLASSIFIED[name] for name in classified])
        wanted &= flipped(table).isin([REACHED[name] for name in reached])
        missing = sorted({image_id(i) for i in table["id"][wanted]} - {pair.id for pair in pairs})
        if missing:
            raise UserError(
                f"{self.layout.records} has {len(missing)} images whose counterfactuals are gone, such as "
                f"{missing[0]}; the command of main.py that made them restores them"
            )

    def tell_unfinished(self):
        """Warns on stderr where main.py has not finished it, as only a part of it can be measured."""
        if connected().first and self.finished is False:
            print(
                f"{self.layout.experiment} has no summary.yaml: the run is not finished, or its chunks are not "
                "merged; only what is there is measured",
                file=sys.stderr,
            )


def plan_run(flags):
    """The Run that main.py's flags, name -> value, ask for; UserError for the first that cannot be."""
    check_run_flags(flags)
    split = choose_split(flags)
    method, options = method_and_options(flags)
    options["guided_steps"] = None if flags["guided_iterations"] == -1 else flags["guided_iterations"]
    shared = ("seed", "use_logits", "l1_loss", "l2_loss", "l_perc", "clip_denoised")
    settings = Settings(
        method=flags["method"],
        tau=flags["start_step"],
        classifier_scales=scales_of(flags),
        sampler_options=options,
        **{name: flags[name] for name in shared},
    )
    layout = Layout(flags["output_path"], flags["exp_name"], flags["chunk"], flags["num_chunks"])
    dataset = settle_dataset(flags["dataset"], flags["data_dir"])
    checked = MappingProxyType(flags | {"dataset": dataset, "split": split})
    return Run(layout, checked, settings=settings, cost=method.cost(settings.tau, **options))


def read_run(output_path, exp_name, query_label=None, data_dir=None):
    """The Run of an experiment's folder. query_label, data_dir: as for read_question.

    UserError where there is no such folder, and where a recorded flag has a value that it cannot have.
    """
    layout = Layout(output_path, exp_name)
    if not layout.experiment.is_dir():
        raise UserError(f"{layout.experiment} is not there; check --output_path and --exp_name, or run main.py")
    flags = _checked_flags(layout)
    return Run(layout, MappingProxyType(flags), read_question(layout, flags, query_label, data_dir))


def _checked_flags(layout):
    """The recorded flags; a text that was written as a number is a text."""
    flags = read_flags(layout)
    for name in FLAGS.keys() & flags.keys():
        try:
            FLAGS[name].check_type(name, flags[name])
            FLAGS[name].check(name, flags[name])
            if FLAGS[name].kind is str and flags[name] is not None:
                flags[name] = str(flags[name])
        except UserError as error:
            remedy = remedy_of("flags.yaml")
            raise UserError(f"flags.yaml in {layout.experiment} is damaged ({error}); {remedy}") from None
    return flags
