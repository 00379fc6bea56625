"""The training scripts as their users run them."""

import io
import os
import re
import shlex
import sys

import pandas as pd
import pytest
import torch
from assertions import assert_identical
from scripts import ROOT, as_argv, contents, kill_when, logged, run_command, run_script, start_script
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
    code, out, err = run_script("celeba-train-diffusion.py", flags)
    assert code == 0, err
    assert "training from step 0 to 12: 4 images a step" in out
    unbroken, killed = flags["output_path"], flags["output_path"].parent / "killed"
    assert (unbroken / "samples000012.png").exists() and (unbroken / "ema_0.5_000012.pt").exists()

    # Each kill comes as soon as the file named is there, so while the rest of its checkpoint is being written,
    # whose optimizer's state comes last, or soon after.
    flags |= {"output_path": killed}
    for sign in ("samples000003.png", "ema_0.5_000003.pt", "model000006.pt", "opt000006.pt", "samples000009.png"):
        kill_at(killed / sign, "celeba-train-diffusion.py", flags)
    code, out, err = run_script("celeba-train-diffusion.py", flags)
    assert code == 0 and "going on from" in out, err
    for name in ("model000012.pt", "ema_0.5_000012.pt", "ema_0.9_000012.pt", "opt000012.pt"):
        assert_identical(torch.load(unbroken / name), torch.load(killed / name))
    assert (unbroken / "samples000012.png").read_bytes() == (killed / "samples000012.png").read_bytes()
    assert logged(unbroken) == logged(killed)
    assert not list(killed.glob("*.part"))


def test_a_classifier_training_killed_and_resumed_ends_bit_identical(classifier_flags):
    flags = classifier_flags | {"lr_anneal_steps": 6, "keep_checkpoints": 9}
    code, _, err = run_script("celeba-train-classifier.py", flags)
    assert code == 0, err
    unbroken, killed = flags["output_path"], flags["output_path"].parent / "killed"
    flags |= {"output_path": killed}
    for sign in ("best.pt", "opt000004.pt"):
        kill_at(killed / sign, "celeba-train-classifier.py", flags)
    code, out, err = run_script("celeba-train-classifier.py", flags)
    assert code == 0 and "going on from" in out, err
    for name in ("model000006.pt", "ema_0.99_000006.pt", "opt000006.pt", "best.pt", "last.pt"):
        assert_identical(torch.load(unbroken / name), torch.load(killed / name))
    assert (unbroken / "attributes.csv").read_bytes() == (killed / "attributes.csv").read_bytes()


def test_the_best_of_another_training_does_not_stay(classifier_flags):
    output = classifier_flags["output_path"]
    output.mkdir()
    torch.save({"balanced_accuracy": 2.0}, output / "best.pt")
    code, _, err = run_script("celeba-train-classifier.py", classifier_flags)
    assert code == 0, err
    best, last = (torch.load(output / name)["balanced_accuracy"] for name in ("best.pt", "last.pt"))
    assert 1 >= best >= last


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
    flags = diffusion_flags | {
        "resume_checkpoint": tmp_path / "given.pt",
        "lr": 1e-9,
        "lr_anneal_steps": 1,
        "dropout": 0,
    }
    code, _, err = run_script("celeba-train-diffusion.py", flags)
    assert code == 0, err
    trained = torch.load(diffusion_flags["output_path"] / "ema_0.5_000001.pt")
    for name, tensor in trained.items():
        torch.testing.assert_close(tensor, state[prefix + name], rtol=0, atol=1e-7)


def test_a_training_goes_on_when_the_weights_that_it_began_from_are_gone(diffusion_flags, tmp_path):
    given = write_weights(tmp_path) / "ddpm.pt"
    flags = diffusion_flags | {"resume_checkpoint": given, "lr_anneal_steps": 4, "save_interval": 1}
    kill_at(flags["output_path"] / "opt000001.pt", "celeba-train-diffusion.py", flags)
    given.unlink()
    code, out, err = run_script("celeba-train-diffusion.py", flags)
    assert code == 0 and "going on from" in out, err


@pytest.mark.slow
def test_a_full_disk_leaves_the_checkpoints_before_it_and_can_be_gone_on_from(diffusion_flags):
    flags = diffusion_flags | {"keep_checkpoints": 1, "sample_steps": 0}
    output = flags["output_path"]
    kill_at(output / "opt000003.pt", "celeba-train-diffusion.py", flags)
    before = weights(output)
    assert len(before) == 4
    command = shlex.join([sys.executable, str(ROOT / "celeba-train-diffusion.py"), *as_argv(flags)])
    # No file may grow beyond 200 KiB: the weights do.
    code, _, err = run_command("bash", "-c", f"ulimit -f 200; exec {command}")
    assert code == 2 and "cannot be written (File too large)" in err.splitlines()[-1] and "Traceback" not in err
    assert weights(output) == before
    assert not list(output.glob("*.part"))
    assert run_script("celeba-train-diffusion.py", flags)[0] == 0
    assert (output / "opt000012.pt").exists()


