"""Trainings of several ranks, started as their users start them."""

import shutil
import sys

import pytest
import torch
from assertions import assert_near
from rank_runs import finish_tasks, require, start_ranks, words_of
from scripts import ROOT, SEARCH_PATH, as_argv, error_of, logged, output_of, run_command, run_shell
from toy_celeba import write_celeba
from toy_networks import MODEL_FLAGS

from guided_diffusion.dist_util import device_of_rank, pick_device
from guided_diffusion.ranks.ranks import Ranks
from guided_diffusion.script.errors import UserError

DIFFUSION, CLASSIFIER = "celeba-train-diffusion.py", "celeba-train-classifier.py"
TRAIN_FLAGS = {
    "batch_size": 2,
    "ema_rate": 0.9,
    "lr_anneal_steps": 10,
    "save_interval": 1,
    "log_interval": 1,
    "keep_checkpoints": 99,
    "sample_steps": 0,
    "schedule_sampler": "loss-second-moment",
    "grad_clip": 1.0,
}


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    data = write_celeba(tmp_path_factory.mktemp("distributed") / "celeba", {"train": 24, "val": 4})
    return MODEL_FLAGS | TRAIN_FLAGS | {"data_dir": data}


def one_liner(flags, output, gpus, path=SEARCH_PATH, **changes):
    """Runs celeba-train.sh, which finds the commands of `path` -> stdout."""
    variables = {"PATH": path, "GPUS": gpus, "MODEL_FLAGS": " ".join(as_argv(MODEL_FLAGS))}
    variables["TRAIN_FLAGS"] = " ".join(as_argv(TRAIN_FLAGS | changes))
    return output_of(run_shell("celeba-train.sh", flags["data_dir"], output, "--sample_steps", 0, **variables))


@pytest.fixture(scope="module")
def on_one(flags, tmp_path_factory):
    """(output, stdout) of one rank with the batch of two."""
    output = tmp_path_factory.mktemp("one") / "run"
    return output, one_liner(flags, output, "0", batch_size=4)


@pytest.fixture(scope="module")
def alone(on_one):
    return on_one[0]


@pytest.fixture(scope="module", params=["mpiexec", pytest.param("torchrun", marks=pytest.mark.slow)])
def on_two(request, flags, tmp_path_factory):
    """(output, stdout) of two ranks, started by either."""
    root = tmp_path_factory.mktemp("two")
    if request.param == "mpiexec":
        require("mpiexec")
        return root / "run", one_liner(flags, root / "run", "0,1")
    for name in ("bash", "dirname", "torchrun"):  # a machine without mpiexec
        (root / name).symlink_to(shutil.which(name, path=SEARCH_PATH))
    return root / "run", one_liner(flags, root / "run", "0,1", path=str(root))


def run_ranks(flags, script=DIFFUSION, folders=(ROOT, ROOT)):
    """Runs a script on two forked ranks -> (exit code, stdout, stderr)."""
    codes, outs, errs = finish_tasks(start_ranks(script, flags, folders))
    return max(codes), "".join(outs), "".join(errs)


def first_gradient(folder):
    """The gradient of the first step, from AdamW's first moment: (1 - beta1) of it after one step."""
    moments = torch.load(folder / "opt000001.pt")["optimizer"]["state"]
    return torch.cat([moments[i]["exp_avg"].flatten() for i in sorted(moments)]) / 0.1


BROKEN = {  # file -> what it says on a machine where mpi4py, or the library that it loads, is missing
    "mpi4py/__init__.py": "raise ImportError('No module named mpi4py')",
    "mpi4py/MPI.py": "raise RuntimeError('cannot load MPI library')",
}


@pytest.mark.parametrize("broken", [None, *BROKEN])
def test_the_one_liner_falls_back_on_torchrun_where_mpi4py_does_not_work(tmp_path, broken):
    for name in ("mpiexec", "torchrun"):
        (tmp_path / name).write_text(f'#!/bin/bash\necho {name} "$@"')
    (tmp_path / "python").write_text(f'#!/bin/bash\nexec {sys.executable} "$@"')
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py/__init__.py").write_text("class rc: pass")
    (tmp_path / "mpi4py/MPI.py").touch()
    if broken:
        (tmp_path / broken).write_text(BROKEN[broken])
    for name in ("mpiexec", "torchrun", "python"):
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{SEARCH_PATH}"
    code, out, err = run_shell("celeba-train.sh", "data", "out", GPUS="0,1", PATH=path, PYTHONPATH=str(tmp_path))
    started = "torchrun --nproc-per-node 2" if broken else "mpiexec -n 2 python"
    assert code == 0 and out.startswith(f"{started} {ROOT}/{DIFFUSION} --batch_size"), err
    assert err == ("mpiexec with mpi4py does not work here: torchrun starts the 2 ranks\n" if broken else "")


