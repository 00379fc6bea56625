"""The training scripts as their users run them."""

import os
import re
import shlex
import sys

import pandas as pd
import pytest
import torch
from assertions import assert_identical
from main_runs import main_flags
from scripts import (
    ROOT,
    as_argv,
    call_script,
    contents,
    error_of,
    kill_when,
    logged,
    output_of,
    run_command,
    run_script,
    start_script,
)
from toy_celeba import write_celeba
from toy_classes import COLOURS, draw_colour, write_colours
from toy_networks import MODEL_FLAGS, write_weights

from core.data.image_lists import ImageFolder
from core.data.labels import class_numbers
from core.data.loading import load_training_data
from core.running.explainer import explain
from demo.card import pack
from guided_diffusion.script.storage import lock
from guided_diffusion.script_util import create_model_and_diffusion
from guided_diffusion.training.weight_files import SAVE_FORMATS
from models.checkpoints import load_diffusion, read_weights
from models.classifiers import BinaryQuestion, load_classifier


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_celeba(tmp_path_factory.mktemp("data") / "celeba", {"train": 12, "val": 6})


@pytest.fixture
def diffusion_flags(data, tmp_path):
    return MODEL_FLAGS | {
        "data_dir": data,
        "output_path": tmp_path / "ddpm",
        "batch_size": 4,
        "ema_rate": "0.5,0.9",
        "lr_anneal_steps": 12,
        "save_interval": 3,
        "log_interval": 2,
        "keep_checkpoints": 9,
        "sample_steps": 2,
        "schedule_sampler": "loss-second-moment",
        "dropout": 0.1,
    }


@pytest.fixture
def classifier_flags(data, tmp_path):
    return {
        "data_dir": data,
        "output_path": tmp_path / "classifier",
        "image_size": 32,
        "batch_size": 4,
        "architecture": "shufflenet_v2_x0_5",
        "lr_anneal_steps": 4,
        "save_interval": 2,
        "log_interval": 1,
    }


def weights(folder):
    return {name: data for name, data in contents(folder).items() if name.endswith(".pt")}


def kill_at(sign, script, flags):
    """Runs a script until a file is there, and kills it."""
    assert kill_when(start_script(script, flags), sign.exists)


@pytest.mark.slow
def test_a_diffusion_training_killed_again_and_again_ends_bit_identical(diffusion_flags):
    flags = diffusion_flags
    out = output_of(run_script("celeba-train-diffusion.py", flags))
    assert "training from step 0 to 12: 4 images a step" in out
    unbroken, killed = flags["output_path"], flags["output_path"].parent / "killed"
    assert (unbroken / "samples000012.png").exists() and (unbroken / "ema_0.5_000012.pt").exists()

    # Each kill comes as soon as the file named is there, so while the rest of its checkpoint is being written,
    # whose optimizer's state comes last, or soon after.
    flags |= {"output_path": killed}
    for sign in ("samples000003.png", "ema_0.5_000003.pt", "model000006.pt", "opt000006.pt", "samples000009.png"):
        kill_at(killed / sign, "celeba-train-diffusion.py", flags)
    assert "going on from" in output_of(run_script("celeba-train-diffusion.py", flags))
    for name in ("model000012.pt", "ema_0.5_000012.pt", "ema_0.9_000012.pt", "opt000012.pt"):
        assert_identical(torch.load(unbroken / name), torch.load(killed / name))
    assert (unbroken / "samples000012.png").read_bytes() == (killed / "samples000012.png").read_bytes()
    assert logged(unbroken) == logged(killed)
    assert not list(killed.glob("*.part"))


