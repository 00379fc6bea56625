import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from assertions import refusal
from five_explanations import CF_PIXELS, PIXELS, explained, records
from PIL import Image

from core.data.images import from_uint8, read_image
from core.results.folder import ResultsFolder
from core.results.layout import Layout, image_id
from core.results.merging import merge_chunks
from core.results.pictures import difference_map, write_images, write_step
from core.results.reading import read_pairs, read_rows
from core.results.records import summarise
from core.running.run import read_run
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.storage import _part

FLAGS = {"seed": 4, "l1_loss": 1e-5, "scales": "8,10", "oracle_path": None, "use_ddim": False, "gpu": "0"}


def begin(root, overwrite=False, free=(), exp_name="exp", chunk=0, num_chunks=1, **flags):
    flags = FLAGS | {"chunk": chunk, "num_chunks": num_chunks} | flags
    return ResultsFolder(Layout(root, exp_name, chunk, num_chunks)).begin(flags, overwrite, free)


def run(root, exp_name="exp", chunk=0, num_chunks=1, finish=True, **flags):
    """Writes those of the five images that belong to the chunk, as main.py would; returns the folder."""
    begin(root, free=("gpu",), exp_name=exp_name, chunk=chunk, num_chunks=num_chunks, **flags)
    folder = ResultsFolder(Layout(root, exp_name, chunk, num_chunks))
    table, whole = records(), explained()
    rows = torch.tensor([i % num_chunks == chunk for i in table["id"]])
    part = table[rows.numpy()].reset_index(drop=True)
    if len(part):
        of_part = replace(whole, counterfactual=whole.counterfactual[rows], start=whole.start[rows])
        write_images(folder.layout, part, from_uint8(PIXELS)[rows], of_part)
        folder.commit(part)
    if finish:
        folder.finish(part if len(part) else None)
    return folder


def run_chunks(root, num_chunks=2, **flags):
    return [run(root, chunk=chunk, num_chunks=num_chunks, **flags) for chunk in range(num_chunks)]


def sorted_records():
    return records().sort_values("id").reset_index(drop=True)


def files(root):
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


# -- writing -----------------------------------------------------------------------------------------------

OF_IMAGES = {
    f"Results/exp/{place}/{part}/{name}.{'txt' if part == 'Info' else 'png'}"
    for place, names in {"CC/CCF": (30, 9), "IC/CCF": (7,), "CC/ICF": (101, 4)}.items()
    for name in map(image_id, names)
    for part in ("CF", "Noise", "Info", "SM")
}
CORRECT = {f"Original/Correct/{image_id(i)}.png" for i in (30, 101, 9, 4)}
ORIGINALS = CORRECT | {"Original/Incorrect/0000007.png"}
TABLES = {f"Results/exp/{name}" for name in ("records.csv", "summary.yaml", "flags.yaml")}


def test_the_folder_is_the_one_of_the_release_and_holds_the_images_as_they_are(tmp_path):
    folder = run(tmp_path)
    assert files(tmp_path) == OF_IMAGES | ORIGINALS | TABLES
    assert image_id(7) == "0000007"
    assert torch.equal(read_image(tmp_path / "Original/Correct/0000030.png"), PIXELS[0])
    place = tmp_path / "Results/exp/IC/CCF"
    assert torch.equal(read_image(place / "CF/0000007.png"), CF_PIXELS[1])
    assert torch.equal(read_image(place / "Noise/0000007.png"), PIXELS[1].flip(-1))
    assert torch.equal(read_image(place / "SM/0000007.png")[0], difference_map(PIXELS[1], CF_PIXELS[1]))
    assert (place / "Info/0000007.txt").read_text() == (
        "label: 1\npred: 0\ntarget: 1\ncf pred: 1\nBKL: 0.400000\nl_1: 0.039216\n"
    )
    summary = yaml.safe_load(folder.layout.summary.read_text())
    assert summary == summarise(records()) and list(summary) == list(summarise(records()))
    assert folder.finish(None) == {"n": 0}


def test_every_folder_of_the_release_is_there_from_the_start(tmp_path):
    """Its metric scripts list them all, also those of a run in which nothing is misclassified."""
    begin(tmp_path, save_images=True)
    experiment = tmp_path / "Results/exp"
    places = [f"{right}/{reached}" for right in ("CC", "IC") for reached in ("CCF", "ICF")]
    assert all((experiment / place / part).is_dir() for place in places for part in ("CF", "Noise", "Info", "SM"))
    assert all((tmp_path / "Original" / name).is_dir() for name in ("Correct", "Incorrect"))