def test_the_one_liner_starts_no_ranks_for_a_single_gpu(on_one):
    output, out = on_one
    assert "ranks)" not in out and (output / "ema_0.9_000010.pt").exists()


def test_two_ranks_follow_one_with_twice_the_batch(on_two, alone):
    output, out = on_two
    assert out.count("training from step 0 to 10: 4 images a step (2 on each of 2 ranks)") == 1
    assert (output / "ema_0.9_000010.pt").exists()
    assert_near(first_gradient(output), first_gradient(alone), 1e-5)
    ours, theirs = ([float(row["loss"]) for row in logged(folder)] for folder in (output, alone))
    assert len(ours) == 10
    assert_near(torch.tensor(ours), torch.tensor(theirs), 1e-4)


def test_a_training_may_go_on_with_other_ranks_and_the_same_batch(flags, alone, tmp_path):
    output = tmp_path / "moved"
    shutil.copytree(alone, output)
    for path in output.glob("*000010.pt"):
        path.unlink()
    assert "going on from" in output_of(run_ranks(flags | {"output_path": output}))
    assert_near(torch.tensor(float(logged(output)[-1]["loss"])), float(logged(alone)[-1]["loss"]), 1e-4)


def test_ranks_that_would_go_on_from_different_steps_are_refused(flags, alone, tmp_path):
    folders = tmp_path / "first", tmp_path / "second"  # the second as a disk that the other machine has for itself
    shutil.copytree(alone, folders[0] / "run")
    folders[1].mkdir()
    line = error_of(run_ranks(flags | {"output_path": "run"}, folders=folders))
    assert "--output_path run is not the same folder for all ranks" in line and "steps 0, 10" in line


def test_microbatches_of_ranks_add_up_to_the_gradient_of_all(flags, alone, tmp_path):
    output_of(run_ranks(flags | {"output_path": tmp_path, "microbatch": 1, "lr_anneal_steps": 1}))
    assert_near(first_gradient(tmp_path), first_gradient(alone), 1e-5)


def test_a_classifier_trains_on_two_ranks_and_the_first_one_validates(flags, tmp_path):
    network = {"image_size": 32, "batch_size": 2, "seed": 1, "architecture": "small_cnn"}
    steps = {"lr_anneal_steps": 2, "save_interval": 2, "log_interval": 1}
    own = network | steps | {"data_dir": flags["data_dir"], "output_path": tmp_path}
    out = output_of(run_ranks(own, CLASSIFIER))
    assert out.count("balanced accuracy") == 1 and (tmp_path / "best.pt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name, value", [("data_dir", "nowhere"), ("lr", -1)])
def test_what_is_wrong_on_every_rank_is_said_once(flags, tmp_path, name, value):
    words = words_of("mpiexec", DIFFUSION, flags | {"output_path": tmp_path, name: value})
    assert f"error: --{name} {value}" in error_of(run_command(*words))


def test_a_rank_knows_its_gpu():
    assert device_of_rank("", Ranks(1, 2, 1, 2)) == torch.device("cpu")
    with pytest.raises(UserError, match="--gpus 0,1 names 2"):
        device_of_rank("0,1", Ranks(2, 3, 2, 3))


def test_the_gpu_that_is_picked_becomes_the_current_one(monkeypatch):
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    picked = [pick_device("2"), device_of_rank("3,1", Ranks(1, 2, 1, 2)), device_of_rank("", Ranks(2, 3, 2, 3))]
    assert picked == current == [torch.device("cuda", index) for index in (2, 1, 2)]
    assert pick_device("-1") == torch.device("cpu") and len(current) == 3


def test_the_one_liner_says_how_it_is_used():
    code, _, err = run_shell("celeba-train.sh", "data")
    assert code == 2 and err.startswith("usage: ") and err.count("\n") == 1