def test_a_classifier_training_killed_and_resumed_ends_bit_identical(classifier_flags):
    flags = classifier_flags | {"lr_anneal_steps": 6, "keep_checkpoints": 9}
    output_of(run_script("celeba-train-classifier.py", flags))
    unbroken, killed = flags["output_path"], flags["output_path"].parent / "killed"
    flags |= {"output_path": killed}
    for sign in ("best.pt", "opt000004.pt"):
        kill_at(killed / sign, "celeba-train-classifier.py", flags)
    assert "going on from" in output_of(run_script("celeba-train-classifier.py", flags))
    for name in ("model000006.pt", "ema_0.99_000006.pt", "opt000006.pt", "best.pt", "last.pt"):
        assert_identical(torch.load(unbroken / name), torch.load(killed / name))
    assert (unbroken / "attributes.csv").read_bytes() == (killed / "attributes.csv").read_bytes()


def test_a_classifier_of_one_attribute_answers_it_alone_and_the_best_of_another_training_goes(classifier_flags):
    output = classifier_flags["output_path"]
    output.mkdir()
    torch.save({"balanced_accuracy": 2.0}, output / "best.pt")
    output_of(run_script("celeba-train-classifier.py", classifier_flags | {"query_label": "Young"}))
    best, last = (torch.load(output / name)["balanced_accuracy"] for name in ("best.pt", "last.pt"))
    assert 1 >= best >= last
    classifier = load_classifier(output / "last.pt")
    assert (classifier.task, classifier.attributes) == ("attributes", ["Young"])


def test_a_training_goes_on_with_its_own_flags_alone(diffusion_flags):
    assert run_script("celeba-train-diffusion.py", diffusion_flags | {"lr_anneal_steps": 3})[0] == 0
    before = weights(diffusion_flags["output_path"])
    for change in ({"lr": 0.5}, {"num_channels": 64}, {"batch_size": 2}, {"ema_rate": "0.5"}):
        code, _, err = run_script("celeba-train-diffusion.py", diffusion_flags | {"lr_anneal_steps": 3} | change)
        [(name, value)] = change.items()
        assert code == 2 and f"--{name} {value} (was " in err.splitlines()[-1] and "Traceback" not in err
    assert weights(diffusion_flags["output_path"]) == before
    harmless = {"lr_anneal_steps": 3, "log_interval": 1, "num_workers": 1}
    assert run_script("celeba-train-diffusion.py", diffusion_flags | harmless)[0] == 0


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_training_begins_from_given_weights(diffusion_flags, tmp_path, prefix):
    state = {prefix + name: tensor for name, tensor in torch.load(write_weights(tmp_path) / "ddpm.pt").items()}
    torch.save(state, tmp_path / "given.pt")
    given = {"resume_checkpoint": tmp_path / "given.pt", "lr": 1e-9, "lr_anneal_steps": 1, "dropout": 0}
    output_of(run_script("celeba-train-diffusion.py", diffusion_flags | given))
    trained = torch.load(diffusion_flags["output_path"] / "ema_0.5_000001.pt")
    for name, tensor in trained.items():
        torch.testing.assert_close(tensor, state[prefix + name], rtol=0, atol=1e-7)


def test_a_training_goes_on_when_the_weights_that_it_began_from_are_gone(diffusion_flags, tmp_path):
    given = write_weights(tmp_path) / "ddpm.pt"
    flags = diffusion_flags | {"resume_checkpoint": given, "lr_anneal_steps": 4, "save_interval": 1}
    kill_at(flags["output_path"] / "opt000001.pt", "celeba-train-diffusion.py", flags)
    given.unlink()
    assert "going on from" in output_of(run_script("celeba-train-diffusion.py", flags))


@pytest.mark.slow
def test_a_full_disk_leaves_the_checkpoints_before_it_and_can_be_gone_on_from(diffusion_flags):
    flags = diffusion_flags | {"keep_checkpoints": 1, "sample_steps": 0}
    output = flags["output_path"]
    kill_at(output / "opt000003.pt", "celeba-train-diffusion.py", flags)
    before = weights(output)
    assert len(before) == 4
    command = shlex.join([sys.executable, str(ROOT / "celeba-train-diffusion.py"), *as_argv(flags)])
    # No file may grow beyond 200 KiB: the weights do.
    line = error_of(run_command("bash", "-c", f"ulimit -f 200; exec {command}"))
    assert "cannot be written (File too large)" in line
    assert weights(output) == before
    assert not list(output.glob("*.part"))
    assert run_script("celeba-train-diffusion.py", flags)[0] == 0
    assert (output / "opt000012.pt").exists()