def test_a_difference_map_is_the_sum_over_channels_scaled_to_its_maximum():
    pixels = torch.full((3, 2, 2), 100, dtype=torch.uint8)
    other = pixels.clone()
    other[:, 0, 0] = torch.tensor([110, 90, 120])  # 40
    other[:, 1, 1] = torch.tensor([100, 100, 90])  # 10
    for one, two in ((pixels, other), (other, pixels)):
        assert difference_map(one, two).tolist() == [[255, 0], [0, 64]]
    assert not difference_map(pixels, pixels).any()


def test_the_steps_of_a_trajectory_have_a_folder_for_each_image(tmp_path):
    write_step(Layout(tmp_path, "exp"), "x_t", [30, 7], 0, from_uint8(PIXELS[:2]))
    write_step(Layout(tmp_path, "exp"), "z_t", [30], 12, from_uint8(PIXELS[:1]))
    assert files(tmp_path) == {"x_t/exp/0000030/0000.png", "x_t/exp/0000007/0000.png", "z_t/exp/0000030/0012.png"}
    assert torch.equal(read_image(tmp_path / "x_t/exp/0000007/0000.png"), PIXELS[1])


def test_an_experiment_that_is_being_written_is_refused_to_others(tmp_path):
    with ResultsFolder(Layout(tmp_path, "exp")).claimed():
        message = refusal(UserError, ResultsFolder(Layout(tmp_path, "exp")).claimed().__enter__)
        assert str(tmp_path / "Results/exp") in message and f"process {os.getpid()}" in message
        other, chunk = Layout(tmp_path, "other"), Layout(tmp_path, "exp", 1, 2)
        with ResultsFolder(other).claimed(), ResultsFolder(chunk).claimed():
            pass
    with ResultsFolder(Layout(tmp_path, "exp")).claimed():
        pass


def test_two_experiments_write_the_originals_that_they_share_at_once(tmp_path):
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: run(tmp_path, exp_name=name), [f"exp{k}" for k in range(6)]))
    assert {path for path in files(tmp_path) if path.startswith("Original")} == ORIGINALS
    assert torch.equal(read_image(tmp_path / "Original/Correct/0000030.png"), PIXELS[0])


def test_what_killed_runs_had_half_written_is_removed(tmp_path):
    run(tmp_path)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    whole = files(tmp_path)
    for path in whole:
        part = str(_part(tmp_path / path)).replace(f"-{os.getpid()}-", f"-{dead.pid}-")
        Path(part).write_text("half")
    with ResultsFolder(Layout(tmp_path, "exp")).claimed():
        assert files(tmp_path) == whole | {"Results/exp/.lock"}


# -- going on ----------------------------------------------------------------------------------------------


def test_a_run_goes_on_from_what_an_earlier_one_finished(tmp_path):
    assert begin(tmp_path) is None
    run(tmp_path, finish=False)
    pd.testing.assert_frame_equal(begin(tmp_path), sorted_records())
    assert files(tmp_path) >= OF_IMAGES
    # An image without a row leaves no files: its outcome may be another then, and it must not lie in two folders.
    path = tmp_path / "Results/exp/records.csv"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("30,")))
    begin(tmp_path)
    left = {path for path in files(tmp_path) if path.startswith("Results") and path.endswith(("png", "txt"))}
    assert left == {path for path in OF_IMAGES if "0000030" not in path}


def test_other_flags_are_refused_and_named_unless_they_are_free(tmp_path):
    run(tmp_path)
    before = files(tmp_path)
    message = refusal(UserError, lambda: begin(tmp_path, seed=5, oracle_path="a.pt", gpu="1", free=("gpu",)))
    assert "--seed 5 (was 4)" in message and "--oracle_path a.pt (was None)" in message
    assert "--gpu" not in message and "--l1_loss" not in message
    assert "--exp_name" in message and "--overwrite" in message
    assert files(tmp_path) == before and len(begin(tmp_path)) == 5
    assert len(begin(tmp_path, gpu="1", free=("gpu",))) == 5


