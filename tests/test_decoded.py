"""Decoded images, in memory and in the file that the ranks of a machine share."""

import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import psutil
import pytest
import torch
from assertions import assert_identical, refusal
from rank_runs import words_of
from scripts import ROOT, SEARCH_PATH, as_argv, environment, error_of, logged, output_of, run_command, unprivileged
from toy_celeba import write_celeba

from core.data import decoded
from core.data.datasets import CelebA
from core.data.decoded import MIB, DecodedImages, available_memory, decoded_path, keep_in_memory, provide_decoded
from guided_diffusion.ranks.ranks import Ranks
from guided_diffusion.script.errors import UserError

TWO = [Ranks(0, 1, 0, 2), Ranks(0, 1, 1, 2)]  # of two ranks of a machine, without the connection between them
NEEDED = 75 * 3 * 16 * 16  # bytes of the images at 16 pixels
SCRIPT = "celeba-train-classifier.py"


@pytest.fixture
def root(tmp_path):
    return write_celeba(tmp_path / "celeba", {"train": 70, "val": 5, "test": 0})


def load(root, folder, ranks=TWO[0], size=16):
    """The train and the val split, which read decoded images as the trainers' do."""
    splits = ("train", "val")
    datasets = [CelebA(root, split, size) for split in splits]
    provide_decoded(datasets, splits, root, ranks, folder)
    return datasets


def files(folder):
    return sorted(path.name for path in folder.glob("*.npy"))


# -- in memory -------------------------------------------------------------------------------------------------


def test_threads_read_each_image_whole_and_it_is_decoded_before_it_is_read():
    together = threading.Barrier(8, timeout=30)
    pixels = np.zeros((100, 3, 4, 4), np.uint8)
    images = DecodedImages(pixels, lambda i: torch.full((3, 4, 4), i + 1, dtype=torch.uint8))

    def ask(_):
        together.wait()
        return [images[i].unique().tolist() for i in range(100)]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [[[i + 1] for i in range(100)]] * 8
    images.decode = None  # whoever decodes fails
    assert images[7].unique().tolist() == [8]


def test_an_image_that_cannot_be_decoded_is_not_taken_for_decoded():
    def refuse(i):
        raise UserError("broken")

    images = DecodedImages(np.zeros((3, 3, 4, 4), np.uint8), refuse)
    assert refusal(UserError, images.__getitem__, 1) == refusal(UserError, images.__getitem__, 1) == "broken"


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("enough", [True, False])
def test_images_stay_in_memory_where_all_fit_into_half_of_it(root, capsys, enough, processes):
    datasets = [CelebA(root, split, 16) for split in ("train", "val")]
    train, val = datasets
    before = [train.pixels(i) for i in range(4)]
    keep_in_memory(datasets, processes, available=2 * NEEDED * processes - (0 if enough else 1))
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "75 images" in said and ("kept in memory" in said) == enough
    assert all(torch.equal(train.pixels(i), before[i]) for i in range(4)) and val[2][0].shape == (3, 16, 16)

    for path in train.image_dir.iterdir():
        path.unlink()
    if enough:
        assert all(torch.equal(train.pixels(i), before[i]) for i in range(4))
    else:
        refusal(UserError, train.pixels, 0)


def test_the_memory_that_is_left_is_the_systems_or_the_containers(tmp_path):
    system = psutil.virtual_memory().available
    assert 0.5 * system < available_memory(tmp_path) < 2 * system  # no container
    for name, text in {"max": "max", "current": f"{60 * MIB}", "stat": f"anon 5\ninactive_file {20 * MIB}"}.items():
        (tmp_path / f"memory.{name}").write_text(f"{text}\n")
    assert 0.5 * system < available_memory(tmp_path) < 2 * system  # a container without a limit
    (tmp_path / "memory.max").write_text(f"{100 * MIB}\n")
    assert available_memory(tmp_path) == 60 * MIB  # files that the system only keeps at hand give way
    (tmp_path / "memory.max").write_text(f"{10 * MIB}\n")
    assert available_memory(tmp_path) == 0


# -- in a file -------------------------------------------------------------------------------------------------


def test_all_ranks_read_the_images_that_the_first_has_decoded_from_memory_that_they_share(root, tmp_path, capsys):
    first = load(root, tmp_path / "decoded")
    assert f"75 images, 0 MiB in {tmp_path}/decoded/celeba-train-16-" in capsys.readouterr().out
    second = load(root, tmp_path / "decoded", TWO[1])
    for datasets in (first, second):
        for dataset, split, path in zip(datasets, ("train", "val"), files(tmp_path / "decoded"), strict=True):
            expected = [CelebA(root, split, 16).pixels(i) for i in range(len(dataset))]
            dataset.decode = None  # whoever decodes fails
            assert all(torch.equal(dataset.pixels(i), expected[i]) for i in range(len(dataset)))
            dataset.pixels(1).fill_(0)  # a copy
            assert torch.equal(dataset.pixels(1), expected[1])
            assert dataset.decoded.pixels.mode == "r"
            assert os.path.samefile(dataset.decoded.pixels.filename, tmp_path / "decoded" / path)


