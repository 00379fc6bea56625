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

from ..data.loading import load_explained_data, settle_dataset
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
    """layout: of its folder. flags: main.py's, name -> value, checked; {} where no file records them, as in a
    folder of the authors' release. question: None until it is asked (asking)."""

    layout: Layout
    flags: Mapping
    question: Question | None = None
    settings: Settings | None = None  # of the method; None of a run that was read
    cost: Cost | None = None  # of the method, for an image

    @property
    def name(self):
        return self.layout.exp_name

    def asking(self, question):
        """The run with this question."""
        return replace(self, question=question)

    def network(self, role, flags=MappingProxyType({})):
        """The NetworkName of a role. flags: those of a command line, which win over the run's."""
        return network_name(role, flags, self.flags)

    def load_dataset(self):
        """The ImageDataset that it explains."""
        names = ("dataset", "data_dir", "split", "image_size", "images")
        return load_explained_data(*(self.flags[name] for name in names))

    def names_of_data(self):
        """The names of the data's images, by id; None, with a line that says so, where the data is not there."""
        try:
            return self.load_dataset().names
        except UserError as error:
            print(f"the images' names are not compared with the data's: {error}")
            return None

    # -- what its folder holds -----------------------------------------------------------------------------------

    @property
    def finished(self):
        """Whether main.py has finished it, and merged its chunks; None where nothing says that it began it."""
        return self.layout.summary.exists() or (False if self.flags else None)

    @cached_property
    def records(self):
        """The rows of all images explained so far, also of chunks that are not merged; None without any. A folder
        without flags, such as the authors' release writes, has them in its Info files."""
        table = read_all_rows(self.layout)
        if table is None and not self.flags and self.layout.experiment.is_dir():
            table = rows_of_infos(self.pairs(reached=tuple(REACHED)))
        return table

    def require_records(self):
        """records, but UserError where there are none, or chunks that are not merged."""
        path = self.layout.records
        if self.records is None and path.exists():
            raise UserError(f"{path} holds no rows; run main.py again")
        if self.records is None or self.layout.chunks and not path.exists():
            raise UserError(f"{path} does not exist; run main.py, and merge its chunks with --merge_and_eval True")
        return self.records

    @property
    def records_hash(self):
        return hash_of(self.records)

    @cached_property
    def history(self):
        """What runs.yaml records of each run of main.py that came to its end: a list of dicts."""
        return read_runs(self.layout)

    def require_classes(self):
        """The names of the classes; UserError where the experiment has none."""
        if not self.question.answers:
            raise UserError(f"{self.layout.experiment} has no {self.layout.classes.name}; run main.py again")
        return self.question.answers

    def pairs(self, **which):
        """The Pairs in the folder. which: read_pairs's further arguments."""
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
        table = self.require_records()
        expected = correct(table).isin([CLASSIFIED[name] for name in classified])
        expected &= flipped(table).isin([REACHED[name] for name in reached])
        missing = sorted({image_id(i) for i in table["id"][expected]} - {pair.id for pair in pairs})
        if missing:
            raise UserError(
                f"{self.layout.records} has {len(missing)} images whose counterfactuals are gone, such as "
                f"{missing[0]}; the command of main.py that made them restores them"
            )

    def tell_unfinished(self):
        """Warns on stderr where main.py has not finished it, because only a part of it can be measured."""
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
    shared = ("method", "seed", "use_logits", "l1_loss", "l2_loss", "l_perc", "clip_denoised")
    shared = {name: flags[name] for name in shared}
    tau, scales = flags["start_step"], scales_of(flags)
    settings = Settings(tau=tau, classifier_scales=scales, sampler_options=options, **shared)
    layout = Layout(flags["output_path"], flags["exp_name"], flags["chunk"], flags["num_chunks"])
    dataset = settle_dataset(flags["dataset"], flags["data_dir"])
    checked = MappingProxyType(flags | {"dataset": dataset, "split": split})
    return Run(layout, checked, settings=settings, cost=method.cost(tau, **options))


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
    """The recorded flags. A text that YAML reads as a number is a text again."""
    flags = read_flags(layout)
    for name in FLAGS.keys() & flags.keys():
        flag, value = FLAGS[name], flags[name]
        try:
            flag.check_type(name, value)
            flag.check(name, value)
        except UserError as error:
            remedy = remedy_of(layout.flags)
            raise UserError(f"flags.yaml in {layout.experiment} is damaged ({error}); {remedy}") from None
        if flag.kind is str and value is not None:
            flags[name] = str(value)
    return flags