@pytest.mark.parametrize("flags, stays", [({}, True), ({"num_batches": 2}, False)])
def test_a_run_is_finished_no_more_when_it_may_have_to_go_on_or_its_records_are_lost(tmp_path, flags, stays):
    folder = run(tmp_path, num_batches=1)
    assert len(begin(tmp_path, free=("num_batches",), **{"num_batches": 1} | flags)) == 5
    assert folder.layout.summary.exists() == stays
    folder.layout.records.unlink()
    assert begin(tmp_path, **{"num_batches": 1} | flags) is None and not folder.layout.summary.exists()


def test_overwriting_removes_what_was_measured_too_and_leaves_other_experiments_alone(tmp_path):
    own = run(tmp_path).layout
    run(tmp_path, exp_name="other")
    own.audit.mkdir()
    measured = [own.metrics, own.chart, own.activations, own.audit / "audit.yaml"]
    for path in measured:
        path.write_bytes(b"")
    begin(tmp_path)
    assert all(path.exists() for path in measured)
    for exp_name in ("exp", "other"):
        write_step(Layout(tmp_path, exp_name), "z_t", [30], 0, from_uint8(PIXELS[:1]))
    others = {path for path in files(tmp_path) if "/other/" in path}
    assert begin(tmp_path, overwrite=True, seed=5) is None
    assert files(tmp_path) == others | ORIGINALS | {"Results/exp/flags.yaml"}
    assert len(others) == len(OF_IMAGES) + 3 + 1


def test_overwriting_a_chunk_clears_that_chunk_only(tmp_path):
    folders = run_chunks(tmp_path)
    write_step(Layout(tmp_path, "exp"), "x_t", [30, 7], 0, from_uint8(PIXELS[:2]))
    assert begin(tmp_path, overwrite=True, chunk=1, num_chunks=2) is None
    assert {path.stem for path in tmp_path.glob("Results/exp/*/*/*/*")} == {"0000030", "0000004"}
    assert folders[0].layout.summary.exists() and not folders[1].layout.summary.exists()
    assert {path for path in files(tmp_path) if path.startswith("x_t")} == {"x_t/exp/0000030/0000.png"}


@pytest.mark.parametrize("earlier, later", [(1, 2), (2, 1), (2, 3)])
@pytest.mark.parametrize("overwrite", [False, True])
def test_another_chunking_is_refused_before_anything_is_lost(tmp_path, earlier, later, overwrite):
    run(tmp_path, num_chunks=earlier)
    before = files(tmp_path)
    message = refusal(UserError, lambda: begin(tmp_path, overwrite, num_chunks=later))
    assert "--num_chunks" in message and "--exp_name" in message
    assert files(tmp_path) == before


def test_what_is_to_be_removed_before_another_chunking_is_named_and_is_enough(tmp_path):
    write_step(run(tmp_path, num_chunks=2).layout, "z_t", [30], 0, from_uint8(PIXELS[:1]))
    message = refusal(UserError, lambda: begin(tmp_path, num_chunks=3))
    places = message.split(" remove ")[1].split(" and ")
    assert places == [f"{tmp_path}/Results/exp", f"{tmp_path}/z_t/exp"]
    for place in places:
        shutil.rmtree(place)
    assert begin(tmp_path, num_chunks=3) is None


@pytest.mark.parametrize("exp_name", ["", ".", "..", "../../x", "a/b", "/x"])
@pytest.mark.parametrize("use", [Layout, read_run])
def test_an_experiment_that_would_lie_elsewhere_is_refused_by_name(tmp_path, use, exp_name):
    assert f"--exp_name {exp_name!r}" in refusal(UserError, use, tmp_path / "out", exp_name)
    assert "--output_path" in refusal(UserError, use, "", "exp")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    assert f"--output_path {tmp_path}/taken" in refusal(UserError, lambda: begin(tmp_path / "taken"))


# -- several ranks -----------------------------------------------------------------------------------------


def write_parts(root):
    """The five records in parts of three ranks, as a killed run leaves them: in any order, the last row torn."""
    begin(root)
    table = records()
    for rank, rows in enumerate(([3, 0], [1], [4, 2])):
        ResultsFolder(Layout(root, "exp"), rank=rank).commit(table.iloc[rows[:1]])
        if rows[1:]:
            ResultsFolder(Layout(root, "exp"), rank=rank).commit(table.iloc[rows[1:]])
    path = root / "Results/exp/records-rank-2.csv"
    path.write_bytes(path.read_bytes()[:-5])
    return table.iloc[[3, 0, 1, 4]].sort_values("id").reset_index(drop=True)


