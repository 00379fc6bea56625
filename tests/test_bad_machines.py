"""Runs on bad machines: full or read-only disks, folders that vanish, clocks that jump, two runs at once."""

import os
import shutil
import subprocess
import time

import pytest
from main_runs import explained, main_flags
from rank_runs import wait_for
from scripts import contents, error_of, output_of, run_script, start_script
from test_compute_metrics import write_experiment
from toy_celeba import write_celeba
from toy_networks import MODEL_FLAGS

DAY = 24 * 3600
TRAINERS = {
    "celeba-train-diffusion.py": MODEL_FLAGS | {"ema_rate": "0.5", "sample_steps": 0},
    "celeba-train-classifier.py": {"architecture": "tiny_cnn", "image_size": 16},
}


@pytest.fixture
def mounted(tmp_path):
    """mounted(options) -> a small file system of its own; again: with these options from now on."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mount(options):
        again = "remount," * os.path.ismount(folder)
        words = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
            pytest.skip("nothing can be mounted here")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_celeba(tmp_path_factory.mktemp("data") / "celeba", {"train": 8, "val": 4})


@pytest.fixture
def training(data, tmp_path):
    steps = {"lr_anneal_steps": 12, "save_interval": 3, "log_interval": 1, "keep_checkpoints": 9}
    return {"data_dir": data, "output_path": tmp_path / "out", "batch_size": 4} | steps


def whole(folder):
    """The contents of all files but locks, TensorBoard's events and logs; no file may be half-written."""
    files = contents(folder)
    assert not [name for name in files if name.endswith(".part")]
    return {name: data for name, data in files.items() if "tfevents" not in name and "progress" not in name}


def assert_names_a_full_disk(output, line):
    assert str(output) in line and "No space left on device" in line and "make room" in line


@pytest.mark.slow
def test_an_explanation_goes_on_once_a_full_disk_has_room(toy_files, mounted):
    output = mounted("size=120k") / "out"
    flags = main_flags(toy_files, output) | {"batch_size": 1}
    assert_names_a_full_disk(output, error_of(run_script("main.py", flags)))
    before, done = whole(output), explained(output)
    assert 0 < done < 8
    mounted("size=10m")
    assert f"({done} of 8 are done already)" in output_of(run_script("main.py", flags))
    after = whole(output)
    # Images without a row are explained anew: what they had on the disk is the same again.
    assert {name for name in before if after[name] != before[name]} == {"Results/exp/records.csv"}
    assert after["Results/exp/records.csv"].startswith(before["Results/exp/records.csv"]) and explained(output) == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    "script, size", [("celeba-train-diffusion.py", "5m"), ("celeba-train-classifier.py", "1m")]
)
def test_a_training_goes_on_once_a_full_disk_has_room(training, mounted, script, size):
    output = mounted("size=100m") / "out"
    flags = TRAINERS[script] | training | {"output_path": output}
    assert run_script(script, flags)[0] == 0
    expected, used = whole(output), shutil.disk_usage(output).used
    shutil.rmtree(output)
    mounted(f"size={used * 2 // 3}")
    assert_names_a_full_disk(output, error_of(run_script(script, flags)))
    before = whole(output)
    assert any(name.startswith("opt") for name in before)
    mounted("size=100m")
    assert "going on from" in output_of(run_script(script, flags))
    after = whole(output)
    finished = [name for name in before if name.startswith(("model", "ema", "opt"))]
    assert [name for name in finished if after[name] != before[name]] == []
    assert after.keys() == expected.keys()


@pytest.mark.slow
def test_metrics_on_a_full_disk_keep_those_of_before_and_name_a_read_only_folder(mounted, weights_dir):
    output = mounted("size=10m")
    write_experiment(output, weights_dir)
    flags = {"output_path": output, "exp_name": "exp"}
    assert run_script("compute_FR.py", flags)[0] == 0
    before = whole(output)
    (output / "full").write_bytes(bytes(shutil.disk_usage(output).free))
    line = error_of(run_script("compute_MNAC.py", flags))
    assert "No space left on device" in line and str(output / "Results/exp") in line
    (output / "full").unlink()
    assert whole(output) == before
    assert run_script("compute_MNAC.py", flags)[0] == 0
    mounted("size=10m,ro")
    line = error_of(run_script("compute_FR.py", flags))
    assert str(output / "Results/exp") in line and "Read-only file system" in line


