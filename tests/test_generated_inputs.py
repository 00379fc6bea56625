"""What users edit, generated: whatever they give, there is an answer or one line, and no half-written file.

Each file is one that our own scripts wrote, in which a value was changed, or bytes were lost or altered.
"""

import contextlib
import io
import math
import shutil
import sys
from unittest import mock

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from main_runs import explain_with_oracle, measure
from PIL import Image
from scripts import call_script
from test_flags import all_parsers

from core.data.datasets import read_labels
from core.data.images import read_image, write_png
from core.data.loading import find_reader
from core.results.records import read_records, summarise
from guided_diffusion.script.errors import UserError
from guided_diffusion.script_util import create_model_and_diffusion, model_and_diffusion_defaults
from models.checkpoints import load_diffusion
from models.classifiers import load_classifier

# The same examples at every run, so that a failure is the change's own. The examples of a test share its folder.
CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
settings.register_profile("project", derandomize=True, deadline=None, database=None, suppress_health_check=CHECKS)
settings.load_profile("project")

TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
LIMITS = st.sampled_from([0, -1, 2**31, 2**63, 999_999_999_999, 1e38, 1e-38])
NUMBERS = st.one_of(st.integers(), st.floats(), LIMITS)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.dates())
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=4
)
WORDS = TEXTS | NUMBERS.map(str) | st.sampled_from(["", "True", "auto", "8,,10", "1e999", "--", "-1", "nan"])


@contextlib.contextmanager
def one_line():
    """Lets a UserError of one line pass, and nothing else."""
    try:
        yield
    except UserError as error:
        assert str(error) and "\n" not in str(error), repr(error)


def damaged(data, path):
    """Damages a file in one place: what follows is cut off, or bytes are put in, or changed."""
    whole = path.read_bytes()
    place = data.draw(st.integers(0, max(len(whole) - 1, 0)))
    kind = data.draw(st.sampled_from(["cut", "insert", "change"]))
    extra = data.draw(st.binary(min_size=1, max_size=8))
    tail = {"cut": b"", "insert": extra + whole[place:], "change": extra + whole[place + len(extra) :]}[kind]
    path.write_bytes(whole[:place] + tail)


def test_an_error_is_one_line_whatever_it_quotes():
    assert str(UserError("a.pt calls an output a\nb\u2028c")) == "a.pt calls an output a b c"


# -- flags -------------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.data())
def test_any_word_for_any_flag_is_a_value_or_one_line(data):
    script, parser = data.draw(st.sampled_from(all_parsers()))
    flags = parser.flags
    chosen = data.draw(st.lists(st.sampled_from(sorted(flags)), min_size=1, max_size=3))
    words = [word for name in chosen for word in (f"--{name}", data.draw(WORDS))]
    err = io.StringIO()
    with contextlib.redirect_stderr(err), mock.patch.object(sys, "argv", [script]):
        try:
            with one_line():
                parser.parse_args(words)
        except SystemExit as exit:
            assert exit.code == 2 and err.getvalue().count("error: ") == 1


@pytest.mark.slow
@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(sorted(model_and_diffusion_defaults())), VALUES, min_size=1, max_size=3))
def test_any_flag_that_a_weight_file_says_is_compared_or_one_line(toy_files, tmp_path, said):
    state = torch.load(toy_files / "ddpm.pt")
    state._metadata[""]["flags"].update({name: value for name, value in said.items() if not hasattr(value, "year")})
    torch.save(state, tmp_path / "ddpm.pt")
    flags = model_and_diffusion_defaults() | torch.load(toy_files / "ddpm.pt")._metadata[""]["flags"]
    model, _ = create_model_and_diffusion(**flags)
    with one_line():
        load_diffusion(model, tmp_path / "ddpm.pt", flags)


# -- weight files ------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_weight_file_is_loaded_or_one_line(toy_files, tmp_path, data):
    path = tmp_path / "classifier.pt"
    shutil.copy(toy_files / "classifier.pt", path)
    damaged(data, path)
    with one_line():
        load_classifier(path, "toy_networks:Brightness")


@settings(max_examples=150)
@given(name=st.sampled_from(["architecture", "attributes", "task", "image_size", "state_dict"]), value=VALUES)
def test_a_weight_file_that_says_anything_is_loaded_or_one_line(toy_files, tmp_path, name, value):
    if isinstance(value, int) and value > 10**6 and name == "image_size":
        value = 10**30  # what fits in memory here would take minutes
    try:
        torch.save(torch.load(toy_files / "classifier.pt") | {name: value}, tmp_path / "classifier.pt")
    except OverflowError:
        return
    with one_line():
        classifier = load_classifier(tmp_path / "classifier.pt", "toy_networks:Brightness")
        assert all(isinstance(each, str) for each in classifier.attributes)