def test_what_any_rank_has_finished_is_finished_and_a_row_in_two_files_counts_once(tmp_path):
    expected = write_parts(tmp_path)
    part = tmp_path / "Results/exp/records-rank-1.csv"
    rows = part.read_bytes()
    pd.testing.assert_frame_equal(read_rows(Layout(tmp_path, "exp")), expected)
    pd.testing.assert_frame_equal(begin(tmp_path), expected)
    assert files(tmp_path) == {"Results/exp/records.csv", "Results/exp/flags.yaml"}
    pd.testing.assert_frame_equal(read_rows(Layout(tmp_path, "exp")), expected)
    part.write_bytes(rows)  # as where a run was killed when it had joined the parts and not yet removed them
    assert len(begin(tmp_path)) == 4 and not part.exists()
    part.write_bytes(rows)
    assert begin(tmp_path, overwrite=True) is None
    assert files(tmp_path) == {"Results/exp/flags.yaml"}


def test_rows_are_added_to_records_that_were_torn(tmp_path):
    run(tmp_path, finish=False)
    path = tmp_path / "Results/exp/records.csv"
    path.write_bytes(path.read_bytes()[:-3])
    earlier = begin(tmp_path)
    assert len(earlier) == 4
    lost = records()[~records()["id"].isin(earlier["id"])]
    ResultsFolder(Layout(tmp_path, "exp")).commit(lost)
    pd.testing.assert_frame_equal(read_rows(Layout(tmp_path, "exp")), sorted_records())


def test_the_finished_folder_is_that_of_one_process(tmp_path):
    whole, layout = run(tmp_path / "whole").layout, Layout(tmp_path / "ranks", "exp")
    write_parts(tmp_path / "ranks")
    ResultsFolder(layout, rank=1).commit(records().iloc[[2]])
    ResultsFolder(layout).finish(read_rows(layout))
    assert files(tmp_path / "ranks") == TABLES
    assert layout.records.read_bytes() == whole.records.read_bytes()
    assert layout.summary.read_bytes() == whole.summary.read_bytes()


# -- merging -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_chunks", [2, 3])
def test_merged_chunks_are_the_whole(tmp_path, num_chunks):
    whole, merged = run(tmp_path / "whole").layout, Layout(tmp_path / "chunks", "exp")
    for chunk in reversed(range(num_chunks)):
        run(tmp_path / "chunks", chunk=chunk, num_chunks=num_chunks)
    assert merge_chunks(merged) == summarise(records())
    assert merged.records.read_bytes() == whole.records.read_bytes()
    assert merged.summary.read_bytes() == whole.summary.read_bytes()
    of_images = {path for path in files(tmp_path / "chunks") if path.endswith((".png", ".txt"))}
    assert of_images == OF_IMAGES | ORIGINALS


def test_a_chunk_without_images_or_of_another_device_can_be_merged(tmp_path):
    run_chunks(tmp_path, 6)  # no id leaves the remainder 2
    assert not Layout(tmp_path, "exp", 2, 6).records.exists()
    assert merge_chunks(Layout(tmp_path, "exp")) == summarise(records())
    run(tmp_path, chunk=1, num_chunks=6, gpu="1")
    assert merge_chunks(Layout(tmp_path, "exp"), free=("chunk", "gpu"))["n"] == 5


def test_missing_and_unfinished_chunks_are_named(tmp_path):
    assert "no chunks" in refusal(UserError, merge_chunks, Layout(tmp_path, "exp"))
    run(tmp_path, chunk=0, num_chunks=4)
    run(tmp_path, chunk=2, num_chunks=4, finish=False)
    message = refusal(UserError, merge_chunks, Layout(tmp_path, "exp"))
    assert all(f"chunk-{chunk}_num-chunks-4" in message for chunk in (1, 2, 3))
    assert "chunk-0_" not in message


def test_overlapping_chunks_are_named(tmp_path):
    _, chunk = run_chunks(tmp_path)
    chunk.commit(records().iloc[:2])  # 30 belongs to chunk 0
    chunk.finish(records().iloc[:2])
    assert "image 30" in refusal(UserError, merge_chunks, Layout(tmp_path, "exp"))


