"""main.py as its users run it: what it writes and says, and what its flags change."""

import re
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from main_runs import counterfactuals, explain, main_flags, refuse
from scripts import call_script, output_of, run_python
from torchvision.models import vgg
from toy_celeba import SMILING, write_celeba

from core.results.layout import Layout
from core.results.reading import read_pairs, read_runs
from models.classifiers import build_classifier, classifier_checkpoint


def test_a_run_writes_the_published_folder_and_says_what_it_does(flags):
    out = output_of(run_python("main.py", flags | {"save_x_t": True, "save_z_t": True}))
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


def test_records_agree_with_the_images_in_the_folder(flags):
    records, _ = explain(flags)
    pairs = {int(pair.id): pair for pair in read_pairs(Layout(flags["output_path"], "exp"), reached=("CCF", "ICF"))}
    for record in records.itertuples():
        x, cf = pairs[record.id].images()
        assert record.l_1 == pytest.approx(float((x - cf).abs().mean()) / 2, abs=1e-5)
        logit = 20 * (float(cf.mean()) - torch.linspace(-0.1, 0.1, 40)[SMILING])
        assert record.cf_pred == int(logit > 0)


def test_num_batches_is_said_and_may_grow(flags):
    records, out = explain(flags | {"num_batches": 1})
    assert len(records) == 3 and "--num_batches 1 x --batch_size 3 is the limit" in out
    records, out = explain(flags | {"num_batches": 2})
    assert len(records) == 6 and "3 of 6 are done already" in out


@pytest.mark.parametrize("target", [0, 1])
def test_a_target_selects_the_images_that_are_not_there_already(flags, target):
    everything, _ = explain(flags)
    wanted = set(everything["id"][everything["pred"] != target])
    records, out = explain(flags | {"target_label": target, "overwrite": True})
    assert set(records["id"]) == wanted and (records["target"] == target).all()
    assert f"predicted {('not Smiling', 'Smiling')[target]} already" in out


def test_nothing_to_explain_is_not_an_error(flags, toy_files):
    dark = torch.load(toy_files / "classifier.pt") | {"attributes": ["Smiling"]}
    dark["state_dict"] = {"scale": torch.ones(1), "threshold": torch.tensor([9.0])}
    torch.save(dark, flags["output_path"].parent / "dark.pt")
    flags |= {"classifier_path": flags["output_path"].parent / "dark.pt", "target_label": 0}
    code, out, _ = call_script("main.py", flags)
    assert code == 0 and "explaining 0 of 8" in out


CHANGES = {
    "sampling_scale": 0.0,
    "use_ddim": True,
    "use_sampling_on_x_t": False,
    "guided_iterations": 1,
    "seed": 5,
    "clip_denoised": False,
    "use_logits": False,
    "l1_loss": 0.5,
    "l2_loss": 0.5,
    "timestep_respacing": "20",
    "start_step": 6,
    "rescale_timesteps": True,
}


SHORT = {"num_batches": 1, "classifier_scales": "100"}


@pytest.fixture(scope="module")
def unchanged(toy_files, tmp_path_factory):
    """The counterfactuals of a short run."""
    flags = main_flags(toy_files, tmp_path_factory.mktemp("unchanged") / "out") | SHORT
    explain(flags)
    return counterfactuals(flags["output_path"])


def assert_others(flags, unchanged):
    """These flags change at least one counterfactual of the short run."""
    explain(flags | SHORT)
    found = counterfactuals(flags["output_path"])
    assert found.keys() == unchanged.keys() and any((found[i] != unchanged[i]).any() for i in found)


@pytest.mark.parametrize("name", CHANGES)
def test_every_sampling_flag_changes_the_answer(flags, name, toy_files, tmp_path, unchanged):
    if name == "rescale_timesteps":  # weights that do not know their flags
        state = dict(torch.load(toy_files / "ddpm.pt"))
        torch.save(state, tmp_path / "ddpm.pt")
        flags |= {"model_path": tmp_path / "ddpm.pt"}
    assert_others(flags | {name: CHANGES[name]}, unchanged)


def test_the_perceptual_loss_takes_its_weights_from_a_file(flags, tmp_path, unchanged):
    torch.manual_seed(0)
    features = {f"features.{k}": v for k, v in vgg.make_layers(vgg.cfgs["E"]).state_dict().items()}
    torch.save(features, tmp_path / "vgg19.pth")
    assert_others(flags | {"l_perc": 1e4, "l_perc_layer": 3, "perceptual_path": tmp_path / "vgg19.pth"}, unchanged)


def test_half_precision_says_what_it_computes_in_and_changes_little(flags):
    explain(flags | {"num_batches": 1})
    before = counterfactuals(flags["output_path"])
    _, out = explain(flags | {"num_batches": 1, "use_fp16": True, "overwrite": True})
    assert re.search(r"--use_fp16: the UNet computes in torch\.(bfloat16|float32|float16) on", out)
    for i, image in counterfactuals(flags["output_path"]).items():
        assert np.abs(image - before[i]).mean() < 4