def test_a_damaged_checkpoint_is_named_with_the_way_to_go_on(diffusion_flags, tmp_path):
    flags = diffusion_flags | {"lr_anneal_steps": 6, "sample_steps": 0}
    assert run_script("celeba-train-diffusion.py", flags)[0] == 0
    output, whole = flags["output_path"], weights(flags["output_path"])
    torch.save({"of": "something else"}, tmp_path / "foreign.pt")
    damages = {
        "opt000006.pt": (tmp_path / "foreign.pt").read_bytes(),
        "model000006.pt": whole["model000006.pt"][:9999],
        "ema_0.9_000006.pt": b"",
    }
    for name, damaged in damages.items():
        (output / name).write_bytes(damaged)
        code, _, err = run_script("celeba-train-diffusion.py", flags)
        line = err.splitlines()[-1]
        assert code == 2 and f"{output}/{name} cannot be read" in line and "Traceback" not in err
        assert f"remove {output}/opt000006.pt to go on from step 3" in line
        (output / name).write_bytes(whole[name])
    (output / "opt000006.pt").unlink()  # the remedy
    assert run_script("celeba-train-diffusion.py", flags)[0] == 0
    for name in damages:
        assert_identical(torch.load(output / name), torch.load(io.BytesIO(whole[name])))


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
    code, out, err = run_script("celeba-train-diffusion.py", flags)
    assert code == 0 and {"fp16": "torch.float16", "bf16": "torch.bfloat16"}[precision] in out, err
    state = torch.load(flags["output_path"] / "opt000003.pt")
    assert bool(state["scaler"]) == (precision == "fp16")
    assert all(float(row["loss"]) < 10 for row in logged(flags["output_path"]))
    weights = torch.load(flags["output_path"] / "model000003.pt").values()
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in weights)


def test_trained_files_are_what_main_reads_packed_or_not(diffusion_flags, classifier_flags, tmp_path):
    assert run_script("celeba-train-diffusion.py", diffusion_flags | {"lr_anneal_steps": 2})[0] == 0
    code, out, err = run_script("celeba-train-classifier.py", classifier_flags)
    assert code == 0 and "balanced accuracy" in out, err
    table = pd.read_csv(tmp_path / "classifier/attributes.csv")
    assert len(table) == 40 and {"accuracy", "balanced", "yes"} < set(table.columns)

    images = torch.rand(2, 3, 16, 16) * 2 - 1
    for shipped in (False, True):
        paths = [tmp_path / "ddpm/ema_0.9_000002.pt", tmp_path / "classifier/best.pt"]
        if shipped:
            for i, path in enumerate(paths):
                paths[i] = tmp_path / f"packed{i}.pt"
                torch.save(pack(read_weights(path)), paths[i])
            assert paths[0].stat().st_size < 0.6 * (tmp_path / "ddpm/ema_0.9_000002.pt").stat().st_size
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
    code, out, err = run_script("celeba-train-classifier.py", classifier_flags | {"data_dir": folder})
    assert code == 0 and "11 train, 1 val images with 2 attributes; it names no splits" in out, err
    assert "kept in memory: 12 images" in out
    assert load_classifier(tmp_path / "classifier/best.pt").attributes == ["even", "odd"]

    code, _, err = run_script(
        "celeba-train-classifier.py", classifier_flags | {"data_dir": folder, "query_label": "Smiling"}
    )
    assert code == 2 and "--query_label Smiling" in err.splitlines()[-1] and "even, odd" in err


def test_a_classifier_of_exclusive_classes_says_so_in_all_its_files(classifier_flags, folder, tmp_path):
    flags = classifier_flags | {"data_dir": folder, "task": "classes", "architecture": "tiny_cnn"}
    code, out, err = run_script("celeba-train-classifier.py", flags)
    assert code == 0, err
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
    code, out, err = run_script("celeba-train-classifier.py", flags)
    assert code == 0 and "step 60: top-1 accuracy 1.0000, mean over the classes 1.0000" in out, err
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
        code, _, err = run_script("celeba-train-classifier.py", classifier_flags | {"task": "classes"} | change)
        assert code == 2 and words in err.splitlines()[-1] and "Traceback" not in err
        assert not classifier_flags["output_path"].exists()


def test_a_ddpm_conditioned_on_the_labels_of_a_csv(diffusion_flags, folder):
    rows = [f"{path.relative_to(folder)},{i % 2}" for i, path in enumerate(sorted(folder.rglob("*.jpg")))]
    (folder / "list.csv").write_text("\n".join(["path,Odd", *rows]) + "\n")
    flags = diffusion_flags | {
        "data_dir": folder / "list.csv",
        "class_cond": True,
        "num_classes": 1,
        "lr_anneal_steps": 2,
    }
    code, _, err = run_script("celeba-train-diffusion.py", flags)
    assert code == 0 and (flags["output_path"] / "model000002.pt").exists(), err
    code, _, err = run_script("celeba-train-diffusion.py", flags | {"num_classes": 40})
    assert code == 2 and "--num_classes 40" in err.splitlines()[-1]


