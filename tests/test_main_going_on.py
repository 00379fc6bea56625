"""Runs of main.py that were cut short, that go on, or that are started again."""

import hashlib
import os
import re

import pytest
import torch
from main_runs import counterfactuals, explain, refuse
from scripts import contents, kill_when, output_of, run_script, start_script
from toy_celeba import write_celeba


def written(flags):
    """The number of files that a run has written so far; folders may be renamed while they are counted."""
    return sum(len(files) for _, _, files in os.walk(flags["output_path"]))


@pytest.mark.slow
@pytest.mark.parametrize("method", [{}, {"method": "maskdime", "mask_share": 0.2, "save_masks": True}], ids=str)
def test_a_run_killed_again_and_again_ends_like_an_unbroken_one(flags, method):
    flags |= {"batch_size": 2, "save_z_t": True} | method
    assert run_script("main.py", flags)[0] == 0
    unbroken = contents(flags["output_path"])

    flags |= {"output_path": flags["output_path"].parent / "killed"}
    experiment, kills = flags["output_path"] / "Results/exp", 0
    for files in (2, 12, 30, 45):  # kill once that many files are there: in the middle of a batch, or between two
        kills += kill_when(start_script("main.py", flags), lambda files=files: written(flags) >= files)
    assert kills >= 2 and not (experiment / "summary.yaml").exists()
    assert "are done already" in output_of(run_script("main.py", flags))
    killed = contents(flags["output_path"])
    # Where the results lie is the one thing that differs by design.
    for run in (unbroken, killed):
        run["Results/exp/flags.yaml"] = re.sub(rb"output_path: .*", b"", run["Results/exp/flags.yaml"])
    assert killed.keys() == unbroken.keys()
    assert [name for name in killed if killed[name] != unbroken[name]] == []


def test_a_run_that_goes_on_leaves_what_finished_images_have_as_it_is(flags):
    """They are computed again where they share a batch with others, but nothing of that is written."""
    flags |= {"batch_size": 3, "save_x_t": True, "save_z_t": True}
    records, _ = explain(flags)
    unbroken = contents(flags["output_path"])
    assert set(records["attempts"]) == {1, 2}
    path = flags["output_path"] / "Results/exp/records.csv"
    header, *lines = path.read_text().splitlines(keepends=True)
    for lost in ([7], [0, 4], [1, 2, 3, 6]):
        path.write_text("".join([header, *(line for i, line in enumerate(lines) if i not in lost)]))
        _, out = explain(flags)
        assert f"{len(lost)} images ({8 - len(lost)} of 8 are done already)" in out
        assert contents(flags["output_path"]) == unbroken


def test_a_finished_run_that_is_to_go_further_is_not_finished_until_it_has(flags, tmp_path):
    flags |= {"data_dir": write_celeba(tmp_path / "data", {"val": 8})}
    explain(flags | {"num_batches": 1})
    (tmp_path / "data/img_align_celeba/000005.jpg").unlink()
    refuse(flags | {"num_batches": 2}, "000005.jpg")
    assert not (flags["output_path"] / "Results/exp/summary.yaml").exists()


def test_a_finished_run_started_again_does_nothing_even_where_its_folder_was_moved(flags):
    explain(flags)
    before = contents(flags["output_path"])
    assert "0 images (8 of 8 are done already)" in explain(flags)[1]
    assert contents(flags["output_path"]) == before
    moved = flags["output_path"].rename(flags["output_path"].parent / "moved")
    assert "0 images (8 of 8 are done already)" in explain(flags | {"output_path": moved})[1]


def test_other_flags_in_the_same_experiment_are_refused_by_name(flags):
    explain(flags)
    before = contents(flags["output_path"])
    line = refuse(flags | {"seed": 7, "l1_loss": 0.2, "gpu": "1"}, "--seed 7 (was 4)", "--l1_loss 0.2 (was 0.05)")
    assert "--overwrite" in line and "--gpu" not in line
    assert contents(flags["output_path"]) == before


@pytest.mark.parametrize("flag", ["model_path", "classifier_path"])
def test_other_weights_under_the_same_name_are_refused_by_the_flags_name(flags, tmp_path, flag):
    path = tmp_path / "weights.pt"
    path.write_bytes(flags[flag].read_bytes())
    flags |= {flag: path, "num_batches": 1}
    explain(flags)
    state = torch.load(path)
    tensor = state["out.2.bias"] if flag == "model_path" else state["state_dict"]["threshold"]
    tensor += 0.01
    torch.save(state, path)
    line = refuse(flags, f"--{flag} sha256")
    assert line.count("sha256") == 1
    assert hashlib.sha256(path.read_bytes()).hexdigest()[:12] in line
    assert len(explain(flags | {"overwrite": True})[0]) == 3


def test_overwrite_starts_afresh(flags):
    explain(flags | {"save_z_t": True})
    records, out = explain(flags | {"overwrite": True, "num_batches": 1, "seed": 9})
    assert len(records) == 3 and "done already" not in out
    assert len(counterfactuals(flags["output_path"])) == 3
    assert not list((flags["output_path"] / "z_t/exp").iterdir())