def test_how_it_computes_may_change_in_a_run_that_goes_on(flags):
    explain(flags | {"num_batches": 1})
    compute = {"channels_last": False, "compile": False, "cuda_graphs": True}
    records, out = explain(flags | compute | {"num_batches": 2})
    assert len(records) == 6 and "--cuda_graphs True: the cpu has none; running without" in out
    others = flags | {"output_path": flags["output_path"].parent / "other", "num_batches": 2}
    explain(others)
    ours, theirs = counterfactuals(flags["output_path"]), counterfactuals(others["output_path"])
    assert all(np.abs(ours[i] - theirs[i]).max() <= 1 for i in theirs)


def test_device_time_and_versions_of_each_run_are_kept_but_not_of_one_that_had_nothing_to_do(flags):
    path = flags["output_path"] / "Results/exp/runs.yaml"
    explain(flags | {"num_batches": 1})
    explain(flags)
    kept = path.read_bytes()
    explain(flags)
    assert path.read_bytes() == kept
    first, second = read_runs(Layout(flags["output_path"], "exp"))
    assert (first["images"], second["images"]) == (3, 5) and first["versions"]["torch"] == version("torch")
    for run in (first, second):
        assert (
            run["seconds"] > 0 and run["memory_mib"] > 50 and run["device"].startswith("cpu") and run["ranks"] == 1
        )
    explain(flags | {"overwrite": True, "num_batches": 2})
    assert [run["images"] for run in read_runs(Layout(flags["output_path"], "exp"))] == [6]
    path.write_text("damaged")
    explain(flags)
    assert [run["images"] for run in read_runs(Layout(flags["output_path"], "exp"))] == [2]


def test_records_alone_are_written_without_save_images(flags):
    explain(flags | {"save_images": False})
    written = {path.name for path in (flags["output_path"] / "Results/exp").iterdir()}
    assert written == {"records.csv", "summary.yaml", "flags.yaml", "runs.yaml", ".lock"}
    assert not (flags["output_path"] / "Original").exists()


def test_an_oracle_judges_every_image_before_and_after(flags, toy_files):
    published = torch.load(toy_files / "classifier.pt")
    torch.manual_seed(1)
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
    (run,) = read_runs(Layout(flags["output_path"], "exp"))
    assert run["oracle_attributes"] == list(published["attributes"])
    said = f", oracle flip rate {100 * summary['oracle fr']:.1f} %, MNAC {summary['mnac']:.2f}; 8 images in"
    assert said in out


def test_an_oracle_of_ones_own_is_built_by_the_function_that_is_named(flags, toy_files):
    flags |= {"oracle_path": toy_files / "classifier.pt", "num_batches": 1}
    refuse(flags, "classifier.pt", "toy_networks:Brightness")
    records, _ = explain(flags | {"oracle_architecture": "toy_networks:Brightness"})
    assert (records["oracle_flip"] == (records["pred"] != records["cf_pred"])).all()


def test_the_mini_validation_set_is_said_to_be_of_the_validation_split(flags):
    for given in ({}, {"split": "val"}):
        _, out = explain(flags | {"dataset": "CelebAMV", "num_batches": 1} | given)
        assert "images of CelebAMV val" in out


@pytest.mark.parametrize("choice", [{"use_train": True}, {"split": "train"}, {"use_train": True, "split": "train"}])
def test_the_training_split_is_chosen_in_two_ways(flags, tmp_path, choice):
    flags |= {"data_dir": write_celeba(tmp_path / "data", {"train": 2, "val": 3}), "num_batches": 1}
    records, out = explain(flags | choice)
    assert "explaining 2 of 2 images of CelebA train" in out
    assert list(records["image"]) == ["000001.jpg", "000002.jpg"]


# -- batches and chunks -------------------------------------------------------------------------------------------


def test_any_batch_size_gives_the_same_images(flags):
    explain(flags | {"batch_size": 8})
    whole = counterfactuals(flags["output_path"])
    explain(flags | {"batch_size": 1, "overwrite": True})
    single = counterfactuals(flags["output_path"])
    assert whole.keys() == single.keys()
    assert max(np.abs(whole[i] - single[i]).max() for i in whole) <= 1


def test_three_chunks_merge_into_the_run_in_one(flags):
    whole, _ = explain(flags)
    one = counterfactuals(flags["output_path"])
    flags |= {"output_path": flags["output_path"].parent / "chunked"}
    for chunk in (2, 0, 1):
        assert call_script("main.py", flags | {"num_chunks": 3, "chunk": chunk})[0] == 0
    merged = {"merge_and_eval": True, "output_path": flags["output_path"]}
    code, out, _ = call_script("main.py", merged)
    assert code == 0 and re.search(r"^flip rate .* of 8\), L1 [\d.]+, bKL [\d.]+: .*Results/exp$", out, re.M)
    pd.testing.assert_frame_equal(
        pd.read_csv(flags["output_path"] / "Results/exp/records.csv"), whole, rtol=1e-2, atol=1e-2
    )
    three = counterfactuals(flags["output_path"])
    assert one.keys() == three.keys()
    assert max(np.abs(one[i] - three[i]).max() for i in one) <= 1


def test_merging_names_chunks_that_stopped_after_other_numbers_of_batches(flags):
    flags |= {"num_chunks": 2, "batch_size": 2}
    for chunk in (0, 1):
        assert call_script("main.py", flags | {"chunk": chunk, "num_batches": chunk + 1})[0] == 0
    refuse({"merge_and_eval": True, "output_path": flags["output_path"]}, "chunk-1_num-chunks-2", "--num_batches")