@pytest.mark.slow
@pytest.mark.parametrize("script", ["main.py", *TRAINERS])
def test_a_disk_that_has_become_read_only_keeps_what_was_finished(toy_files, training, mounted, script):
    output = mounted("size=50m") / "out"
    if script in TRAINERS:
        flags = TRAINERS[script] | training | {"output_path": output}
        assert run_script(script, flags)[0] == 0
        (output / "opt000012.pt").unlink()  # as if it had been killed before
    else:
        flags = main_flags(toy_files, output)
        assert run_script(script, flags | {"num_batches": 1})[0] == 0
    before = whole(output)
    mounted("size=50m,ro")
    line = error_of(run_script(script, flags))
    assert str(output) in line and "Read-only file system" in line
    assert whole(output) == before


@pytest.mark.slow
def test_an_explanation_whose_folder_vanishes_says_so_and_does_not_pretend(toy_files, tmp_path):
    flags = main_flags(toy_files, tmp_path / "out") | {"batch_size": 1, "start_step": 20}
    running = start_script("main.py", flags)
    wait_for(lambda: explained(flags["output_path"]) >= 2, [running])
    flags["output_path"].rename(tmp_path / "elsewhere")
    assert str(flags["output_path"]) in error_of(running.finish())
    assert not list(tmp_path.glob("out/**/summary.yaml")) and not list(tmp_path.glob("out/**/records.csv"))
    shutil.rmtree(flags["output_path"], ignore_errors=True)
    (tmp_path / "elsewhere").rename(flags["output_path"])
    done = explained(flags["output_path"])
    assert f"({done} of 8 are done already)" in output_of(run_script("main.py", flags)) and done >= 2


@pytest.mark.parametrize("script", TRAINERS)
def test_a_training_whose_folder_vanishes_names_it(training, tmp_path, script):
    output = training["output_path"]
    running = start_script(script, TRAINERS[script] | training | {"lr_anneal_steps": 100_000, "save_interval": 5})
    wait_for(lambda: (output / "opt000005.pt").exists(), [running])
    output.rename(tmp_path / "elsewhere")
    assert str(output) in error_of(running.finish())
    assert (tmp_path / "elsewhere/opt000005.pt").exists() and not list(output.glob("opt*"))


@pytest.mark.slow
@pytest.mark.parametrize("jump", [-400 * DAY, 400 * DAY], ids=["past", "future"])
def test_a_run_goes_on_whatever_the_clock_says_of_its_files(toy_files, training, tmp_path, jump):
    trainer = "celeba-train-classifier.py"
    runs = {
        "main.py": (main_flags(toy_files, tmp_path / "main"), {"num_batches": 1}),
        trainer: (TRAINERS[trainer] | training, {}),
    }
    for script, (flags, shorter) in runs.items():
        output = flags["output_path"]
        assert run_script(script, flags | shorter)[0] == 0
        if script == trainer:
            (output / "opt000012.pt").unlink()  # as if it had been killed before
        for path in (output, *output.rglob("*")):
            os.utime(path, (time.time() + jump, time.time() + jump))
        out = output_of(run_script(script, flags))
        assert "3 of 8 are done already" in out or "going on from" in out
        jumped = whole(output)
        shutil.rmtree(output)
        assert run_script(script, flags)[0] == 0
        unbroken = whole(output)
        assert jumped.keys() == unbroken.keys()
        pngs = {name for name in unbroken if name.endswith((".png", "csv", ".txt"))}
        assert pngs and {name for name in pngs if jumped[name] != unbroken[name]} == set()


@pytest.mark.slow
@pytest.mark.parametrize("script", ["main.py", "celeba-train-classifier.py"])
def test_of_two_runs_into_one_place_one_is_refused_and_the_other_undisturbed(toy_files, training, tmp_path, script):
    flags = main_flags(toy_files, tmp_path / "out") | {"batch_size": 1}
    if script != "main.py":
        flags = TRAINERS[script] | training | {"lr_anneal_steps": 60}
    both = [start_script(script, flags) for _ in range(2)]
    ends = sorted((running.finish() for running in both), key=lambda end: end[0])
    assert ends[0][0] == 0, ends
    assert str(flags["output_path"]) in error_of(ends[1])
    undisturbed = whole(flags["output_path"])
    shutil.rmtree(flags["output_path"])
    assert run_script(script, flags)[0] == 0
    assert whole(flags["output_path"]) == undisturbed


@pytest.mark.slow
def test_two_experiments_into_one_folder_at_once_are_each_as_alone(toy_files, tmp_path):
    flags = main_flags(toy_files, tmp_path / "both")
    both = [start_script("main.py", flags | {"exp_name": name, "seed": seed}) for seed, name in enumerate("ab")]
    assert [running.finish()[0] for running in both] == [0, 0]
    together = whole(tmp_path / "both")
    shutil.rmtree(tmp_path / "both")
    for seed, name in enumerate("ab"):
        assert run_script("main.py", flags | {"exp_name": name, "seed": seed})[0] == 0
    assert whole(tmp_path / "both") == together
