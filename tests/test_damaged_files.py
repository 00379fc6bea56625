"""Files of results that were damaged, or made to do harm: each is refused by one bounded reader of its kind."""

import json
import os
import sys
import time

import pytest
from assertions import refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from main_runs import explain, refuse
from scripts import call_script, error_of, output_of
from test_results_folder import run_chunks

from core.report.site import COPIED
from core.results.folder import ResultsFolder
from core.results.layout import FINDINGS, Layout, means_the_same
from core.results.merging import merge_chunks
from core.results.records import MOST_CLASSES, read_records, read_yaml, write_yaml
from core.running.question import read_question
from guided_diffusion import dist_util
from guided_diffusion.dist_util import peak_memory, pick_device
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.storage import write_folder

BOMB = "a0: &a0 [x, x]\n"
for level in range(1, 10):
    BOMB += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n"
HARMFUL = {
    "a circle of aliases": "a: &a [*a]",
    "ten levels of aliases": BOMB,
    "a number as a name": "1: a",
    "a date as a name": "2026-01-01: a",
    "nothing as a name": "null: a",
    "a name below": "a: {b: {3: c}}",
    "400 digits": f"a: {'9' * 400}",
    "a date": "a: 2026-01-01",
    "bytes": "a: !!binary aGk=",
    "a set": "a: !!set {b, c}",
    "code": "a: !!python/object/apply:os.system [true]",
    "deep": "[" * 5000,
    "too large": f"a: {'x' * 2**24}",
}
HARMFUL |= {
    text[:20]: f"a: {text}"
    for text in ("!!bool foo", '!!int ""', '!!float ""', "!!timestamp foo", f"1{':59' * 300}.5")
}


@pytest.mark.parametrize("text", HARMFUL.values(), ids=HARMFUL)
@pytest.mark.parametrize("name", ["flags.yaml", "runs.yaml", "metrics.yaml", "audit.yaml"])
def test_a_yaml_file_holds_what_this_program_writes_or_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    began = time.monotonic()
    assert "is damaged" in refusal(UserError, read_yaml, tmp_path / name)
    assert time.monotonic() - began < 20


def test_what_is_written_is_read_back(tmp_path):
    shared = ["a", 1, 0.5, None, True]
    values = {"a": shared, "b": shared, "c": {"d": [shared, {"e": -(2**62)}]}, "größe": "2026-01-01"}
    write_yaml(tmp_path / "x.yaml", values)
    assert read_yaml(tmp_path / "x.yaml") == values


HEADER = "id,image,label,pred,target,cf_pred,attempts,bkl,l_1"


@pytest.mark.parametrize("column", ["label", "pred", "target", "cf_pred"])
@pytest.mark.parametrize("value", ["-1", "1.5", "999999999", str(MOST_CLASSES), "²", "nan"])
def test_a_class_that_is_none_is_damage(tmp_path, column, value):
    cells = dict(zip(HEADER.split(","), ("0", "a.png", "1", "0", "1", "1", "1", "0.5", "0.1"), strict=True))
    (tmp_path / "records.csv").write_text(f"{HEADER}\n{','.join((cells | {column: value}).values())}\n")
    assert "damaged in line 2" in refusal(UserError, read_records, tmp_path / "records.csv")


def test_a_chunk_of_a_number_without_end_costs_no_time(tmp_path):
    run_chunks(tmp_path)
    for path in (tmp_path / "Results/exp").glob("chunk-*"):
        path.unlink()
    write_yaml(tmp_path / "Results/exp/chunk-0_num-chunks-999999999_flags.yaml", {"seed": 0})
    message = refusal(UserError, merge_chunks, Layout(tmp_path, "exp"))
    assert "lacks finished chunks of 999999999" in message and len(message) < 600


# -- folders of somebody else ------------------------------------------------------------------------------------


def test_a_folder_is_replaced_only_where_it_is_marked_as_ones_own(tmp_path):
    folder = tmp_path / "folder"

    def write(text):
        with write_folder(folder, "mark") as part:
            (part / "mark").write_text(text)

    write("first")
    write("second")
    (folder / "mark").rename(folder / "notes")
    assert f"{folder} holds files that are not of this program" in refusal(UserError, write, "third")
    assert (folder / "notes").read_text() == "second"
    (folder / "notes").unlink()
    write("fourth")
    assert (folder / "mark").read_text() == "fourth"


def test_what_others_keep_in_report_and_audit_is_left_alone(flags):
    explain(flags)
    output = flags["output_path"]
    report = {"output_path": output, "exp_names": "exp"}
    output_of(call_script("report.py", report))
    assert (output / "report" / COPIED[1]).exists()
    output_of(call_script("report.py", report))
    for folder, script in ((output / "report", "report.py"), (output / "Results/exp/audit", "audit.py")):
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.mkdir(exist_ok=True)
        (folder / "thesis.tex").write_text("mine")
        further = {"classifier_architecture": flags["classifier_architecture"]} if script == "audit.py" else {}
        assert str(folder) in error_of(call_script(script, report | further))
        assert (folder / "thesis.tex").read_text() == "mine"
    explain(flags | {"overwrite": True})
    assert (output / "Results/exp/audit/thesis.tex").exists()
    write_yaml(output / "Results/exp/audit" / FINDINGS, {})
    explain(flags | {"overwrite": True})
    assert not (output / "Results/exp/audit").exists()


# -- paths and values --------------------------------------------------------------------------------------------