def test_a_folder_in_use_is_left_alone(diffusion_flags):
    output = diffusion_flags["output_path"]
    output.mkdir()
    held = lock(output / ".lock", "in use")
    code, _, err = run_script("celeba-train-diffusion.py", diffusion_flags)
    held.release()
    assert code == 2 and f"in use by another training (process {os.getpid()})" in err.splitlines()[-1]
    assert os.listdir(output) == [".lock"]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precisions_train_with_the_loss_scale_that_float16_needs(diffusion_flags, precision):
    flags = diffusion_flags | {"precision": precision, "lr_anneal_steps": 3, "use_checkpoint": True}
    out = output_of(run_script("celeba-train-diffusion.py", flags))
    assert {"fp16": "torch.float16", "bf16": "torch.bfloat16"}[precision] in out
    state = torch.load(flags["output_path"] / "opt000003.pt")
    assert bool(state["scaler"]) == (precision == "fp16")
    assert all(float(row["loss"]) < 10 for row in logged(flags["output_path"]))
    weights = torch.load(flags["output_path"] / "model000003.pt").values()
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in weights)


@pytest.mark.parametrize("save_format", SAVE_FORMATS)
def test_trained_files_are_what_main_reads_packed_or_not(diffusion_flags, classifier_flags, tmp_path, save_format):
    saving = {"lr_anneal_steps": 2, "save_format": save_format}
    output_of(run_script("celeba-train-diffusion.py", diffusion_flags | saving))
    out = output_of(run_script("celeba-train-classifier.py", classifier_flags | saving))
    assert "balanced accuracy" in out and (tmp_path / f"classifier/last.{save_format}").exists()
    table = pd.read_csv(tmp_path / "classifier/attributes.csv")
    assert len(table) == 40 and {"accuracy", "balanced", "yes"} < set(table.columns)

    images = torch.rand(2, 3, 16, 16) * 2 - 1
    for shipped in (False, True):
        trained = [tmp_path / f"{name}.{save_format}" for name in ("ddpm/ema_0.9_000002", "classifier/best")]
        paths = list(trained)
        if shipped:
            for i, path in enumerate(paths):
                paths[i] = tmp_path / f"packed{i}.pt"
                torch.save(pack(read_weights(path)), paths[i])
            assert paths[0].stat().st_size < 0.6 * trained[0].stat().st_size
        unet, diffusion = create_model_and_diffusion(**MODEL_FLAGS)
        load_diffusion(unet, paths[0], MODEL_FLAGS)
        classifier = load_classifier(paths[1])
        assert len(classifier.attributes) == 40 and classifier.image_size == 32
        found = explain(images, BinaryQuestion(classifier, 31), diffusion, unet, tau=2, classifier_scales=(1,))
        assert found.counterfactual.shape == images.shape


@pytest.fixture
def folder(tmp_path):
    """Twelve images in two subfolders."""
    images = write_celeba(tmp_path / "drawn", {"train": 12}) / "img_align_celeba"
    for i, path in enumerate(sorted(images.iterdir())):
        place = tmp_path / "folder" / ("even", "odd")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / path.name)
    return tmp_path / "folder"


def test_a_classifier_of_a_folder_answers_for_its_classes(classifier_flags, folder, tmp_path):
    out = output_of(run_script("celeba-train-classifier.py", classifier_flags | {"data_dir": folder}))
    assert "11 train, 1 val images with 2 attributes; it names no splits" in out
    assert "kept in memory: 12 images" in out
    assert load_classifier(tmp_path / "classifier/best.pt").attributes == ["even", "odd"]

    asked = {"data_dir": folder, "query_label": "Smiling"}
    line = error_of(run_script("celeba-train-classifier.py", classifier_flags | asked))
    assert "--query_label Smiling" in line and "even, odd" in line