def test_a_ddpm_of_classes_learns_from_a_folder_of_them_and_serves_main(diffusion_flags, folder, tmp_path):
    classes = {"class_cond": True, "multiclass": False, "num_classes": 2}
    flags = diffusion_flags | classes | {"data_dir": folder, "lr_anneal_steps": 2}
    code, _, err = run_script("celeba-train-diffusion.py", flags)
    assert code == 0 and (flags["output_path"] / "samples000002.png").exists(), err
    weights = flags["output_path"] / "ema_0.5_000002.pt"
    assert torch.load(weights)["label_emb.weight"].shape == (2, 128)

    write_weights(tmp_path)
    data = write_celeba(tmp_path / "two_classes", {"val": 4})
    table = pd.read_csv(data / "list_attr_celeba.csv")[["image_id", "Smiling"]]
    table.assign(Serious=-table["Smiling"]).to_csv(data / "list_attr_celeba.csv", index=False)
    explained = {
        "data_dir": data,
        "query_label": "Smiling",
        "output_path": tmp_path / "out",
        "model_path": weights,
        "num_batches": 1,
        "batch_size": 2,
        "classifier_path": tmp_path / "classifier.pt",
        "classifier_architecture": "toy_networks:Brightness",
        "start_step": 2,
        "classifier_scales": 1,
        "gpu": -1,
    }
    code, out, err = run_script("main.py", MODEL_FLAGS | classes | explained)
    assert code == 0 and "2 images in" in out, err


def test_a_sheet_of_samples_takes_no_more_steps_than_the_diffusion_has(diffusion_flags):
    sheets = []
    for sample_steps in (20, 50):
        flags = diffusion_flags | {
            "diffusion_steps": 20,
            "sample_steps": sample_steps,
            "lr_anneal_steps": 1,
            "output_path": diffusion_flags["output_path"] / str(sample_steps),
        }
        code, _, err = run_script("celeba-train-diffusion.py", flags)
        assert code == 0, err
        sheets.append((flags["output_path"] / "samples000001.png").read_bytes())
    assert sheets[0] == sheets[1]


def test_a_ddpm_of_classes_refuses_images_of_several_and_a_single_class(diffusion_flags):
    for num_classes, words in ((40, "--multiclass False needs one class an image, but 0"), (1, "--num_classes 1")):
        flags = diffusion_flags | {"class_cond": True, "multiclass": False, "num_classes": num_classes}
        code, _, err = run_script("celeba-train-diffusion.py", flags)
        assert code == 2 and words in err.splitlines()[-1] and "Traceback" not in err
        assert not flags["output_path"].exists()


def test_a_corrupt_image_ends_a_training_in_one_line_that_names_it(diffusion_flags, folder):
    for path in folder.rglob("*.jpg"):
        path.write_bytes(path.read_bytes()[:100])
    code, _, err = run_script("celeba-train-diffusion.py", diffusion_flags | {"data_dir": folder})
    assert code == 2 and "Traceback" not in err
    assert sum(str(folder) in line and "cannot be read as an image" in line for line in err.splitlines()) == 1


def test_a_classifier_of_one_attribute_answers_that_question_alone(classifier_flags, tmp_path):
    code, _, err = run_script("celeba-train-classifier.py", classifier_flags | {"query_label": "Young"})
    assert code == 0, err
    classifier = load_classifier(tmp_path / "classifier/last.pt")
    assert (classifier.task, classifier.attributes) == ("attributes", ["Young"])


@pytest.mark.parametrize(
    "script, change, words",
    [
        ("celeba-train-diffusion.py", {"data_dir": "nowhere"}, "--data_dir nowhere"),
        ("celeba-train-diffusion.py", {"compile": "perhaps"}, "--compile perhaps"),
        ("celeba-train-diffusion.py", {"schedule_sampler": "clever"}, "--schedule_sampler clever"),
        ("celeba-train-diffusion.py", {"ema_rate": ""}, "--ema_rate ''"),
        ("celeba-train-classifier.py", {"log_interval": 0}, "--log_interval 0 must be at least 1"),
        ("celeba-train-classifier.py", {"architecture": "resnet19"}, "resnet19"),
        ("celeba-train-classifier.py", {"architecture": "os:getcwd"}, "os:getcwd fails"),
        ("celeba-train-classifier.py", {"architecture": "densenet121", "image_size": 16}, "--image_size 16"),
        ("celeba-train-classifier.py", {"microbatch": 3}, "on 1 image(s) at a time"),
        ("celeba-train-classifier.py", {"query_label": "Smirking"}, "--query_label Smirking"),
    ],
)
def test_bad_flags_are_one_line(diffusion_flags, classifier_flags, script, change, words):
    flags = diffusion_flags if "diffusion" in script else classifier_flags
    code, _, err = run_script(script, flags | change)
    assert code == 2 and words in err.splitlines()[-1] and "Traceback" not in err
    assert not flags["output_path"].exists()
