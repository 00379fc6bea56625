"""What main.py refuses: one line that names the flag or the file, and exit code 2."""

import os

import pandas as pd
import pytest
import torch
from main_runs import refuse
from scripts import error_of, run_script
from test_checkpoints import Payload
from toy_celeba import write_celeba


@pytest.mark.parametrize(
    "change, words",
    [
        ({"chunk": 3, "num_chunks": 3}, ["--chunk 3", "0 to 2"]),
        ({"num_chunks": 0}, ["--num_chunks 0"]),
        ({"classifier_scales": "8,ten"}, ["--classifier_scales '8,ten'"]),
        ({"classifier_scales": ","}, ["--classifier_scales"]),
        ({"start_step": 40}, ["--start_step 40", "40 steps"]),
        ({"start_step": 0}, ["--start_step 0"]),
        ({"start_step": 1, "method": "inversion"}, ["--start_step 1 changes nothing with this --method"]),
        ({"timestep_respacing": "4"}, ["--start_step 4", "4 steps"]),
        ({"timestep_respacing": "41"}, ["--timestep_respacing 41"]),
        ({"query_label": "Smirking"}, ["--query_label Smirking", "Smiling"]),
        ({"query_label": "40"}, ["--query_label 40"]),
        ({"target_label": 2}, ["--target_label 2"]),
        ({"split": "most"}, ["--split most"]),
        ({"split": "test"}, ["no images in its test split"]),
        ({"dataset": "CelebB"}, ["--dataset CelebB", "CelebAMV"]),
        ({"data_dir": "nowhere"}, ["--data_dir nowhere"]),
        ({"data_dir": ""}, ["--data_dir must be given"]),
        ({"model_path": ""}, ["--model_path must be given"]),
        ({"classifier_path": ""}, ["--classifier_path must be given"]),
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
def test_bad_flags_are_one_line_and_write_nothing(flags, change, words):
    refuse(flags | change, *words)
    assert not flags["output_path"].exists()


def test_an_empty_output_path_is_refused_by_name(flags, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    refuse(flags | {"output_path": ""}, "--output_path is empty")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["model_path", "classifier_path", "oracle_path"])
def test_a_malicious_weight_file_is_refused_without_running(flags, tmp_path, flag):
    torch.save({"state_dict": Payload(tmp_path / "pwned")}, tmp_path / "evil.pt")
    refuse(flags | {flag: tmp_path / "evil.pt"}, "evil.pt")
    assert not (tmp_path / "pwned").exists()


def test_an_oracle_of_another_image_size_is_named(flags, toy_files, tmp_path):
    torch.save(torch.load(toy_files / "classifier.pt") | {"image_size": 224}, tmp_path / "oracle.pt")
    flags |= {"oracle_path": tmp_path / "oracle.pt", "oracle_architecture": "toy_networks:Brightness"}
    refuse(flags, "oracle.pt was trained at 224 pixels", "the images have 16 (--image_size of main.py)")


@pytest.mark.parametrize("damage, words", [(None, "listed but not there"), (b"not an image", "cannot be read")])
def test_an_absent_or_corrupt_image_is_named_and_nothing_finished_is_lost(flags, tmp_path, damage, words):
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


def test_nan_from_the_network_stops_the_run_and_names_the_image(flags, toy_files, tmp_path):
    state = torch.load(toy_files / "classifier.pt")
    state["state_dict"]["scale"] = torch.full((40,), 1e34)
    torch.save(state, tmp_path / "huge.pt")
    refuse(flags | {"classifier_path": tmp_path / "huge.pt"}, "NaN for image 0", "--use_fp16")
    assert not (flags["output_path"] / "Results/exp/summary.yaml").exists()


def test_an_error_is_exit_code_2_and_one_line_of_a_process(flags):
    assert "--start_step 400" in error_of(run_script("main.py", flags | {"start_step": 400}))
    assert "neither True nor False" in error_of(run_script("main.py", flags | {"clip_denoised": "perhaps"}))


@pytest.mark.parametrize("change", [{"classifier_scales": "1e38"}, {"l1_loss": 3e38, "l2_loss": 3e38}], ids=str)
def test_weights_beyond_float32_are_blamed_for_what_they_do(flags, change):
    refuse(flags | change, "returned NaN", "lower --classifier_scales and other weights of the guidance")


@pytest.mark.parametrize("flag", ["model_path", "classifier_path", "oracle_path", "perceptual_path"])
def test_a_named_pipe_is_refused_instead_of_waited_for(flags, tmp_path, flag):
    os.mkfifo(tmp_path / "pipe.pt")
    weight = int(flag == "perceptual_path")
    refuse(
        flags | {"l_perc": weight, "l_perc_layer": 5, flag: tmp_path / "pipe.pt"}, "pipe.pt is a pipe or a device"
    )


@pytest.mark.parametrize("name", ["records.csv", "flags.yaml"])
def test_a_named_pipe_among_the_results_is_refused(flags, name):
    folder = flags["output_path"] / "Results/exp"
    folder.mkdir(parents=True)
    os.mkfifo(folder / name)
    refuse(flags, f"{name} is a pipe or a device")


@pytest.mark.parametrize(
    "attributes", [list(range(40)), [["a"]] * 40, ["a\nb"] * 40, [None] * 40, [""] * 40], ids=str
)
def test_a_classifier_whose_attributes_are_no_names_is_named(flags, toy_files, tmp_path, attributes):
    torch.save(torch.load(toy_files / "classifier.pt") | {"attributes": attributes}, tmp_path / "odd.pt")
    for role in ("classifier", "oracle"):
        odd = {f"{role}_path": tmp_path / "odd.pt", f"{role}_architecture": "toy_networks:Brightness"}
        refuse(flags | odd, "odd.pt calls an output")


def test_a_diffusion_model_of_another_shape_is_told_no_flags_that_cannot_be(flags, toy_files, tmp_path):
    state = torch.load(toy_files / "ddpm.pt")
    plain = dict(state) | {"time_embed.0.weight": torch.zeros(128, 3)}
    torch.save(plain, tmp_path / "odd.pt")
    line = refuse(flags | {"model_path": tmp_path / "odd.pt"}, "odd.pt does not fit", "time_embed.0.weight")
    assert "channel_mult" not in line
    torch.save(dict(state) | {"out.2.bias": state["out.2.bias"].to(torch.complex64)}, tmp_path / "complex.pt")
    refuse(flags | {"model_path": tmp_path / "complex.pt"}, "complex.pt has complex values in out.2.bias")


def test_names_without_their_suffix_are_blamed_on_the_list_that_has_them(flags, tmp_path):
    data = write_celeba(tmp_path / "data", {"val": 8})
    path = data / "list_attr_celeba.csv"
    path.write_text(path.read_text().replace(".jpg", ""))
    refuse(flags | {"data_dir": data}, "names 000001, but list_eval_partition does not", "000001.jpg")