# -- images and tables -------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(data=st.data(), suffix=st.sampled_from([".png", ".jpg"]))
def test_a_damaged_image_is_read_or_one_line(tmp_path, data, suffix):
    path = tmp_path / f"image{suffix}"
    write_png(tmp_path / "image.png", torch.arange(3 * 16 * 16).reshape(3, 16, 16).to(torch.uint8))
    if suffix == ".jpg":
        Image.open(tmp_path / "image.png").save(path)
    damaged(data, path)
    with one_line():
        pixels = read_image(path, 8)
        assert pixels.shape == (3, 8, 8) and pixels.dtype == torch.uint8


@settings(max_examples=120)
@given(st.data())
def test_a_damaged_list_of_celeba_is_read_or_one_line(toy_files, tmp_path, data):
    for name in ("list_attr_celeba.csv", "list_eval_partition.csv"):
        shutil.copy(toy_files / "data" / name, tmp_path / name)
    damaged(data, tmp_path / data.draw(st.sampled_from(["list_attr_celeba.csv", "list_eval_partition.csv"])))
    with one_line():
        assert len(read_labels(tmp_path, "val"))


@settings(max_examples=120)
@given(st.lists(st.lists(st.one_of(SCALARS.map(str), TEXTS), min_size=1, max_size=4), max_size=5))
def test_any_table_of_images_is_read_or_one_line(tmp_path, rows):
    write_png(tmp_path / "a.png", torch.zeros(3, 8, 8, dtype=torch.uint8))
    lines = ["path,Smiling,partition", "a.png,1,1", *(",".join(row) for row in rows)]
    (tmp_path / "images.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with one_line():
        dataset = find_reader(tmp_path / "images.csv")(tmp_path / "images.csv", "val", 8)
        assert len(dataset) and dataset[0][0].shape == (3, 8, 8)


# -- results -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(toy_files, tmp_path_factory):
    """(the flags of a finished run with an oracle, to edit the folder of; a copy of that, for nobody to change)."""
    flags = explain_with_oracle(toy_files, tmp_path_factory.mktemp("finished") / "out")
    return flags, shutil.copytree(flags["output_path"], flags["output_path"].with_name("copy"))


@pytest.fixture
def restored(finished):
    """Gives the finished run its files back, and returns (its flags, its experiment)."""
    flags, copy = finished

    def restore():
        shutil.rmtree(flags["output_path"])
        shutil.copytree(copy, flags["output_path"])
        return flags, flags["output_path"] / "Results/exp"

    return restore


def succeeds_or_one_line(flags, end):
    code, _, err = end
    assert code in (0, 2) and "Traceback" not in err, err
    assert code == 0 or err.count(".py: error: ") == 1, err
    assert not list(flags["output_path"].rglob("*.part"))


def measured_or_one_line(flags, scripts):
    for script in scripts:
        succeeds_or_one_line(flags, measure(script, flags))


METRICS = ("compute_FR.py", "compute_MNAC.py", "compute_CD.py", "compute_COUT.py")


@settings(max_examples=20)
@given(data=st.data())
def test_flags_with_any_value_are_measured_or_one_line(restored, data):
    flags, experiment = restored()
    recorded = yaml.safe_load((experiment / "flags.yaml").read_text())
    names = ["task", "query_label", "data_dir", "oracle_path", "oracle_size", "oracle_mean", "save_images"]
    name = data.draw(st.one_of(st.sampled_from(names), st.sampled_from(sorted(recorded))))
    recorded[name] = data.draw(VALUES)
    (experiment / "flags.yaml").write_text(yaml.safe_dump(recorded), encoding="utf-8")
    measured_or_one_line(flags, METRICS)


@pytest.mark.slow
@settings(max_examples=40)
@given(data=st.data(), name=st.sampled_from(["flags.yaml", "records.csv", "metrics.yaml", "summary.yaml"]))
def test_damaged_results_are_measured_or_one_line(restored, data, name):
    flags, experiment = restored()
    if name == "metrics.yaml":
        assert call_script("compute_FR.py", {"output_path": flags["output_path"]})[0] == 0
    damaged(data, experiment / name)
    measured_or_one_line(flags, METRICS[:2])


@pytest.mark.slow
@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_image_or_info_is_measured_or_one_line(restored, data):
    flags, _ = restored()
    files = sorted(path for path in flags["output_path"].rglob("*") if path.suffix in (".png", ".txt"))
    damaged(data, data.draw(st.sampled_from(files)))
    measured_or_one_line(flags, ("compute_MNAC.py", "compute_COUT.py"))


@settings(max_examples=150)
@given(data=st.data())
def test_damaged_records_are_summarised_or_one_line(finished, tmp_path, data):
    path = tmp_path / "records.csv"
    shutil.copy(finished[1] / "Results/exp/records.csv", path)
    damaged(data, path)
    with one_line():
        table = read_records(path)
        if len(table):
            assert all(math.isfinite(summarise(table)[name]) for name in ("cf acc", "bkl", "l_1"))


@pytest.mark.slow
@settings(max_examples=25)
@given(data=st.data(), name=st.sampled_from(["flags.yaml", "records.csv", "summary.yaml"]))
def test_a_run_of_damaged_results_goes_on_or_is_one_line(restored, data, name):
    flags, experiment = restored()
    damaged(data, experiment / name)
    succeeds_or_one_line(flags, call_script("main.py", flags))