def test_a_file_that_is_there_is_not_made_again(root, tmp_path, monkeypatch):
    load(root, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    monkeypatch.setattr(CelebA, "decode", None)
    load(root, tmp_path)
    assert len(before) == 2 and {path: path.stat().st_mtime_ns for path in before} == before


def rewrite(path):
    shutil.copy(path.with_name("000009.jpg"), path)


def touch(path):
    os.utime(path, ns=(1, 1))


def swap(path):
    other, aside = path.with_name("000009.jpg"), path.with_name("aside.jpg")
    path.rename(aside)
    other.rename(path)
    aside.rename(other)


@pytest.mark.parametrize("change", [rewrite, touch, swap])
def test_other_data_are_decoded_anew_and_the_file_of_the_old_ones_goes(root, tmp_path, change):
    old = load(root, tmp_path)[0]
    before, pixels = files(tmp_path), old.pixels(2)
    change(root / "img_align_celeba/000003.jpg")
    new = load(root, tmp_path)[0]
    after = files(tmp_path)
    assert len(after) == 2 and after[0] != before[0] and after[1] == before[1]  # train, not val
    assert torch.equal(new.pixels(2), CelebA(root, "train", 16).pixels(2))
    assert torch.equal(old.pixels(2), pixels)  # a training that runs keeps what it has


def test_each_size_has_its_file(root, tmp_path):
    load(root, tmp_path, size=16)
    larger = load(root, tmp_path, size=18)[0]
    assert len(files(tmp_path)) == 4 and larger.pixels(0).shape == (3, 18, 18)


def test_the_hash_follows_the_order_and_the_code(root, tmp_path, monkeypatch):
    def path_of(dataset):
        return decoded_path(tmp_path, dataset, "train", root)

    dataset = CelebA(root, "train", 16)
    before = path_of(dataset)
    assert path_of(CelebA(root, "train", 16)) == before
    dataset.names.reverse()
    assert path_of(dataset) != before
    dataset.names.reverse()
    code = tmp_path / "images.py"
    code.write_bytes(open(decoded.images.__file__, "rb").read() + b"\n# of another version\n")
    monkeypatch.setattr(decoded.images, "__file__", str(code))
    assert path_of(dataset) != before


@pytest.mark.parametrize("damage", ["cut", "text", "shape"])
def test_a_file_that_is_damaged_is_made_again(root, tmp_path, damage):
    load(root, tmp_path)
    path = tmp_path / files(tmp_path)[0]
    whole = path.read_bytes()
    if damage == "shape":
        np.save(path, np.zeros((70, 3, 16, 15), np.uint8))
    else:
        path.write_bytes({"cut": whole[:-1], "text": b"no images"}[damage])
    load(root, tmp_path)
    assert path.read_bytes() == whole


def test_an_image_that_cannot_be_read_or_is_gone_is_named_and_no_file_is_left(root, tmp_path):
    path = root / "img_align_celeba/000050.jpg"
    path.write_bytes(b"no image")
    assert f"{path} cannot be read as an image" in refusal(UserError, load, root, tmp_path / "decoded")
    path.unlink()
    assert f"{path} is listed but not there" in refusal(UserError, load, root, tmp_path / "decoded")
    assert list((tmp_path / "decoded").iterdir()) == []


def test_several_ranks_share_a_file_in_the_users_cache_where_the_data_are_not_small(root, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(decoded, "SMALL", 2 * NEEDED)
    load(root, None)
    monkeypatch.setattr(decoded, "SMALL", 2 * NEEDED - 1)
    load(root, None, Ranks())
    assert not (tmp_path / "cache").exists()
    load(root, None)
    assert len(files(tmp_path / "cache/dime")) == 2


# -- where the file cannot be had ------------------------------------------------------------------------------


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A folder without permission to write, on a path that everybody may follow."""
    code = shutil.copy(decoded.images.__file__, tmp_path)
    monkeypatch.setattr(decoded.images, "__file__", code)  # the project may lie where nobody may look
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    for parent in folder.parents:
        if (parent.stat().st_mode & 0o055) != 0o055:
            parent.chmod(parent.stat().st_mode | 0o055)
    return folder


def test_a_folder_that_may_not_be_written_is_refused_where_it_was_named(root, locked):
    with unprivileged():
        message = refusal(UserError, load, root, locked)
    assert f"--decoded_dir {locked} cannot hold the 0 MiB of decoded images (" in message
    assert "Permission denied" in message and "leave it out" in message


def test_a_folder_of_no_machine_is_refused(root):
    message = refusal(UserError, load, root, "gs://bucket/decoded")
    assert message == "--decoded_dir gs://bucket/decoded must be a folder of this machine"


def test_the_users_cache_that_may_not_be_written_is_done_without(root, locked, monkeypatch, capsys):
    monkeypatch.setattr(decoded, "SMALL", 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(locked))
    with unprivileged():
        train = load(root, None)[0]
    said = capsys.readouterr().out
    assert f"cannot hold the 0 MiB of decoded images ([Errno 13] Permission denied: '{locked}/dime'); name" in said
    assert "kept in memory: 75 images" in said and train.pixels(3).shape == (3, 16, 16)


def test_a_file_in_a_folder_that_may_not_be_written_is_read(root, locked):
    locked.chmod(0o755)
    load(root, locked)
    locked.chmod(0o555)
    with unprivileged():
        assert load(root, locked)[0].decoded.decode is None


def test_a_full_disk_is_noticed_before_anything_is_decoded(root, tmp_path, monkeypatch):
    monkeypatch.setattr(decoded.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 100))
    monkeypatch.setattr(CelebA, "decode", None)
    message = refusal(UserError, load, root, tmp_path / "decoded")
    assert "No space left on device" in message and files(tmp_path / "decoded") == []


# -- in trainings ----------------------------------------------------------------------------------------------


@pytest.fixture
def flags(root, tmp_path):
    steps = {"lr_anneal_steps": 4, "save_interval": 4, "log_interval": 1}
    network = {"image_size": 16, "batch_size": 4, "architecture": "tiny_cnn"}
    return {"data_dir": root, "output_path": tmp_path / "training"} | network | steps


@pytest.mark.slow
def test_two_ranks_train_the_same_with_and_without_the_file_which_the_first_has_made(flags, tmp_path):
    folders = {}
    for name, change in (("memory", {}), ("file", {"decoded_dir": tmp_path / "decoded"})):
        folders[name] = tmp_path / name
        words = words_of("mpiexec", SCRIPT, flags | change | {"output_path": folders[name]})
        code, out, err = run_command(*words)
        assert code == 0, err
        assert ("kept in memory" in out) == (name == "memory")
    assert f"decoding 70 images into {tmp_path}/decoded/celeba-train-16-" in out and out.count("decoding") == 2
    assert "for all ranks of this machine: 75 images" in out and "70/70" in err
    assert_identical(*(torch.load(folder / "model000004.pt") for folder in folders.values()))
    assert logged(folders["memory"]) == logged(folders["file"])
    assert (folders["memory"] / "attributes.csv").read_bytes() == (folders["file"] / "attributes.csv").read_bytes()


@pytest.mark.slow
def test_a_kill_while_the_file_is_made_leaves_nothing_that_counts(flags, tmp_path):
    data, folder = write_celeba(tmp_path / "many", {"train": 3000, "val": 5}), tmp_path / "decoded"
    flags |= {"data_dir": data, "decoded_dir": folder, "image_size": 64}
    with subprocess.Popen(
        words_of("mpiexec", SCRIPT, flags), env=environment(PATH=SEARCH_PATH), stderr=subprocess.PIPE
    ) as killed:
        while not list(folder.glob(".*.part")):
            assert killed.poll() is None
            time.sleep(0.001)
        for process in psutil.Process(killed.pid).children(recursive=True):
            if process.name().startswith("python"):
                process.kill()
        killed.communicate()
    assert files(folder) == [] and len(list(folder.glob(".*.part"))) == 1
    assert "decoding 3,000 images" in output_of(run_command(*words_of("mpiexec", SCRIPT, flags)))
    assert list(folder.glob(".*.part")) == [] and len(files(folder)) == 2
    pixels, plain = np.load(folder / files(folder)[0]), CelebA(data, "train", 64)
    assert all(np.array_equal(pixels[i], plain.pixels(i)) for i in range(0, 3000, 50))


@pytest.mark.slow
def test_a_disk_that_fills_up_meanwhile_is_told_with_the_remedy(flags, tmp_path):
    words = shlex.join(
        [sys.executable, str(ROOT / SCRIPT), *as_argv(flags | {"decoded_dir": tmp_path / "decoded"})]
    )
    # No file may grow beyond 16 KiB: the images take 52.
    line = error_of(run_command("bash", "-c", f"ulimit -f 16; exec {words}"))
    assert f"--decoded_dir {tmp_path}/decoded cannot hold" in line and "([Errno 27] File too large)" in line
    assert files(tmp_path / "decoded") == [] and not list((tmp_path / "decoded").glob(".*.part"))


def test_a_user_without_a_home_may_name_a_folder(root, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", mock.Mock(side_effect=RuntimeError("no home")))
    load(root, tmp_path / "decoded")
    assert files(tmp_path / "decoded")
