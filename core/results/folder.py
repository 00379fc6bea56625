"""Writing a results folder, and going on where an earlier run stopped. reading.py reads it back."""

import shutil
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache

import pandas as pd

from guided_diffusion.script.errors import UserError
from guided_diffusion.script.storage import is_own_folder, lock, remove_parts, require_writable, write_text

from ..data.images import read_image
from .layout import FINDINGS, TRAJECTORIES, image_id, means_the_same
from .pictures import parts_of
from .reading import read_rows, refuse_other_images
from .records import (
    append_records,
    correct,
    flipped,
    is_torn,
    read_yaml,
    remedy_of,
    summarise,
    write_records,
    write_yaml,
)

COMPARED = 30  # originals that are held against those of a new run
ANOTHER_DECODER = 2  # grey levels, on average, by which decoders of the same file may differ


class ResultsFolder:
    """Writes the experiment, or the chunk, of a Layout. Raises UserError where it cannot be written.

    rank: of the process that writes, where several write one experiment. The first one begins and finishes it.
    """

    def __init__(self, layout, rank=0):
        self.layout, self.own_records = layout, layout.records_of_rank(rank)

    @contextmanager
    def claimed(self):
        """In this context no other process writes this experiment, or chunk; UserError where one already does.

        Removes incomplete files that killed runs have left.
        """
        layout = self.layout
        with self._writing():
            layout.experiment.mkdir(parents=True, exist_ok=True)
            folder_lock = lock(
                layout.lock,
                f"{layout.experiment} is being written by another run ({{holder}}); wait for it, "
                "or name another --exp_name",
            )
        try:
            trajectories = [folder for kind in TRAJECTORIES for folder in layout.trajectory(kind).glob("*")]
            for folder in (layout.experiment, *layout.image_folders, *trajectories):
                remove_parts(folder)
            yield self
        finally:
            folder_lock.release()

    def begin(self, flags, overwrite=False, free=(), before=None):
        """Prepares the folder for a run with these flags -> the rows that an earlier run finished, or None.

        flags: name -> value, for flags.yaml; those named in `free` may differ from the earlier run's.
        before: name -> the value that counts where an older flags.yaml does not have the flag yet.
        The summary is removed, unless the earlier run had exactly these flags: with others, work may be left.
        """
        layout = self.layout
        with self._writing():
            self._refuse_other_chunking()
            if overwrite:
                self.clear()
            for folder in layout.part_folders if flags.get("save_images", True) else (layout.experiment,):
                folder.mkdir(parents=True, exist_ok=True)
            earlier_flags = read_yaml(layout.flags) if layout.flags.exists() else {}
            if earlier_flags:
                earlier_flags = (before or {}) | earlier_flags
                self._refuse_other_flags(earlier_flags, flags, free)
            else:
                self._refuse_results_without_flags()
            earlier = self._drop_incomplete(self._join_records(), flags)
            if earlier_flags:
                self._remove_images(() if earlier is None else earlier["id"])
            if flags != earlier_flags or earlier is None:
                layout.summary.unlink(missing_ok=True)
            write_yaml(layout.flags, flags)
        return earlier

    @contextmanager
    def _writing(self):
        """Around what makes the folder: UserError names --output_path where the system refuses it."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"--output_path {self.layout.output_path} cannot be written ({error.strerror})"
            ) from None

    def _drop_incomplete(self, table, flags):
        """The rows of the images that have all their files; None without any. The others are explained again."""
        if table is None or not len(table):
            return None
        if not flags.get("save_images"):
            return table
        parts = parts_of(flags.get("save_masks"), flags.get("save_pre_explanation"))
        complete = self._have_files(table, parts)
        if complete.all():
            return table
        lost = table["id"][~complete]
        print(f"{len(lost)} images, such as {image_id(lost.iloc[0])}, lack some of their files: explained again")
        self.layout.summary.unlink(missing_ok=True)
        table = table[complete]
        write_records(self.layout.records, table)
        return table if len(table) else None

    def _have_files(self, table, parts):
        """(N,) booleans: whether the files of the images are where write_images puts them, in whichever format."""
        stems = cache(lambda folder: {path.stem for path in folder.glob("*")})
        complete = []
        for i, right, reached in zip(table["id"], correct(table), flipped(table), strict=True):
            folders = [self.layout.originals(right), *(self.layout.part(right, reached, part) for part in parts)]
            complete.append(all(image_id(i) in stems(folder) for folder in folders))
        return pd.Series(complete, table.index)

    def require_same_originals(self, indices, read, overwrite=False):
        """UserError where an experiment here has explained other images under the same ids.

        Original/ is shared, so this run would replace what another is measured by; and one that goes on would mix
        two data sets whose files are called alike. indices: of this run's images; read(i) -> image i, uint8
        (3, S, S). A few ids are compared, the first and the last among them. overwrite: its own do not count.
        """
        explained = [*self.layout.others, *([] if overwrite else [self.layout.whole])]
        owners = {path.stem: each.exp_name for each in explained for path in each.image_files()}
        originals = (path for right in (True, False) for path in self.layout.originals(right).glob("*.png"))
        shared = sorted(p for p in originals if p.stem in owners and p.stem.isdecimal() and int(p.stem) in indices)
        for path in {*shared[:: len(shared) // COMPARED + 1], *shared[-1:]}:
            mine, theirs = read(int(path.stem)), read_image(path)
            if mine.shape != theirs.shape or (mine.float() - theirs.float()).abs().mean() > ANOTHER_DECODER:
                raise UserError(
                    f"{path} is another image than this run's, and belongs to the experiment {owners[path.stem]}; "
                    "an --output_path is for one data set, one split and one --image_size: name another"
                )

    def require_same_images(self, names, overwrite=False):
        """UserError where the records, of any chunk, have another image under an id than the data now.

        names: of the data's images, by id. overwrite: this chunk's own records are about to be removed.
        """
        own = self.layout
        for layout in (own, *own.chunks):
            if not (overwrite and layout == own):
                refuse_other_images(read_rows(layout), names, own.experiment)

    def clear(self):
        """Removes the files of earlier runs of this experiment, or chunk. Originals, which others share, stay."""
        own = self.layout
        measurements = (own.metrics, own.chart, own.activations, own.similarity, own.runs)
        for path in (own.records, *own.records_of_further_ranks, own.summary, own.flags, *measurements):
            path.unlink(missing_ok=True)
        if is_own_folder(own.audit, FINDINGS):
            shutil.rmtree(own.audit, ignore_errors=True)
        self._remove_images()

    def _remove_images(self, finished=()):
        """Removes the files of the images that are not finished. An image that was half written might otherwise, if
        rounding changes its outcome, lie in two places."""
        own, finished = self.layout, set(finished)
        trajectories = [path for kind in TRAJECTORIES for path in own.trajectory(kind).glob("*")]
        for path in [*own.image_files(), *trajectories]:
            name = path.name.split(".")[0]
            if name.isdecimal() and int(name) % own.num_chunks == own.chunk and int(name) not in finished:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _refuse_other_chunking(self):
        own = self.layout
        for other in [own.whole] * own.whole.flags.exists() + own.chunks:
            if other.num_chunks != own.num_chunks:
                # --overwrite does not clear it either: each chunk would remove what others have just written.
                folders = [own.experiment, *map(own.trajectory, TRAJECTORIES)]
                raise UserError(
                    f"{own.experiment} holds {other.flags.name} of a run with another --num_chunks; name another "
                    "--exp_name, or, before any chunk is started, remove "
                    f"{' and '.join(str(folder) for folder in folders if folder.is_dir())}"
                )

    def _refuse_results_without_flags(self):
        """Nobody knows with which flags they were made, so they would pass for results of this run's."""
        own = self.layout
        images = not own.chunks and any(own.image_files())
        if images or read_rows(own) is not None:
            raise UserError(
                f"{own.experiment} holds results, but no {own.flags.name} that says how they were made; "
                f"{remedy_of(own.flags)}"
            )

    def _refuse_other_flags(self, earlier, flags, free):
        differing = [
            f"--{name} {flags.get(name)} (was {earlier.get(name)})"
            for name in {**earlier, **flags}
            if name not in free and not means_the_same(name, earlier.get(name), flags.get(name))
        ]
        if differing:
            raise UserError(
                f"{self.layout.experiment} was begun with other flags: {', '.join(differing)}; "
                "name another --exp_name, or give --overwrite True"
            )

    # -- while the run goes on -----------------------------------------------------------------------------------

    def commit(self, rows):
        """Adds rows to this rank's records. Write their images first: a row marks them as done."""
        self.require_there()
        append_records(self.own_records, rows)

    def require_there(self):
        """UserError where the folder was removed meanwhile: what is written now would look like all of the run."""
        if not self.layout.flags.exists():
            raise UserError(f"{self.layout.experiment} has been removed, or its flags.yaml; start again")

    def write_classes(self, names):
        """Writes what the classes are called, in their order; without names there is no such file."""
        if names:
            write_text(self.layout.classes, "".join(f"{name}\n" for name in names))
        else:
            self.layout.classes.unlink(missing_ok=True)

    # -- at its end ----------------------------------------------------------------------------------------------

    def finish(self, table):
        """Writes all the records into one file, and then the summary, which marks the run, or chunk, as complete.

        table: the records; None: no images. Returns the summary.
        """
        if table is not None:
            self._write_records(table)
        summary = {"n": 0} if table is None else summarise(table)
        write_yaml(self.layout.summary, summary)
        return summary

    def add_run(self, facts):
        """Adds the facts, a dict, of a run that came to its end to runs.yaml."""
        earlier, path = {}, self.layout.runs
        with suppress(UserError):  # what the results were computed with is no reason to lose them
            earlier = read_yaml(path) if path.exists() else {}
        write_yaml(path, earlier | {f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f} UTC": facts})

    def _join_records(self):
        """The rows of all ranks, which are then in one file without torn rows; None without any."""
        table, own = read_rows(self.layout), self.layout
        if table is not None and (own.records_of_further_ranks or is_torn(own.records)):
            self._write_records(table)
        return table

    def _write_records(self, table):
        write_records(self.layout.records, table)
        for path in self.layout.records_of_further_ranks:
            path.unlink()

    # -- tuning --------------------------------------------------------------------------------------------------

    def begin_tuning(self):
        """UserError where write_tuned could not write."""
        with self._writing():
            self.layout.experiment.mkdir(parents=True, exist_ok=True)
        require_writable(self.layout.tuned, "--tune:")

    def read_trials(self):
        """What write_trials wrote, a list of dicts; [] where there is nothing like it."""
        try:
            return pd.read_csv(self.layout.trials, keep_default_na=False).to_dict("records")
        except (OSError, ValueError):
            return []

    def write_trials(self, trials):
        """Writes all that tuning has tried so far, a list of dicts."""
        write_text(self.layout.trials, pd.DataFrame(trials).to_csv(index=False))

    def write_tuned(self, words):
        """Writes the flags that tuning ended with, a text."""
        write_text(self.layout.tuned, f"{words}\n")
