"""Results folders that a user edited after main.py had written them: going on, and measuring."""

import shutil

import pytest
from main_runs import explain, explain_with_oracle, main_flags, measure, refuse
from scripts import contents, error_of, output_of

EXPERIMENT = "Results/exp"


@pytest.fixture(scope="module")
def finished(toy_files, tmp_path_factory):
    """Flags of a run that is finished; nobody may change its folder."""
    return explain_with_oracle(toy_files, tmp_path_factory.mktemp("finished") / "out")


@pytest.fixture
def flags(finished, tmp_path):
    """Flags of a copy of the finished run, to edit."""
    shutil.copytree(finished["output_path"], tmp_path / "out")
    flags = finished | {"output_path": tmp_path / "out"}
    path = experiment_of(flags) / "flags.yaml"
    path.write_text(path.read_text().replace(str(finished["output_path"]), str(tmp_path / "out")))
    return flags


def experiment_of(flags):
    return flags["output_path"] / EXPERIMENT


def refused(script, flags, *words):
    """The one line of a script that must refuse the results, and measure nothing."""
    line = error_of(measure(script, flags))
    assert all(str(word) in line for word in words), line
    assert not (experiment_of(flags) / "metrics.yaml").exists()


def test_an_image_that_the_records_have_twice_is_named(flags):
    path = experiment_of(flags) / "records.csv"
    *lines, last = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, last, last]))
    for script in ("compute_FR.py", "compute_MNAC.py"):
        refused(script, flags, "records.csv has image 7 twice", "remove one")
    refuse(flags, "records.csv has image 7 twice")


def test_records_of_a_header_alone_are_not_measured_and_going_on_restores_them(flags):
    path, before = experiment_of(flags) / "records.csv", contents(flags["output_path"])
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    refused("compute_FR.py", flags, "records.csv holds no rows; run main.py again")
    _, out = explain(flags)
    assert out.count("done already") == 0
    assert contents(flags["output_path"]) == before


def test_without_a_damaged_line_going_on_explains_its_image_again(flags):
    before, path = contents(flags["output_path"]), experiment_of(flags) / "records.csv"
    header, first, *others = path.read_text().splitlines(keepends=True)
    path.write_text("".join([header, first.replace(",", ",,", 1), *others]))
    refuse(flags, "records.csv is damaged in line 2")
    path.write_text("".join([header, *others]))
    assert "7 of 8 are done already" in explain(flags)[1]
    assert contents(flags["output_path"]) == before


def test_damaged_flags_are_not_gone_on_with(flags):
    path = experiment_of(flags) / "flags.yaml"
    path.write_text(path.read_text()[:100] + "\n: [")
    refuse(flags, "flags.yaml is damaged: it is not readable as YAML", "--overwrite True")


@pytest.mark.parametrize("part", ["CF", "Noise", "Info", "SM", "Original"])
def test_going_on_restores_files_that_were_deleted(flags, part):
    before = contents(flags["output_path"])
    lost = next(name for name in before if f"/{part}/" in f"/{name}")
    (flags["output_path"] / lost).unlink()
    _, out = explain(flags)
    assert "1 images" in out and "lack some of their files" in out and "7 of 8 are done already" in out
    assert contents(flags["output_path"]) == before
    if part == "Original":
        shutil.rmtree(flags["output_path"] / part)
        explain(flags)
        assert contents(flags["output_path"]) == before


def test_a_run_without_images_has_no_files_to_miss(toy_files, tmp_path):
    flags = main_flags(toy_files, tmp_path / "out") | {"save_images": False}
    explain(flags)
    assert "8 of 8 are done already" in explain(flags)[1]


@pytest.mark.parametrize("script", ["compute_MNAC.py", "compute_COUT.py"])
@pytest.mark.parametrize("original", [False, True], ids=["original kept", "original gone"])
def test_a_counterfactual_that_was_deleted_is_named_instead_of_passed_over(flags, script, original):
    lost = next(experiment_of(flags).glob("CC/CCF/CF/*.png"))
    lost.unlink()
    if original:
        (flags["output_path"] / "Original/Correct" / lost.name).unlink()
    refused(script, flags, "records.csv has 1 images whose counterfactuals are gone", lost.stem, "main.py")


def test_all_that_is_there_is_measured(flags):
    for script in ("compute_FR.py", "compute_MNAC.py", "compute_COUT.py"):
        output_of(measure(script, flags))


EDITS = [
    ("task: attributes", "task: 3"),
    ("task: attributes", "task: [attributes]"),
    ("query_label: '31'", "query_label: [31]"),
    ("query_label: '31'", "query_label: {a: 1}"),
    ("query_label: '31'", "query_label: true"),
    ("seed: 4", "seed: four"),
    ("seed: 4", "seed: -4"),
    ("save_images: true", "save_images: 'maybe'"),
    ("batch_size: 3", "batch_size: 1e3"),
    ("method: dime", "method: magic"),
    ("oracle_size: null", "oracle_size: big"),
    ("oracle_mean: null", "oracle_mean: {a: b}"),
    ("data_dir: ", "data_dir: true #"),
    ("data_dir: ", "data_dir: [x] #"),
]


def test_flags_of_a_type_that_they_have_not_are_named(flags):
    script = "compute_FR.py"  # it needs the least of them
    path = experiment_of(flags) / "flags.yaml"
    text = path.read_text()
    for old, new in EDITS:
        assert text.count(f"\n{old}") == 1 or text.startswith(old), old
        path.write_text(text.replace(old, new, 1))
        refused(script, flags, "flags.yaml in ", "is damaged", f"--{new.partition(':')[0]} ")
    of_days = b"day: 2020-99-99\n", b"day: 2020-01-01\n"
    for damaged in (b"", b"- a\n", b"a: [\n", b"\xff\xfe\n", *of_days, b"[" * 10_000):
        path.write_bytes(damaged)
        refused(script, flags, "flags.yaml", "is damaged")


@pytest.mark.parametrize("damage", ["label: nan\npred: 0\ntarget: 1\n", "label: 0\npred: 0\ntarget: -1\n"])
def test_an_info_whose_classes_are_none_is_named(flags, damage):
    path = next(experiment_of(flags).glob("CC/*/Info/*.txt"))
    path.write_text(damage)
    refused("compute_COUT.py", flags, path, "is no class; explain the image again")


ENTRIES = ["{value: 1}", "{value: x, n: 3}", "{value: 1, n: x}", "{value: 1, n: 3, interval: [1]}", "[1]"]


@pytest.mark.parametrize("entry", [*ENTRIES, "{value: [], n: 1}"])
def test_metrics_that_were_edited_are_named(flags, entry):
    path = experiment_of(flags) / "metrics.yaml"
    path.write_text(f"FR: {entry}\n")
    assert "metrics.yaml is damaged: FR" in error_of(measure("compute_FR.py", flags))
