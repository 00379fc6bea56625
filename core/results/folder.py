"""The results folder: its layout, which only this room knows, and writing it. reading.py reads it back.

OUTPUT_PATH/Original/{Correct,Incorrect}/<id>.png
OUTPUT_PATH/Results/EXP/{CC,IC}/{CCF,ICF}/{CF,Noise,Info,SM}/<id>.png|.txt   (Mask, Pre: --save_masks,
                                                               --save_pre_explanation)
OUTPUT_PATH/Results/EXP/summary.yaml, records.csv, flags.yaml   (chunked: chunk-<c>_num-chunks-<C>_…)
OUTPUT_PATH/Results/EXP/records-rank-<r>.csv                 (the rows of a further rank, until the run is finished)
OUTPUT_PATH/Results/EXP/classes.txt                             (the names of K classes, where they are asked about)
OUTPUT_PATH/Results/EXP/.lock                                (held while a run writes; chunked likewise)
OUTPUT_PATH/Results/EXP/runs.yaml                            (device, time, versions; chunked likewise)
OUTPUT_PATH/Results/EXP/tuned.txt, tuned.csv                 (by main.py --tune)
OUTPUT_PATH/Results/EXP/metrics.yaml, CD.png, similarity.csv    (by the compute_ scripts)
OUTPUT_PATH/Results/EXP/audit/                               (by audit.py; core/audit/kept.py says what is in it)
OUTPUT_PATH/Original/activations.npz, Results/EXP/activations.npz   (Inception's, kept for FID)
OUTPUT_PATH/{x_t,z_t}/EXP/<id>/<step>.png
OUTPUT_PATH/report/                                          (by report.py; it links to the images above)
"""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import pandas as pd
import torch

from guided_diffusion.script.errors import UserError
from guided_diffusion.script.storage import lock, remove_parts, require_writable, write_text

from ..data.images import read_image, to_uint8, write_png
from .records import (
    append_records,
    correct,
    flipped,
    is_torn,
    read_records,
    read_yaml,
    summarise,
    write_records,
    write_yaml,
)

COMPARED = 30  # originals that are held against those of a new run
ANOTHER_DECODER = 2  # grey levels, on average, by which decoders of the same file may differ
CHUNK = re.compile(r"chunk-(\d+)_num-chunks-(\d+)_flags\.yaml")  # name of the file with a chunk's flags


def image_id(i):
    return f"{i:07d}"


def experiment_folder(output_path, exp_name):
    """OUTPUT_PATH/Results/EXP; UserError names the flag where a name is empty or leads to another folder."""
    if not str(output_path):
        raise UserError("--output_path is empty; name the folder of the results")
    if exp_name in ("", "..") or Path(exp_name).name != exp_name:
        raise UserError(f"--exp_name {exp_name!r} is no name of a folder; give one without slashes, such as smile")
    return Path(output_path) / "Results" / exp_name


def chunk_files(experiment):
    """(chunk, number of chunks) -> name of the file with its flags, of all chunks in a folder."""
    names = sorted(path.name for path in experiment.glob("chunk-*_flags.yaml"))
    return {tuple(map(int, match.groups())): match.string for match in map(CHUNK.fullmatch, names) if match}


def require_experiments(output_path, exp_names):
    """UserError for the experiments that are not there. Asked after all others were measured, as it says."""
    folders = [experiment_folder(output_path, name) for name in exp_names]
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise UserError(
            f"{', '.join(missing)}: not there; check --exp_names, or run main.py. All else was measured"
        )