def test_a_classifier_of_exclusive_classes_says_so_in_all_its_files(classifier_flags, folder, tmp_path):
    flags = classifier_flags | {"data_dir": folder, "task": "classes", "architecture": "tiny_cnn"}
    out = output_of(run_script("celeba-train-classifier.py", flags))
    assert re.search(r"step 4: top-1 accuracy [01]\.0000, mean over the classes [01]\.0000", out)
    best = torch.load(tmp_path / "classifier/best.pt")
    assert (best["task"], best["attributes"], best["image_size"]) == ("classes", ["even", "odd"], 32)
    classifier = load_classifier(tmp_path / "classifier/best.pt")
    assert classifier.task == "classes" and pack(read_weights(tmp_path / "classifier/best.pt"))["task"] == "classes"

    # The one image of the validation split decides the table.
    [val] = load_training_data(folder, ["val"], 32)
    [number] = class_numbers(val.labels).tolist()
    table = pd.read_csv(tmp_path / "classifier/classes.csv")
    right = classifier(val[0][0][None]).argmax() == number
    assert table.to_dict("records") == [{"class": ("even", "odd")[number], "accuracy": float(right), "images": 1}]
    assert not (tmp_path / "classifier/attributes.csv").exists()

    images, answers = torch.rand(2, 3, 32, 32), []
    for name in ("last.pt", "model000004.pt", "ema_0.99_000004.pt"):
        checkpoint = load_classifier(tmp_path / "classifier" / name)
        assert (checkpoint.task, checkpoint.attributes, checkpoint.image_size) == ("classes", ["even", "odd"], 32)
        answers.append(checkpoint(images))
    assert torch.equal(answers[0], answers[2])


def test_a_training_of_classes_learns_to_tell_them_apart(classifier_flags, tmp_path):
    data = write_colours(tmp_path / "colours", each=12)
    flags = classifier_flags | {
        "data_dir": data, "task": "classes", "architecture": "tiny_cnn", "lr_anneal_steps": 60, "save_interval": 60,
        "ema_rate": "0.5", "batch_size": 12,
    }  # fmt: skip
    out = output_of(run_script("celeba-train-classifier.py", flags))
    assert "step 60: top-1 accuracy 1.0000, mean over the classes 1.0000" in out
    images = ImageFolder(data, "train", 32)
    classifier = load_classifier(tmp_path / "classifier/last.pt")
    seen = classifier(torch.stack([image for image, _ in images])).argmax(1)
    assert classifier.attributes == list(COLOURS) and (seen == class_numbers(images.labels)).all()


def test_classes_that_are_none_are_refused(classifier_flags, folder, tmp_path):
    draw_colour(tmp_path / "single/red/1.png", "red", 0)
    draw_colour(tmp_path / "single/red/2.png", "red", 1)
    for change, words in (
        ({}, "--task classes needs one class an image, but 000001.jpg of --data_dir"),
        ({"data_dir": folder, "query_label": "even"}, "--query_label even is for --task attributes"),
        ({"data_dir": tmp_path / "single"}, "--task classes needs several classes"),
        ({"task": "clases"}, "--task clases is unknown; choose one of attributes, classes"),
    ):
        given = classifier_flags | {"task": "classes"} | change
        assert words in error_of(call_script("celeba-train-classifier.py", given))
        assert not classifier_flags["output_path"].exists()


def test_a_ddpm_conditioned_on_the_labels_of_a_csv(diffusion_flags, folder):
    rows = [f"{path.relative_to(folder)},{i % 2}" for i, path in enumerate(sorted(folder.rglob("*.jpg")))]
    (folder / "list.csv").write_text("\n".join(["path,Odd", *rows]) + "\n")
    conditional = {"class_cond": True, "num_classes": 1, "lr_anneal_steps": 2}
    flags = diffusion_flags | conditional | {"data_dir": folder / "list.csv"}
    output_of(run_script("celeba-train-diffusion.py", flags))
    assert (flags["output_path"] / "model000002.pt").exists()
    assert "--num_classes 40" in error_of(run_script("celeba-train-diffusion.py", flags | {"num_classes": 40}))


