"""Names that are no UTF-8, and terminals that lack their letters."""

import os

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripts import call_script, output_of, run_python
from toy_classes import class_flags, write_classifier

from core.results.layout import Layout
from core.results.reading import hash_of, read_classes
from core.results.records import append_records, read_records, write_records
from guided_diffusion.script.storage import write_text

LATIN = b"caf\xe9"  # no UTF-8, as an old zip of Windows leaves names
NAMES = ("dunkel größe", "светлый", "明るい")


@pytest.fixture
def flags(toy_files, tmp_path):
    """Flags of a run on three folders of letters that few encodings have."""
    flags = class_flags(toy_files, tmp_path) | {"num_batches": 1}
    for old, new in zip(("blue", "green", "red"), NAMES, strict=True):
        (flags["data_dir"] / old).rename(flags["data_dir"] / new)
    write_classifier(flags["classifier_path"], "012")  # so they are called as the folders are
    return flags


def test_a_file_name_that_is_no_utf_8_is_explained_and_recorded(flags):
    folder = os.path.join(os.fsencode(flags["data_dir"]), NAMES[0].encode())
    os.rename(os.path.join(folder, b"0.png"), os.path.join(folder, LATIN + b".png"))
    flags["num_batches"] = 0
    output_of(call_script("main.py", flags))
    layout = Layout(flags["output_path"], "exp")
    names = read_records(layout.records)["image"]
    assert any(os.fsencode(name).endswith(LATIN + b".png") for name in names)
    assert "(9 of 9 are done already)" in output_of(call_script("main.py", flags))
    for script in ("report.py", "compute_FR.py"):
        name = "exp_names" if script == "report.py" else "exp_name"
        output_of(call_script(script, {"output_path": flags["output_path"], name: "exp"}))


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=lambda environment: next(iter(environment.values())),
)
def test_a_terminal_without_the_letters_shows_others(flags, environment):
    out = output_of(run_python("main.py", flags, **environment))
    assert "?" in out and "explaining" in out
    assert read_classes(Layout(flags["output_path"], "exp")) == NAMES


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONOPTIMIZE": "2"}], ids=str)
def test_help_is_shown_anywhere(environment):
    assert "--output_path" in output_of(run_python("report.py", ["--help"], **environment))


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.binary(min_size=1, max_size=12).map(os.fsdecode), min_size=1, max_size=4))
def test_any_name_of_a_file_survives_records(tmp_path, names):
    path = tmp_path / "records.csv"
    table = rows_of([name.replace("\0", "x") for name in names])
    write_records(path, table.iloc[:1])
    append_records(path, table.iloc[1:])
    assert list(read_records(path)["image"]) == list(table["image"]) and len(hash_of(table)) == 12


def rows_of(names):
    zeros = dict.fromkeys(("label", "pred", "target", "cf_pred", "attempts"), 0) | {"bkl": 0.0, "l_1": 0.0}
    return pd.DataFrame([{"id": number, "image": name, **zeros} for number, name in enumerate(names)])


def test_any_text_is_written(tmp_path):
    write_text(tmp_path / "text", os.fsdecode(LATIN))
    assert (tmp_path / "text").read_bytes() == LATIN
