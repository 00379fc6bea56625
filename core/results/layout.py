"""The results folder: its files and folders, which this file alone names, but for what lies in audit/ and report/.

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
OUTPUT_PATH/Results/EXP/truth.yaml, truth.csv                (by demo.truth)
OUTPUT_PATH/Results/EXP/audit/                               (by audit.py; core/audit/ says what is in it)
OUTPUT_PATH/Original/activations.npz, Results/EXP/activations.npz   (Inception's, for FID)
OUTPUT_PATH/{x_t,z_t}/EXP/<id>/<step>.png
OUTPUT_PATH/report/                                          (by report.py; it links to the images above)
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from guided_diffusion.script.errors import UserError

CLASSIFIED = {"CC": True, "IC": False}  # folder -> whether the classifier was right about the original
REACHED = {"CCF": True, "ICF": False}  # folder -> whether the counterfactual reached its target
PARTS = ("CF", "Noise", "Info", "SM")  # what every explained image has
TRAJECTORIES = ("x_t", "z_t")
FINDINGS = "audit.yaml"  # of an audit, whose folder it marks as one that may be replaced
_RESULTS, _ORIGINAL = "Results", "Original"
_ORIGINALS = {True: "Correct", False: "Incorrect"}
_CHUNK_FLAGS = re.compile(r"chunk-(\d+)_num-chunks-(\d+)_flags\.yaml")


def image_id(i):
    """The name of the files of image i, its index in the whole data set."""
    return f"{i:07d}"


def experiment_names(output_path):
    """The names of the experiments in an output folder, sorted."""
    return sorted(path.name for path in (Path(output_path) / _RESULTS).glob("*") if path.is_dir())


def beside(counterfactual, part):
    """Where another part, such as Info, of the image of a counterfactual lies, but for its suffix."""
    return counterfactual.parents[1] / part / counterfactual.name


def means_the_same(flag, value, other):
    """Whether two values of a flag are the same: equal, or paths of one place, such as db and db/."""
    paths = flag.endswith(("_path", "_dir", "_weights")) and isinstance(value, str) and isinstance(other, str)
    return value == other or paths and Path(value).resolve() == Path(other).resolve()


def _file(name):
    """A file of the experiment; {prefix} stands for what the names of a chunk's own files begin with."""
    return property(lambda layout: layout.experiment / name.format(prefix=layout.prefix))


@dataclass(frozen=True)
class Layout:
    """The paths of one experiment in an output folder, or of one chunk of it.

    UserError names the flag where a name is empty or leads to another folder.
    """

    output_path: Path
    exp_name: str
    chunk: int = 0
    num_chunks: int = 1

    def __post_init__(self):
        if not str(self.output_path):
            raise UserError("--output_path is empty; name the folder of the results")
        if self.exp_name in ("", "..") or Path(self.exp_name).name != self.exp_name:
            raise UserError(
                f"--exp_name {self.exp_name!r} is no name of a folder; give one without slashes, such as smile"
            )
        object.__setattr__(self, "output_path", Path(self.output_path))

    # -- the experiment ------------------------------------------------------------------------------------------

    records, summary = _file("{prefix}records.csv"), _file("{prefix}summary.yaml")
    flags, runs, lock = _file("{prefix}flags.yaml"), _file("{prefix}runs.yaml"), _file(".{prefix}lock")
    classes = _file("classes.txt")
    metrics_lock = _file(".metrics.lock")
    metrics, chart, similarity = _file("metrics.yaml"), _file("CD.png"), _file("similarity.csv")
    activations = _file("activations.npz")
    truth, truth_of_images = _file("truth.yaml"), _file("truth.csv")
    tuned, trials = _file("tuned.txt"), _file("tuned.csv")
    audit = _file("audit")

    @property
    def experiment(self):
        return self.output_path / _RESULTS / self.exp_name

    @property
    def prefix(self):
        return f"chunk-{self.chunk}_num-chunks-{self.num_chunks}_" if self.num_chunks > 1 else ""

    def records_of_rank(self, rank):
        """Where a rank writes its rows while the run goes on."""
        return self.experiment / f"{self.prefix}records-rank-{rank}.csv" if rank else self.records

    @property
    def records_of_further_ranks(self):
        """The files that are there, sorted."""
        return sorted(self.experiment.glob(f"{self.prefix}records-rank-*.csv"))

    def part(self, right, reached, name):
        """The folder of a part of the images, such as CF. right, reached: values of CLASSIFIED and REACHED."""
        return self.experiment / ("CC" if right else "IC") / ("CCF" if reached else "ICF") / name

    @property
    def part_folders(self):
        """The folders that every experiment has, and the two of originals."""
        places = [(right, reached) for right in (True, False) for reached in (True, False)]
        parts = [self.part(*place, name) for place in places for name in PARTS]
        return [*parts, self.originals(True), self.originals(False)]

    @property
    def image_folders(self):
        """The folders of originals, and of this experiment's images, that are there."""
        return [*(self.output_path / _ORIGINAL).glob("*"), *self.experiment.glob("?C/*CF/*")]

    def image_files(self):
        """The files of all images of the experiment, in whatever format."""
        return self.experiment.glob("?C/*CF/*/*.*")

    # -- what several experiments share --------------------------------------------------------------------------

    def originals(self, right):
        return self.output_path / _ORIGINAL / _ORIGINALS[right]

    @property
    def original_activations(self):
        return self.output_path / _ORIGINAL / "activations.npz"

    @property
    def report(self):
        return self.output_path / "report"

    def trajectory(self, kind, i=None):
        """The folder of an image's steps, or of those of all. kind: one of TRAJECTORIES; i: an image_id."""
        folder = self.output_path / kind / self.exp_name
        return folder if i is None else folder / i

    @property
    def others(self):
        """The Layouts of the other experiments in the output folder."""
        names = experiment_names(self.output_path)
        return [replace(self, exp_name=name, chunk=0, num_chunks=1) for name in names if name != self.exp_name]

    # -- chunks --------------------------------------------------------------------------------------------------

    @property
    def whole(self):
        """The Layout of the experiment that this is a chunk of."""
        return replace(self, chunk=0, num_chunks=1)

    @property
    def chunks(self):
        """The Layouts of the chunks that were begun, sorted by the names of their files."""
        names = sorted(path.name for path in self.experiment.glob("chunk-*_flags.yaml"))
        numbers = [map(int, match.groups()) for match in map(_CHUNK_FLAGS.fullmatch, names) if match]
        return [replace(self, chunk=chunk, num_chunks=total) for chunk, total in numbers]