def test_a_ddpm_of_classes_learns_from_a_folder_of_them_and_serves_main(diffusion_flags, folder, tmp_path):
    classes = {"class_cond": True, "multiclass": False, "num_classes": 2}
    flags = diffusion_flags | classes | {"data_dir": folder, "lr_anneal_steps": 2}
    output_of(run_script("celeba-train-diffusion.py", flags))
    assert (flags["output_path"] / "samples000002.png").exists()
    weights = flags["output_path"] / "ema_0.5_000002.pt"
    assert torch.load(weights)["label_emb.weight"].shape == (2, 128)

    write_weights(tmp_path)
    data = write_celeba(tmp_path / "two_classes", {"val": 4})
    table = pd.read_csv(data / "list_attr_celeba.csv")[["image_id", "Smiling"]]
    table.assign(Serious=-table["Smiling"]).to_csv(data / "list_attr_celeba.csv", index=False)
    explained = main_flags(tmp_path, tmp_path / "out") | {"data_dir": data, "model_path": weights}
    explained |= {"query_label": "Smiling", "num_batches": 1, "batch_size": 2, "start_step": 2}
    assert "2 images in" in output_of(run_script("main.py", explained | classes))


def test_a_sheet_of_samples_takes_no_more_steps_than_the_diffusion_has(diffusion_flags):
    sheets = []
    for sample_steps in (20, 50):
        flags = diffusion_flags | {"diffusion_steps": 20, "sample_steps": sample_steps, "lr_anneal_steps": 1}
        flags["output_path"] /= str(sample_steps)
        output_of(run_script("celeba-train-diffusion.py", flags))
        sheets.append((flags["output_path"] / "samples000001.png").read_bytes())
    assert sheets[0] == sheets[1]


def test_a_ddpm_of_classes_refuses_images_of_several_and_a_single_class(diffusion_flags):
    for num_classes, words in ((40, "--multiclass False needs one class an image, but 0"), (1, "--num_classes 1")):
        flags = diffusion_flags | {"class_cond": True, "multiclass": False, "num_classes": num_classes}
        assert words in error_of(call_script("celeba-train-diffusion.py", flags))
        assert not flags["output_path"].exists()


def test_a_corrupt_image_ends_a_training_in_one_line_that_names_it(diffusion_flags, folder):
    for path in folder.rglob("*.jpg"):
        path.write_bytes(path.read_bytes()[:100])
    line = error_of(run_script("celeba-train-diffusion.py", diffusion_flags | {"data_dir": folder}))
    assert str(folder) in line and "cannot be read as an image" in line


@pytest.mark.parametrize(
    "script, change, words",
    [
        ("celeba-train-diffusion.py", {"data_dir": "nowhere"}, "--data_dir nowhere"),
        ("celeba-train-diffusion.py", {"schedule_sampler": "clever"}, "--schedule_sampler clever"),
        ("celeba-train-diffusion.py", {"save_format": "ckpt"}, "--save_format ckpt is unknown"),
        ("celeba-train-classifier.py", {"architecture": "resnet19"}, "resnet19"),
        ("celeba-train-classifier.py", {"architecture": "os:getcwd"}, "os:getcwd fails"),
        ("celeba-train-classifier.py", {"architecture": "densenet121", "image_size": 16}, "--image_size 16"),
        ("celeba-train-classifier.py", {"microbatch": 3}, "on 1 image(s) at a time"),
        ("celeba-train-classifier.py", {"query_label": "Smirking"}, "--query_label Smirking"),
    ],
)
def test_bad_flags_are_one_line(diffusion_flags, classifier_flags, script, change, words):
    flags = diffusion_flags if "diffusion" in script else classifier_flags
    assert words in error_of(call_script(script, flags | change))
    assert not flags["output_path"].exists()