class ResultsFolder:
    """One experiment in an output folder, or one chunk of it. Raises UserError where it cannot be written.

    rank: of the process that writes, where several write one experiment. The first one begins and finishes it.
    """

    def __init__(self, output_path, exp_name, chunk=0, num_chunks=1, rank=0):
        self.root = Path(output_path)
        self.exp_name = exp_name
        self.experiment = experiment_folder(output_path, exp_name)
        self.chunk, self.num_chunks = chunk, num_chunks
        self.prefix = f"chunk-{chunk}_num-chunks-{num_chunks}_" if num_chunks > 1 else ""
        self.records_path = self.experiment / f"{self.prefix}records.csv"
        part = f"{self.prefix}records-rank-{rank}.csv"
        self.own_records_path = self.experiment / part if rank else self.records_path
        self.summary_path = self.experiment / f"{self.prefix}summary.yaml"
        self.flags_path = self.experiment / f"{self.prefix}flags.yaml"
        self.classes_path = self.experiment / "classes.txt"
        self.metrics_path = self.experiment / "metrics.yaml"
        self.chart_path = self.experiment / "CD.png"
        self.activations_path = self.experiment / "activations.npz"
        self.similarity_path = self.experiment / "similarity.csv"
        self.runs_path = self.experiment / f"{self.prefix}runs.yaml"
        self.original_activations_path = self.root / "Original" / "activations.npz"
        self.tuned_path = self.experiment / "tuned.txt"
        self.trials_path = self.experiment / "tuned.csv"
        self.audit_path = self.experiment / "audit"
        self.report_path = self.root / "report"

    @contextmanager
    def claimed(self):
        """In this context no other process writes this experiment, or chunk; UserError where one already does.

        Removes incomplete files that killed runs have left.
        """
        try:
            self.experiment.mkdir(parents=True, exist_ok=True)
            folder_lock = lock(
                self.experiment / f".{self.prefix}lock",
                f"{self.experiment} is being written by another run ({{holder}}); wait for it, "
                "or name another --exp_name",
            )
        except OSError as error:
            raise UserError(f"--output_path {self.root} cannot be written ({error.strerror})") from None
        try:
            trajectories = self.root.glob(f"?_t/{self.exp_name}/*")
            images = (*self.root.glob("Original/*"), *self.experiment.glob("?C/*CF/*"))
            for folder in (self.experiment, *images, *trajectories):
                remove_parts(folder)
            yield self
        finally:
            folder_lock.release()

    def begin(self, flags, overwrite=False, free=(), before=None):
        """Prepares the folder for a run with these flags -> the rows that an earlier run finished, or None.

        flags: name -> value, kept in flags.yaml; those named in `free` may differ from the earlier run's.
        before: name -> the value that counts where an older flags.yaml does not have the flag yet.
        The summary is removed, unless the earlier run had exactly these flags: with others, work may be left.
        """
        try:
            self._refuse_other_chunking()
            if overwrite:
                self.clear()
            self.experiment.mkdir(parents=True, exist_ok=True)
            earlier_flags = read_yaml(self.flags_path) if self.flags_path.exists() else {}
            if earlier_flags:
                earlier_flags = (before or {}) | earlier_flags
                self._refuse_other_flags(earlier_flags, flags, free)
            earlier = self._drop_incomplete(self._join_records(), flags)
            if earlier_flags:
                self._remove_images(() if earlier is None else earlier["id"])
            if flags != earlier_flags or earlier is None:
                self.summary_path.unlink(missing_ok=True)
            write_yaml(self.flags_path, flags)
        except OSError as error:
            raise UserError(f"--output_path {self.root} cannot be written ({error.strerror})") from None
        return earlier

    def _drop_incomplete(self, table, flags):
        """The rows of the images that have all their files; None without any. The others are explained again."""
        if table is None or not len(table):
            return None
        if not flags.get("save_images"):
            return table
        parts = _parts(flags.get("save_masks"), flags.get("save_pre_explanation"))
        complete = self._have_files(table, parts)
        if complete.all():
            return table
        lost = table["id"][~complete]
        print(f"{len(lost)} images, such as {image_id(lost.iloc[0])}, lack some of their files: explained again")
        self.summary_path.unlink(missing_ok=True)
        table = table[complete]
        write_records(self.records_path, table)
        return table if len(table) else None

    def _have_files(self, table, parts):
        """(N,) booleans: whether the files of the images are where write_images puts them, in whichever format."""
        stems = cache(lambda folder: {path.stem for path in folder.glob("*")})
        places = zip(table["id"], correct(table), flipped(table), strict=True)
        found = [all(image_id(i) in stems(each) for each in self._folders(parts, *place)) for i, *place in places]
        return pd.Series(found, table.index)

    def _folders(self, parts, is_correct, has_flipped):
        """Where the original of an image lies, and its parts."""
        original = self.root / "Original" / ("Correct" if is_correct else "Incorrect")
        folder = self.experiment / ("CC" if is_correct else "IC") / ("CCF" if has_flipped else "ICF")
        return original, *(folder / part for part in parts)

    def begin_tuning(self):
        """UserError where write_tuned could not write."""
        try:
            self.experiment.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--output_path {self.root} cannot be written ({error.strerror})") from None
        require_writable(self.tuned_path, "--tune:")

    def write_tuned(self, words, trials):
        """Keeps what was found by tuning: flags, a text, and a list of dicts of all that was tried."""
        write_text(self.trials_path, pd.DataFrame(trials).to_csv(index=False))
        write_text(self.tuned_path, f"{words}\n")

    def require_same_originals(self, indices, read):
        """UserError where another experiment here has explained other images under the same ids.

        Original/ is shared, so this run would replace what that experiment is measured by. indices: of this run's
        images; read(i) -> image i, uint8 (3, S, S). A few ids are compared, the first and the last among them.
        """
        owners = {
            path.stem: path.parts[-5]
            for path in self.root.glob("Results/*/?C/*CF/CF/*.*")
            if path.parts[-5] != self.exp_name
        }
        shared = [path for path in sorted(self.root.glob("Original/*/*.png")) if _is_shared(path, owners, indices)]
        for path in {*shared[:: len(shared) // COMPARED + 1], *shared[-1:]}:
            mine, kept = read(int(path.stem)), read_image(path)
            if mine.shape != kept.shape or (mine.float() - kept.float()).abs().mean() > ANOTHER_DECODER:
                raise UserError(
                    f"{path} is another image than this run's, and belongs to the experiment {owners[path.stem]}; "
                    "an --output_path is for one data set, one split and one --image_size: name another"
                )

    def clear(self):
        """Removes the files of earlier runs of this experiment, or chunk. Originals, which others share, stay."""
        measured = (self.metrics_path, self.chart_path, self.activations_path, self.similarity_path, self.runs_path)
        for path in (self.records_path, *self._rank_records(), self.summary_path, self.flags_path, *measured):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.audit_path, ignore_errors=True)
        self._remove_images()

    def _remove_images(self, finished=()):
        """Removes the files of the images that are not finished. An image that was half written might otherwise, if
        rounding changes its outcome, lie in two places."""
        finished = set(finished)
        trajectories = [path for kind in ("x_t", "z_t") for path in (self.root / kind / self.exp_name).glob("*")]
        for path in [*self.experiment.glob("?C/*CF/*/*.*"), *trajectories]:
            name = path.name.split(".")[0]
            if name.isdigit() and int(name) % self.num_chunks == self.chunk and int(name) not in finished:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _refuse_other_chunking(self):
        for path in sorted(self.experiment.glob("*flags.yaml")):
            match = CHUNK.fullmatch(path.name)
            if (int(match[2]) if match else 1) != self.num_chunks:
                # --overwrite does not clear it either: each chunk would remove what others have just written.
                folders = [self.experiment, *(self.root / kind / self.exp_name for kind in ("x_t", "z_t"))]
                raise UserError(
                    f"{self.experiment} holds {path.name} of a run with another --num_chunks; name another "
                    "--exp_name, or, before any chunk is started, remove "
                    f"{' and '.join(str(folder) for folder in folders if folder.is_dir())}"
                )

    def _refuse_other_flags(self, earlier, flags, free):
        differing = [
            f"--{name} {flags.get(name)} (was {earlier.get(name)})"
            for name in {**earlier, **flags}
            if name not in free and earlier.get(name) != flags.get(name)
        ]
        if differing:
            raise UserError(
                f"{self.experiment} was begun with other flags: {', '.join(differing)}; "
                "name another --exp_name, or give --overwrite True"
            )

    # -- writing -------------------------------------------------------------------------------------------------

    def write_images(self, table, images, explanation, masks=False, pre_explanations=False):
        """Writes the files of a batch: originals, counterfactuals, starts, difference maps and Info.

        table: the batch's records; images (N, 3, H, W) in [-1, 1]; explanation: their Explanation.
        masks, pre_explanations: whether these are written, too.
        """
        self._require_there()
        pixels, cf_pixels = to_uint8(images).cpu(), to_uint8(explanation.counterfactual).cpu()
        start = to_uint8(explanation.start).cpu()
        right, reached = correct(table), flipped(table)
        pre = to_uint8(explanation.pre_explanation).cpu() if pre_explanations else None
        parts = _parts(masks, pre_explanations)

        def write_row(row, record):
            name = image_id(record["id"])
            original, *folders = self._folders(parts, right[row], reached[row])
            folder = folders[0].parent
            for directory in (original, *folders):
                directory.mkdir(parents=True, exist_ok=True)
            write_png(original / f"{name}.png", pixels[row])
            write_png(folder / "CF" / f"{name}.png", cf_pixels[row])
            write_png(folder / "Noise" / f"{name}.png", start[row])
            write_png(folder / "SM" / f"{name}.png", difference_map(pixels[row], cf_pixels[row]))
            if masks:
                write_png(folder / "Mask" / f"{name}.png", 255 * explanation.mask[row, 0].to(torch.uint8).cpu())
            if pre_explanations:
                write_png(folder / "Pre" / f"{name}.png", pre[row])
            write_text(folder / "Info" / f"{name}.txt", _info(record))

        with ThreadPoolExecutor() as pool:  # so that no image waits until the one before is on the disk
            list(pool.map(write_row, range(len(table)), table.to_dict("records")))

    def keep_classes(self, names):
        """Writes what the classes are called, in their order; without names there is no such file."""
        if names:
            write_text(self.classes_path, "".join(f"{name}\n" for name in names))
        else:
            self.classes_path.unlink(missing_ok=True)

    def write_step(self, kind, ids, step, images):
        """Writes one step of trajectories. kind: x_t or z_t; images: (N, 3, H, W) in [-1, 1], one for each id."""
        for i, pixels in zip(ids, to_uint8(images).cpu(), strict=True):
            directory = self.root / kind / self.exp_name / image_id(i)
            directory.mkdir(parents=True, exist_ok=True)
            write_png(directory / f"{step:04d}.png", pixels)

    def commit(self, rows):
        """Adds rows to this rank's records. Write their images first: a row marks them as done."""
        self._require_there()
        append_records(self.own_records_path, rows)

    def _require_there(self):
        """UserError where the folder was removed meanwhile: what is written now would look like all of the run."""
        if not self.flags_path.exists():
            raise UserError(f"{self.experiment} has been removed, or its flags.yaml; start again")

    def records(self):
        """The rows of all ranks so far, sorted by id; None where there are none."""
        tables = []
        # Parts first: one that vanishes meanwhile has been joined to the whole, by a run that goes on.
        for path in [*self._rank_records(), self.records_path]:
            try:
                tables += [read_records(path)] if path.exists() else []
            except UserError:
                if path.exists():
                    raise
        if not tables:
            return None
        # A row is in two files where a process was killed while it joined them.
        return pd.concat(tables).drop_duplicates("id").sort_values("id").reset_index(drop=True)

    def finish(self, table):
        """Writes all the records into one file, and then the summary, which marks the run, or chunk, as complete.

        table: the records; None: no images. Returns the summary.
        """
        if table is not None:
            self._write_records(table)
        summary = {"n": 0} if table is None else summarise(table)
        write_yaml(self.summary_path, summary)
        return summary

    def keep_run(self, facts):
        """Adds to runs.yaml what is to be remembered of a run that came to its end; facts: a dict."""
        earlier = {}
        with suppress(UserError):  # what the results were computed with is no reason to lose them
            earlier = read_yaml(self.runs_path) if self.runs_path.exists() else {}
        write_yaml(self.runs_path, earlier | {f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S.%f} UTC": facts})

    def keep_similarities(self, pairs, cosines):
        """Writes the cosine of the features of each of the Pairs, one for each."""
        table = pd.DataFrame({"id": [pair.id for pair in pairs], "cosine": [round(float(c), 6) for c in cosines]})
        write_text(self.similarity_path, table.to_csv(index=False))

    def _rank_records(self):
        """The records of further ranks."""
        return sorted(self.experiment.glob(f"{self.prefix}records-rank-*.csv"))

    def _join_records(self):
        """What records() returns, which is then in one file without torn rows."""
        table = self.records()
        if table is not None and (self._rank_records() or is_torn(self.records_path)):
            self._write_records(table)
        return table

    def _write_records(self, table):
        write_records(self.records_path, table)
        for path in self._rank_records():
            path.unlink()


def _is_shared(path, owners, indices):
    """Whether an original is one that another experiment explained, and that this run may explain, too."""
    return path.stem in owners and path.stem.isdecimal() and int(path.stem) in indices


def _parts(masks, pre_explanations):
    """The folders of an image's files."""
    return ("CF", "Noise", "Info", "SM", *["Mask"] * bool(masks), *["Pre"] * bool(pre_explanations))


def difference_map(pixels, cf_pixels):
    """Two uint8 (3, H, W) -> uint8 (H, W): Σ_c |x - cf| scaled to its maximum; all 0 where they are equal."""
    difference = (pixels.float() - cf_pixels.float()).abs().sum(0)
    return (255 * difference / difference.max().clamp(min=1)).round().to(torch.uint8)


def _info(record):
    return (
        f"label: {record['label']}\npred: {record['pred']}\ntarget: {record['target']}\n"
        f"cf pred: {record['cf_pred']}\nBKL: {record['bkl']:.6f}\nl_1: {record['l_1']:.6f}\n"
    )
