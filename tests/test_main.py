"""main.py as its users run it."""

import hashlib
import os
import re
import runpy
import signal
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from scripts import ROOT, as_argv, contents, run_script, start_script
from toy_celeba import SMILING, write_celeba
from toy_networks import MODEL_FLAGS, write_weights

import main as main_script
from core.results.folder import read_pairs
from core.results.merging import merge_chunks
from guided_diffusion.script_util import run_script as guarded


@pytest.fixture(scope="module")
def data_and_weights(tmp_path_factory):
    root = tmp_path_factory.mktemp("data_and_weights")
    write_celeba(root / "data", {"val": 8})
    return write_weights(root)


@pytest.fixture
def flags(data_and_weights, tmp_path):
    """A whole command line: 8 images, 7 evaluations an attempt, a ladder whose last scale flips."""
    return MODEL_FLAGS | {
        "data_dir": data_and_weights / "data",
        "model_path": data_and_weights / "ddpm.pt",
        "classifier_path": data_and_weights / "classifier.pt",
        "classifier_architecture": "toy_networks:Brightness",
        "output_path": tmp_path / "out",
        "classifier_scales": "0.001,100",
        "start_step": 4,
        "batch_size": 3,
    }


def run_here(flags, monkeypatch, capsys):
    """main.py in this process, for speed -> (exit code, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["main.py", *as_argv(flags)])
    code = 0
    try:
        guarded(main_script.main)
    except SystemExit as exit:
        code = exit.code
    return code, *capsys.readouterr()


@pytest.fixture
def explain(monkeypatch, capsys):
    """explain(flags) -> (records, stdout) of a run that must succeed."""

    def run(flags):
        code, out, err = run_here(flags, monkeypatch, capsys)
        assert code == 0, err
        return pd.read_csv(flags["output_path"] / "Results/exp/records.csv"), out

    return run


@pytest.fixture
def refuse(monkeypatch, capsys):
    """refuse(flags, *words): the run must end with exit code 2 and one line that contains the words."""

    def run(flags, *words):
        code, _, err = run_here(flags, monkeypatch, capsys)
        lines = [line for line in err.splitlines() if "error:" in line]
        assert code == 2 and len(lines) == 1 and lines[0].startswith("main.py: error:"), err
        for word in words:
            assert str(word) in lines[0]
        return lines[0]

    return run


def counterfactuals(output_path):
    return {p.id: np.array(Image.open(p.counterfactual)).astype(int)
            for p in read_pairs(output_path, "exp", reached=("CCF", "ICF"))}  # fmt: skip


# -- the command -------------------------------------------------------------------------------------------------


def test_a_run_writes_the_published_folder_and_says_what_it_does(flags):
    code, out, err = run_script("main.py", flags | {"save_x_t": True, "save_z_t": True})
    assert code == 0, err
    assert "Smiling: explaining 8 of 8 images of CelebA val" in out
    assert "7 network evaluations an attempt, 1 to 2 attempts an image, 56 to 112 evaluations" in out

    output, experiment = flags["output_path"], flags["output_path"] / "Results/exp"
    records = pd.read_csv(experiment / "records.csv")
    reached = (records["cf_pred"] == records["target"]).sum()
    assert re.fullmatch(
        rf"flip rate {100 * reached / 8:.1f} % \({reached} of 8\), L1 {records['l_1'].mean():.3f}, "
        rf"bKL {records['bkl'].mean():.3f}; 8 images in [\d.]+ s, [\d.]+ s each: {experiment}",
        out.splitlines()[-1],
    )
    assert list(records["id"]) == list(range(8))
    assert (records["target"] == 1 - records["pred"]).all()
    for record in records.itertuples():
        right, reached = record.label == record.pred, record.cf_pred == record.target
        assert (output / "Original" / ("Correct" if right else "Incorrect") / f"{record.id:07d}.png").exists()
        folder = experiment / ("CC" if right else "IC") / ("CCF" if reached else "ICF")
        assert all((folder / part / f"{record.id:07d}.png").exists() for part in ("CF", "Noise", "SM"))
        info = yaml.safe_load((folder / "Info" / f"{record.id:07d}.txt").read_text())
        assert list(info) == ["label", "pred", "target", "cf pred", "BKL", "l_1"]
        assert info["cf pred"] == record.cf_pred and info["BKL"] == pytest.approx(record.bkl, abs=1e-6)
        for kind in ("x_t", "z_t"):
            steps = sorted(path.name for path in (output / kind / "exp" / f"{record.id:07d}").iterdir())
            assert steps == ["0000.png", "0001.png", "0002.png", "0003.png"]
    summary = yaml.safe_load((experiment / "summary.yaml").read_text())
    assert {"class-cor", "class-inc", "cf-cor", "cf-inc", "clean acc", "cf acc", "bkl", "l_1", "n"} == set(summary)
    assert summary["n"] == 8 and summary["cf acc"] > 0.5


def test_records_agree_with_the_images_in_the_folder(flags, explain):
    records, _ = explain(flags)
    pairs = {int(pair.id): pair for pair in read_pairs(flags["output_path"], "exp", reached=("CCF", "ICF"))}
    for record in records.itertuples():
        x, cf = pairs[record.id].images()
        assert record.l_1 == pytest.approx(float((x - cf).abs().mean()) / 2, abs=1e-5)
        logit = 20 * (float(cf.mean()) - torch.linspace(-0.1, 0.1, 40)[SMILING])
        assert record.cf_pred == int(logit > 0)


def test_the_ladder_retries_only_what_did_not_flip(flags, explain):
    records, out = explain(flags)
    first, _ = explain(flags | {"classifier_scales": "100", "exp_name": "exp", "overwrite": True})
    assert set(records["attempts"]) <= {1, 2} and (first["attempts"] == 1).all()
    assert ((records["attempts"] == 1) <= (records["cf_pred"] == records["target"])).all()


@pytest.mark.parametrize("query", ["Smiling", str(SMILING)])
def test_the_query_is_a_name_or_an_index(flags, explain, query):
    _, out = explain(flags | {"query_label": query, "num_batches": 1})
    assert "Smiling: explaining 3 of 8" in out


def test_num_batches_is_said_and_may_grow(flags, explain):
    records, out = explain(flags | {"num_batches": 1})
    assert len(records) == 3 and "--num_batches 1 x --batch_size 3 is the limit" in out
    records, out = explain(flags | {"num_batches": 2})
    assert len(records) == 6 and "3 of 6 are done already" in out


@pytest.mark.parametrize("target", [0, 1])
def test_a_target_selects_the_images_that_are_not_there_already(flags, explain, target):
    everything, _ = explain(flags)
    wanted = set(everything["id"][everything["pred"] != target])
    records, out = explain(flags | {"target_label": target, "overwrite": True})
    assert set(records["id"]) == wanted and (records["target"] == target).all()
    assert f"predicted {target} already" in out


def test_nothing_to_explain_is_not_an_error(flags, monkeypatch, capsys, data_and_weights):
    dark = torch.load(data_and_weights / "classifier.pt") | {"attributes": ["Smiling"]}
    dark["state_dict"] = {"scale": torch.ones(1), "threshold": torch.tensor([9.0])}
    torch.save(dark, flags["output_path"].parent / "dark.pt")
    flags |= {"classifier_path": flags["output_path"].parent / "dark.pt", "target_label": 0}
    code, out, _ = run_here(flags, monkeypatch, capsys)
    assert code == 0 and "explaining 0 of 8" in out


CHANGES = {
    "sampling_scale": 0.0, "use_ddim": True, "use_sampling_on_x_t": False, "guided_iterations": 1, "seed": 5,
    "clip_denoised": False, "use_logits": False, "l1_loss": 0.5, "l2_loss": 0.5, "timestep_respacing": "20",
    "start_step": 6, "rescale_timesteps": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def plain_counterfactuals():
    return {}


@pytest.mark.parametrize("name", CHANGES)
def test_every_sampling_flag_changes_the_answer(flags, explain, name, data_and_weights, tmp_path):
    flags |= {"num_batches": 1, "classifier_scales": "100"}
    if name == "rescale_timesteps":  # weights that do not know their flags
        state = dict(torch.load(data_and_weights / "ddpm.pt"))
        torch.save(state, tmp_path / "ddpm.pt")
        flags |= {"model_path": tmp_path / "ddpm.pt"}
    explain(flags)
    before = counterfactuals(flags["output_path"])
    explain(flags | {name: CHANGES[name], "overwrite": True})
    after = counterfactuals(flags["output_path"])
    assert before.keys() == after.keys()
    assert any((before[i] != after[i]).any() for i in before)


def test_the_perceptual_loss_takes_its_weights_from_a_file(flags, explain, tmp_path):
    from torchvision.models import vgg

    torch.manual_seed(0)
    features = {f"features.{k}": v for k, v in vgg.make_layers(vgg.cfgs["E"]).state_dict().items()}
    torch.save(features, tmp_path / "vgg19.pth")
    flags |= {"num_batches": 1, "classifier_scales": "100"}
    explain(flags)
    before = counterfactuals(flags["output_path"])
    perceptual = {"l_perc": 1e4, "l_perc_layer": 3, "perceptual_path": tmp_path / "vgg19.pth"}
    explain(flags | perceptual | {"overwrite": True})
    assert any((before[i] != image).any() for i, image in counterfactuals(flags["output_path"]).items())


def test_half_precision_says_what_it_computes_in_and_changes_little(flags, explain):
    explain(flags | {"num_batches": 1})
    before = counterfactuals(flags["output_path"])
    _, out = explain(flags | {"num_batches": 1, "use_fp16": True, "overwrite": True})
    assert re.search(r"--use_fp16: the UNet computes in torch\.(bfloat16|float32|float16) on", out)
    for i, image in counterfactuals(flags["output_path"]).items():
        assert np.abs(image - before[i]).mean() < 4


def test_how_it_computes_may_change_in_a_run_that_goes_on(flags, explain):
    explain(flags | {"num_batches": 1})
    compute = {"channels_last": False, "compile": False, "cuda_graphs": True}
    records, out = explain(flags | compute | {"num_batches": 2})
    assert len(records) == 6 and "--cuda_graphs True: the cpu has none; running without" in out
    others = flags | {"output_path": flags["output_path"].parent / "other", "num_batches": 2}
    explain(others)
    ours, theirs = counterfactuals(flags["output_path"]), counterfactuals(others["output_path"])
    assert all(np.abs(ours[i] - theirs[i]).max() <= 1 for i in theirs)


def test_records_alone_are_written_without_save_images(flags, explain):
    explain(flags | {"save_images": False})
    assert {path.name for path in (flags["output_path"] / "Results/exp").iterdir()} == {
        "records.csv", "summary.yaml", "flags.yaml"}  # fmt: skip
    assert not (flags["output_path"] / "Original").exists()


def test_an_oracle_judges_every_image_before_and_after(flags, explain, data_and_weights):
    published = torch.load(data_and_weights / "classifier.pt")
    torch.manual_seed(1)
    from models.classifiers import build_classifier, classifier_checkpoint

    oracle = build_classifier("shufflenet_v2_x0_5", 40)
    path = flags["output_path"].parent / "oracle.pt"
    torch.save(classifier_checkpoint(oracle, "shufflenet_v2_x0_5", published["attributes"], 16), path)
    records, out = explain(flags | {"oracle_path": path})
    bits = pd.read_csv(flags["output_path"] / "Results/exp/records.csv", dtype=str)
    for record, row in zip(records.itertuples(), bits.itertuples(), strict=True):
        before, after = row.oracle_pred, row.oracle_cf_pred
        assert len(before) == len(after) == 40
        assert record.mnac == sum(a != b for a, b in zip(before, after, strict=True))
        assert record.oracle_flip == int(before[SMILING] != after[SMILING])
    summary = yaml.safe_load((flags["output_path"] / "Results/exp/summary.yaml").read_text())
    assert {"oracle fr", "mnac"} <= set(summary)
    said = f", oracle flip rate {100 * summary['oracle fr']:.1f} %, MNAC {summary['mnac']:.2f}; 8 images in"
    assert said in out


def test_an_oracle_of_ones_own_is_built_by_the_function_that_is_named(flags, explain, refuse, data_and_weights):
    flags |= {"oracle_path": data_and_weights / "classifier.pt", "num_batches": 1}
    refuse(flags, "classifier.pt", "toy_networks:Brightness")
    records, _ = explain(flags | {"oracle_architecture": "toy_networks:Brightness"})
    assert (records["oracle_flip"] == (records["pred"] != records["cf_pred"])).all()


# -- batches and chunks ------------------------------------------------------------------------------------------


def test_any_batch_size_gives_the_same_images(flags, explain):
    explain(flags | {"batch_size": 8})
    whole = counterfactuals(flags["output_path"])
    explain(flags | {"batch_size": 1, "overwrite": True})
    single = counterfactuals(flags["output_path"])
    assert whole.keys() == single.keys()
    assert max(np.abs(whole[i] - single[i]).max() for i in whole) <= 1


def test_three_chunks_merge_into_the_run_in_one(flags, explain, monkeypatch, capsys):
    whole, _ = explain(flags)
    one = counterfactuals(flags["output_path"])
    flags |= {"output_path": flags["output_path"].parent / "chunked"}
    for chunk in (2, 0, 1):
        assert run_here(flags | {"num_chunks": 3, "chunk": chunk}, monkeypatch, capsys)[0] == 0
    merged = {"merge_and_eval": True, "output_path": flags["output_path"]}
    code, out, _ = run_here(merged, monkeypatch, capsys)
    assert code == 0 and re.search(r"^flip rate .* of 8\), L1 [\d.]+, bKL [\d.]+: .*Results/exp$", out, re.M)
    pd.testing.assert_frame_equal(
        pd.read_csv(flags["output_path"] / "Results/exp/records.csv"), whole, rtol=1e-2, atol=1e-2
    )
    three = counterfactuals(flags["output_path"])
    assert one.keys() == three.keys()
    assert max(np.abs(one[i] - three[i]).max() for i in one) <= 1


def test_merging_names_missing_chunks(flags, refuse, explain, monkeypatch, capsys):
    assert run_here(flags | {"num_chunks": 3, "chunk": 1}, monkeypatch, capsys)[0] == 0
    merge = {"merge_and_eval": True, "output_path": flags["output_path"]}
    line = refuse(merge, "chunk-0_num-chunks-3_summary.yaml", "chunk-2_num-chunks-3_summary.yaml")
    assert "chunk-1_num-chunks-3" not in line


def test_merging_names_chunks_that_overlap(flags, refuse, monkeypatch, capsys):
    assert run_here(flags | {"num_chunks": 2, "chunk": 1}, monkeypatch, capsys)[0] == 0
    experiment = flags["output_path"] / "Results/exp"
    for kind in ("records.csv", "summary.yaml", "flags.yaml"):
        mine = experiment / f"chunk-1_num-chunks-2_{kind}"
        (experiment / f"chunk-0_num-chunks-2_{kind}").write_bytes(mine.read_bytes())
    refuse({"merge_and_eval": True, "output_path": flags["output_path"]}, "overlap", "image 1")
    with pytest.raises(ValueError, match="overlap"):
        merge_chunks(flags["output_path"], "exp")


def test_merging_names_chunks_that_stopped_after_other_numbers_of_batches(flags, refuse, monkeypatch, capsys):
    flags |= {"num_chunks": 2, "batch_size": 2}
    for chunk in (0, 1):
        assert run_here(flags | {"chunk": chunk, "num_batches": chunk + 1}, monkeypatch, capsys)[0] == 0
    refuse({"merge_and_eval": True, "output_path": flags["output_path"]}, "chunk-1_num-chunks-2", "--num_batches")


def test_another_chunking_in_the_same_experiment_is_refused(flags, refuse, monkeypatch, capsys):
    assert run_here(flags | {"num_chunks": 2}, monkeypatch, capsys)[0] == 0
    refuse(flags | {"num_chunks": 3}, "--num_chunks", "chunk-0_num-chunks-2_flags.yaml")


# -- going on ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [{}, {"method": "maskdime", "mask_share": 0.2, "save_masks": True}], ids=str)
def test_a_run_killed_again_and_again_ends_like_an_unbroken_one(flags, method):
    flags |= {"batch_size": 2, "save_z_t": True} | method
    assert run_script("main.py", flags)[0] == 0
    unbroken = contents(flags["output_path"])

    flags |= {"output_path": flags["output_path"].parent / "killed"}
    experiment, kills = flags["output_path"] / "Results/exp", 0
    for files in (2, 12, 30, 45):  # kill once that many files are there: in the middle of a batch, or between two
        process = start_script("main.py", flags)
        while process.poll() is None and sum(path.is_file() for path in flags["output_path"].rglob("*")) < files:
            time.sleep(0.005)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
    assert kills >= 2 and not (experiment / "summary.yaml").exists()
    code, out, err = run_script("main.py", flags)
    assert code == 0 and "are done already" in out, err
    killed = contents(flags["output_path"])
    # Where the results lie is the one thing that differs by design.
    for run in (unbroken, killed):
        run["Results/exp/flags.yaml"] = re.sub(rb"output_path: .*", b"", run["Results/exp/flags.yaml"])
    assert killed.keys() == unbroken.keys()
    assert [name for name in killed if killed[name] != unbroken[name]] == []


def test_a_run_that_goes_on_leaves_what_finished_images_have_as_it_is(flags, explain):
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


def test_a_finished_run_that_is_to_go_further_is_not_finished_until_it_has(flags, explain, refuse, tmp_path):
    flags |= {"data_dir": write_celeba(tmp_path / "data", {"val": 8})}
    explain(flags | {"num_batches": 1})
    (tmp_path / "data/img_align_celeba/000005.jpg").unlink()
    refuse(flags | {"num_batches": 2}, "000005.jpg")
    assert not (flags["output_path"] / "Results/exp/summary.yaml").exists()


def test_an_interruption_says_that_the_same_command_goes_on(flags, monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("core.running.experiment.run_experiment", interrupted)
    monkeypatch.setattr(sys, "argv", ["main.py", *as_argv(flags)])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(ROOT / "main.py"), run_name="__main__")
    last = capsys.readouterr().err.splitlines()[-1]
    assert caught.value.code == 130
    assert last.endswith("interrupted; the same command, without --overwrite True, goes on")


def test_a_finished_run_started_again_does_nothing(flags, explain):
    explain(flags)
    before = contents(flags["output_path"])
    _, out = explain(flags)
    assert "0 images (8 of 8 are done already)" in out
    assert contents(flags["output_path"]) == before


def test_other_flags_in_the_same_experiment_are_refused_by_name(flags, explain, refuse):
    explain(flags)
    before = contents(flags["output_path"])
    line = refuse(flags | {"seed": 7, "l1_loss": 0.2, "gpu": "1"}, "--seed 7 (was 4)", "--l1_loss 0.2 (was 0.05)")
    assert "--overwrite" in line and "--gpu" not in line
    assert contents(flags["output_path"]) == before


@pytest.mark.parametrize("flag", ["model_path", "classifier_path"])
def test_other_weights_under_the_same_name_are_refused_by_the_flags_name(flags, explain, refuse, tmp_path, flag):
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


def test_overwrite_starts_afresh(flags, explain):
    explain(flags | {"save_z_t": True})
    records, out = explain(flags | {"overwrite": True, "num_batches": 1, "seed": 9})
    assert len(records) == 3 and "done already" not in out
    assert len(counterfactuals(flags["output_path"])) == 3
    assert not list((flags["output_path"] / "z_t/exp").iterdir())


# -- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, words",
    [
        ({"chunk": 3, "num_chunks": 3}, ["--chunk 3", "0 to 2"]),
        ({"num_chunks": 0}, ["--num_chunks 0"]),
        ({"classifier_scales": "8,ten"}, ["--classifier_scales '8,ten'"]),
        ({"classifier_scales": ","}, ["--classifier_scales"]),
        ({"start_step": 40}, ["--start_step 40", "40 steps"]),
        ({"start_step": 0}, ["--start_step 0"]),
        ({"timestep_respacing": "4"}, ["--start_step 4", "4 steps"]),
        ({"timestep_respacing": "41"}, ["--timestep_respacing 41"]),
        ({"query_label": "Smirking"}, ["--query_label Smirking", "Smiling"]),
        ({"query_label": "40"}, ["--query_label 40"]),
        ({"target_label": 2}, ["--target_label 2"]),
        ({"split": "all"}, ["--split all"]),
        ({"split": "test"}, ["no images in its test split"]),
        ({"dataset": "CelebB"}, ["--dataset CelebB", "CelebAMV"]),
        ({"data_dir": "nowhere"}, ["--data_dir nowhere"]),
        ({"data_dir": ""}, ["--data_dir must be given"]),
        ({"model_path": "nowhere.pt"}, ["nowhere.pt does not exist"]),
        ({"classifier_path": "nowhere.pt"}, ["nowhere.pt does not exist"]),
        ({"oracle_path": "nowhere.pt"}, ["nowhere.pt does not exist"]),
        ({"l_perc": 1, "perceptual_path": "nowhere.pt"}, ["nowhere.pt does not exist"]),
        ({"num_channels": 64}, ["--num_channels is 64", "ddpm.pt", "32"]),
        ({"num_heads": 4}, ["--num_heads is 4", "ddpm.pt"]),
        ({"noise_schedule": "cosine"}, ["--noise_schedule is cosine", "ddpm.pt"]),
        ({"diffusion_steps": 50}, ["--diffusion_steps is 50", "ddpm.pt"]),
        ({"image_size": 32}, ["--image_size", "16"]),
        ({"batch_size": 0}, ["--batch_size 0"]),
        ({"compile": "perhaps"}, ["--compile perhaps", "auto"]),
        ({"cuda_graphs": "perhaps"}, ["--cuda_graphs perhaps", "auto"]),
        ({"classifier_scales": "8,nan"}, ["--classifier_scales 8,nan"]),
        ({"classifier_scales": "inf"}, ["--classifier_scales inf"]),
        ({"classifier_scales": "-8"}, ["--classifier_scales -8"]),
        ({"l1_loss": "nan"}, ["--l1_loss nan"]),
        ({"l1_loss": -0.1}, ["--l1_loss -0.1"]),
        ({"l2_loss": "inf"}, ["--l2_loss inf"]),
        ({"l_perc": -1}, ["--l_perc -1"]),
        ({"sampling_scale": "nan"}, ["--sampling_scale nan"]),
        ({"dropout": 2}, ["--dropout 2"]),
        ({"l_perc": 1, "l_perc_layer": 37}, ["--l_perc_layer 37", "--image_size 16"]),
        ({"exp_name": ""}, ["--exp_name ''"]),
        ({"exp_name": "../../x"}, ["--exp_name '../../x'"]),
        ({"use_train": True, "split": "test"}, ["--split test and --use_train True contradict"]),
        ({"use_train": True, "split": "val"}, ["--split val and --use_train True contradict"]),
        ({"dataset": "CelebAMV", "split": "test"}, ["--split test", "--dataset CelebAMV"]),
        ({"dataset": "CelebAMV", "use_train": True}, ["--use_train True", "--dataset CelebAMV"]),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_bad_flags_are_one_line_and_write_nothing(flags, refuse, change, words):
    refuse(flags | change, *words)
    assert not flags["output_path"].exists()


def test_an_empty_output_path_is_refused_by_name(flags, refuse, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    refuse(flags | {"output_path": ""}, "--output_path is empty")
    assert list(tmp_path.iterdir()) == []


def test_the_mini_validation_set_is_said_to_be_of_the_validation_split(flags, explain):
    for given in ({}, {"split": "val"}):
        _, out = explain(flags | {"dataset": "CelebAMV", "num_batches": 1} | given)
        assert "images of CelebAMV val" in out


@pytest.mark.parametrize("choice", [{"use_train": True}, {"split": "train"}, {"use_train": True, "split": "train"}])
def test_the_training_split_is_chosen_in_two_ways(flags, explain, tmp_path, choice):
    flags |= {"data_dir": write_celeba(tmp_path / "data", {"train": 2, "val": 3}), "num_batches": 1}
    records, out = explain(flags | choice)
    assert "explaining 2 of 2 images of CelebA train" in out
    assert list(records["image"]) == ["000001.jpg", "000002.jpg"]


def test_bad_weights_are_told_apart(flags, refuse, data_and_weights, tmp_path):
    whole = (data_and_weights / "ddpm.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    refuse(flags | {"model_path": tmp_path / "cut.pt"}, "cut.pt")
    refuse(flags | {"model_path": data_and_weights / "classifier.pt"}, "classifier.pt", "not a diffusion model")
    refuse(flags | {"classifier_path": data_and_weights / "ddpm.pt"}, "ddpm.pt", "not a classifier")
    refuse(flags | {"classifier_architecture": "resnet18"}, "resnet18")


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("flag", ["model_path", "classifier_path", "oracle_path"])
def test_a_malicious_weight_file_is_refused_without_running(flags, refuse, tmp_path, flag):
    torch.save({"state_dict": Payload(tmp_path / "pwned")}, tmp_path / "evil.pt")
    refuse(flags | {flag: tmp_path / "evil.pt"}, "evil.pt")
    assert not (tmp_path / "pwned").exists()


def test_an_oracle_of_another_image_size_is_named(flags, refuse, data_and_weights, tmp_path):
    torch.save(torch.load(data_and_weights / "classifier.pt") | {"image_size": 224}, tmp_path / "oracle.pt")
    flags |= {"oracle_path": tmp_path / "oracle.pt", "oracle_architecture": "toy_networks:Brightness"}
    refuse(flags, "--image_size is 16", "oracle.pt was trained at 224")


def test_a_classifier_of_other_questions_is_named(flags, refuse, data_and_weights, tmp_path):
    other = torch.load(data_and_weights / "classifier.pt") | {"attributes": [f"Other_{i}" for i in range(40)]}
    torch.save(other, tmp_path / "other.pt")
    refuse(flags | {"classifier_path": tmp_path / "other.pt"}, "--classifier_path does not answer Smiling")


@pytest.mark.parametrize("damage, words", [(None, "listed but not there"), (b"not an image", "cannot be read")])
def test_an_absent_or_corrupt_image_is_named_and_nothing_finished_is_lost(flags, refuse, tmp_path, damage, words):
    data = write_celeba(tmp_path / "data", {"val": 8})
    path = data / "img_align_celeba/000005.jpg"
    whole = path.read_bytes()
    path.unlink() if damage is None else path.write_bytes(damage)
    flags |= {"data_dir": data, "batch_size": 2}
    refuse(flags, "000005.jpg", words)
    assert len(pd.read_csv(flags["output_path"] / "Results/exp/records.csv")) == 4
    path.write_bytes(whole)
    code, out, _ = run_script("main.py", flags)
    assert code == 0 and "4 of 8 are done already" in out


def test_an_output_folder_that_cannot_be_written_is_named(flags, refuse, tmp_path):
    (tmp_path / "file").write_text("in the way")
    refuse(flags | {"output_path": tmp_path / "file"}, "--output_path", "file")


def test_nan_from_the_network_stops_the_run_and_names_the_image(flags, refuse, data_and_weights, tmp_path):
    state = torch.load(data_and_weights / "classifier.pt")
    state["state_dict"]["scale"] = torch.full((40,), 3e38)
    torch.save(state, tmp_path / "huge.pt")
    refuse(flags | {"classifier_path": tmp_path / "huge.pt"}, "NaN for image 0", "--use_fp16")
    assert not (flags["output_path"] / "Results/exp/summary.yaml").exists()


def test_an_error_is_exit_code_2_and_one_line_of_a_real_process(flags):
    code, _, err = run_script("main.py", flags | {"start_step": 400})
    assert code == 2 and err.count("\n") == 1 and "--start_step 400" in err
    code, _, err = run_script("main.py", flags | {"clip_denoised": "perhaps"})
    assert code == 2 and "neither True nor False" in err