def test_chunks_of_several_runs_are_named(tmp_path):
    run(tmp_path, chunk=0, num_chunks=2)
    for name in ("flags.yaml", "summary.yaml"):
        (tmp_path / f"Results/exp/chunk-1_num-chunks-3_{name}").write_text("{}")
    message = refusal(UserError, merge_chunks, Layout(tmp_path, "exp"))
    assert "chunk-0_num-chunks-2" in message and "chunk-1_num-chunks-3" in message


@pytest.mark.parametrize("flag, value", [("seed", 5), ("num_batches", 2)])
def test_chunks_of_other_flags_are_not_merged(tmp_path, flag, value):
    run(tmp_path, chunk=0, num_chunks=2, num_batches=1)
    run(tmp_path, chunk=1, num_chunks=2, **{"num_batches": 1} | {flag: value})
    message = refusal(UserError, merge_chunks, Layout(tmp_path, "exp"))
    assert "chunk-1_num-chunks-2_flags.yaml" in message and f"--{flag}" in message and "--l1_loss" not in message


@pytest.mark.parametrize("remove", ["all", "a row"])
def test_a_chunk_whose_records_are_not_what_it_finished_is_not_merged(tmp_path, remove):
    path = run_chunks(tmp_path)[1].layout.records
    path.unlink() if remove == "all" else path.write_text("\n".join(path.read_text().split("\n")[:-2]) + "\n")
    message = refusal(UserError, merge_chunks, Layout(tmp_path, "exp"))
    assert "chunk-1_num-chunks-2_summary.yaml is of 3 images" in message
    assert f"chunk-1_num-chunks-2_records.csv has {0 if remove == 'all' else 2}" in message


@pytest.mark.parametrize("damage", [b"", b"- a\n- list\n", b"only text", b"a: [1", b"\xff\xfe\x00"])
def test_damaged_flags_are_named_when_going_on_and_when_merging(tmp_path, damage):
    path = run_chunks(tmp_path)[1].layout.flags
    path.write_bytes(damage)
    for refused in (lambda: begin(tmp_path, chunk=1, num_chunks=2), lambda: merge_chunks(Layout(tmp_path, "exp"))):
        message = refusal(UserError, refused)
        assert str(path) in message and "--overwrite True" in message


# -- reading back ------------------------------------------------------------------------------------------


def test_pairs_are_read_back_by_where_they_lie(tmp_path):
    run(tmp_path)
    pairs = read_pairs(Layout(tmp_path, "exp"))
    places = [(pair.id, pair.classified, pair.reached) for pair in pairs]
    assert places == [("0000007", "IC", "CCF"), ("0000009", "CC", "CCF"), ("0000030", "CC", "CCF")]
    assert torch.equal(torch.stack(pairs[0].images()), from_uint8(torch.stack([PIXELS[1], CF_PIXELS[1]])))
    both = read_pairs(Layout(tmp_path, "exp"), classified=("CC",), reached=("CCF", "ICF"))
    assert [pair.id for pair in both] == ["0000004", "0000009", "0000030", "0000101"]
    assert read_pairs(Layout(tmp_path, "exp"), classified=("IC",), reached=("ICF",)) == []


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "JPG"])
def test_pairs_of_any_image_format_are_read(tmp_path, suffix):
    exp = tmp_path / "Results/exp/CC/CCF/CF"
    for directory, kind in ((exp, suffix), (tmp_path / "Original/Correct", "png")):
        directory.mkdir(parents=True)
        Image.new("RGB", (4, 4), (10, 20, 30)).save(directory / f"0000001.{kind}")
    (exp / "0000001.txt").write_text("not an image")
    (pair,) = read_pairs(Layout(tmp_path, "exp"))
    assert pair.counterfactual.name == f"0000001.{suffix}" and pair.images()[1].shape == (3, 4, 4)


def test_a_counterfactual_without_its_original_or_an_experiment_that_does_not_exist_is_named(tmp_path):
    run(tmp_path)
    (tmp_path / "Original/Incorrect/0000007.png").unlink()
    message = refusal(UserError, read_pairs, Layout(tmp_path, "exp"))
    assert "IC/CCF/CF/0000007.png" in message and "Original/Incorrect" in message
    message = refusal(UserError, read_pairs, Layout(tmp_path, "other"))
    assert "other" in message and "--exp_name" in message