def test_a_path_may_be_written_in_another_way_when_a_run_goes_on(flags, tmp_path, monkeypatch):
    explain(flags)
    monkeypatch.chdir(tmp_path)
    for data in (f"{flags['data_dir']}/", f"{flags['data_dir']}/../data"):
        assert "are done already" in explain(flags | {"data_dir": data})[1]
    refuse(flags | {"data_dir": tmp_path}, "--data_dir")


NAMES = st.text("abä .-_", min_size=1, max_size=5).filter(lambda name: name.strip(".") != "")


@settings(deadline=None)
@given(parts=st.lists(NAMES, min_size=1, max_size=4), detour=NAMES, other=NAMES)
def test_paths_of_one_place_mean_the_same_and_no_others_do(parts, detour, other):
    path = "/".join(parts)
    for written in (f"{path}/", f"./{path}", f"{path}/{detour}/..", f".//{path}//", f"{os.getcwd()}/{path}"):
        assert means_the_same("data_dir", path, written) and not means_the_same("query_label", path, written)
    assert not means_the_same("data_dir", path, f"{path}/{other}") and not means_the_same("data_dir", path, None)


def test_the_home_is_found_where_a_shell_leaves_it(flags, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    words = [f"--{name}={value}" for name, value in (flags | {"output_path": "~/x"}).items()]
    output_of(call_script("main.py", words))
    assert (tmp_path / "x/Results/exp/summary.yaml").exists() and not (tmp_path / "~").exists()


@pytest.mark.parametrize("change", [{"guided_iterations": 0}, {"method": "ace", "iterations": 0}], ids=str)
def test_settings_that_explain_nothing_are_refused(flags, change):
    name = [*change][-1]
    refuse(flags | change, f"--{name} 0")


def test_a_digit_that_is_no_number_is_a_name(tmp_path):
    layout = Layout(tmp_path, "exp")
    assert read_question(layout, {"query_label": "²"}).attribute == "²"
    path = layout.part(True, True, "CF") / "².png"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    ResultsFolder(layout).clear()
    assert path.exists()


@pytest.mark.parametrize("gpu", ["²", "٣x", "1.5"])
def test_what_is_no_number_is_no_gpu(gpu):
    assert "is no index of a GPU" in refusal(UserError, pick_device, gpu)


def test_the_most_memory_is_known_without_the_module_resource(monkeypatch):
    class Memory:
        peak_wset = 12345

    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr("psutil.Process.memory_info", lambda process: Memory)
    assert peak_memory(pick_device(-1)) == 12345 and "resource" not in vars(dist_util)


# -- code of one's own -------------------------------------------------------------------------------------------


def test_a_network_in_the_folder_that_one_starts_from_is_found(flags, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here/mine_alone.py").write_text("from toy_networks import brightness as build\n")
    (tmp_path / "here/models").mkdir()
    (tmp_path / "here/models/net.py").write_text("from toy_networks import brightness as build\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [*sys.path])
    del flags["classifier_architecture"]
    explain(flags | {"classifier_path": "mine_alone:build"})
    refuse(flags | {"classifier_path": "models.net:build"}, "models is a package of this program")


def test_a_tuning_that_was_stopped_goes_on(flags, monkeypatch):
    from core.running import tuning

    flags |= {"method": "inversion", "classifier_scales": "5,100", "tune": 2}
    tried, trial = [], tuning._Tuner.trial

    def counted(tuner, changed, bar):
        if len(tried) == 3:
            tried.clear()
            raise KeyboardInterrupt
        tried.append(changed)
        return trial(tuner, changed, bar)

    monkeypatch.setattr(tuning._Tuner, "trial", counted)
    assert call_script("main.py", flags)[0] == 130
    monkeypatch.setattr(tuning._Tuner, "trial", lambda *given: tried.append(given[1]) or trial(*given))
    out = output_of(call_script("main.py", flags))
    path = flags["output_path"] / "Results/exp/tuned.csv"
    rows = path.read_text().splitlines()
    assert len(tried) == len(rows) - 1 - 3 and "written to" in out
    output_of(call_script("main.py", flags | {"seed": 9}))
    assert len(tried) == 2 * (len(rows) - 1) - 3  # another seed is another search


# -- configurations of diffusers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"layers_per_block": 10**9}, {"layers_per_block": "2"}, {"block_out_channels": [10**9]}, {"sample_size": "8"}]
    + [{"num_class_embeds": "ten"}, {"sample_size": 0}, {"sample_size": True}],
    ids=str,
)
def test_numbers_of_a_network_that_cannot_be_made_are_refused(tmp_path, change):
    diffusers_models = pytest.importorskip("models.diffusers_models")
    config = {"_class_name": "UNet2DModel", "sample_size": 8} | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = diffusers_models._Config(tmp_path / "config.json")
    variance = diffusers_models.VARIANCES["fixed_small"]
    message = refusal(UserError, diffusers_models._read_network, read, variance)
    assert next(iter(change)) in message and str(tmp_path) in message


@pytest.mark.parametrize("text", ["[" * 100_000, "[1]", '"x"', "\xff"], ids=["deep", "list", "text", "bytes"])
def test_a_configuration_that_is_none_is_refused(tmp_path, text):
    diffusers_models = pytest.importorskip("models.diffusers_models")
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    assert "copy or download it again" in refusal(UserError, diffusers_models._Config, tmp_path / "config.json")
