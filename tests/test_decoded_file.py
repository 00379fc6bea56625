"""The file of decoded images that the ranks of a machine share."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from assertions import assert_identical, refusal
from filelock import FileLock
from scripts import ROOT, SEARCH_PATH, as_argv, environment, logged, run_command, start_script
from toy_celeba import write_celeba

from core.data import decoded_file
from core.data.datasets import CelebA
from core.data.decoded_file import DecodedFile, contents_hash, share_decoded
from core.data.training_data import load_training_data
from core.metrics.validation import decide_together, validate_attributes
from guided_diffusion.ranks.ranks import Ranks
from guided_diffusion.script.errors import UserError
from models.classifiers import load_classifier

TWO = [Ranks(0, 1, 0, 2), Ranks(0, 1, 1, 2)]  # of two ranks of a machine, without the connection between them


@pytest.fixture
def root(tmp_path):
    return write_celeba(tmp_path / "celeba", {"train": 70, "val": 5, "test": 0})


def load(root, folder, ranks=TWO[0], splits=("train", "val"), size=16):
    datasets = [CelebA(root, split, size) for split in splits]
    return share_decoded(datasets, splits, root, ranks, folder), datasets


def files(folder):
    return sorted(path.name for path in folder.glob("*.npy"))


def test_all_ranks_read_the_images_that_the_first_has_decoded(root, tmp_path, capsys):
    shared, first = load(root, tmp_path / "decoded")
    said = capsys.readouterr().out
    assert shared and f"75 images, 0 MiB in {tmp_path}/decoded/celeba-train-16-" in said
    expected = [[CelebA(root, split, 16).pixels(i) for i in range(n)] for split, n in (("train", 70), ("val", 5))]
    second = load(root, tmp_path / "decoded", TWO[1])[1]
    for datasets in (first, second):
        for dataset, pixels in zip(datasets, expected, strict=True):
            dataset.decode = None  # whoever decodes fails
            assert all(torch.equal(dataset.pixels(i), pixels[i]) for i in range(len(dataset)))
            dataset.pixels(1).fill_(0)  # a copy
            assert torch.equal(dataset.pixels(1), pixels[1])
    assert [name.rpartition("-")[0][:-9] for name in files(tmp_path / "decoded")] == [
        "celeba-train-16",
        "celeba-val-16",
    ]


def test_the_images_lie_in_memory_that_processes_share(root, tmp_path):
    _, [dataset, _] = load(root, tmp_path)
    mapped = dataset.decoded.pixels
    while not isinstance(mapped, np.memmap):
        mapped = mapped.base
    assert mapped.mode == "r" and os.path.samefile(mapped.filename, tmp_path / files(tmp_path)[0])
    assert not dataset.decoded.pixels.flags.writeable


def test_a_file_that_is_there_is_not_made_again(root, tmp_path, monkeypatch):
    load(root, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    monkeypatch.setattr(CelebA, "decode", None)
    assert load(root, tmp_path)[0] and {path: path.stat().st_mtime_ns for path in before} == before


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
    old = load(root, tmp_path)[1][0]
    before, pixels = files(tmp_path), old.pixels(2)
    change(root / "img_align_celeba/000003.jpg")
    [new, _] = load(root, tmp_path)[1]
    after = files(tmp_path)
    assert len(after) == 2 and after[0] != before[0] and after[1] == before[1]  # train, not val
    assert torch.equal(new.pixels(2), CelebA(root, "train", 16).pixels(2))
    assert torch.equal(old.pixels(2), pixels)  # a training that runs keeps what it has


def test_each_size_has_its_file(root, tmp_path):
    load(root, tmp_path, size=16)
    [larger, _] = load(root, tmp_path, size=18)[1]
    assert len(files(tmp_path)) == 4 and larger.pixels(0).shape == (3, 18, 18)


def test_the_hash_follows_the_order_and_the_code(root, tmp_path, monkeypatch):
    dataset = CelebA(root, "train", 16)
    before = contents_hash(dataset)
    assert contents_hash(CelebA(root, "train", 16)) == before
    dataset.names.reverse()
    assert contents_hash(dataset) != before
    dataset.names.reverse()
    code = tmp_path / "images.py"
    code.write_bytes(open(decoded_file.images.__file__, "rb").read() + b"\n# of another version\n")
    monkeypatch.setattr(decoded_file.images, "__file__", str(code))
    assert contents_hash(dataset) != before


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
    assert [path.name for path in (tmp_path / "decoded").iterdir() if not path.name.endswith(".lock")] == []


# -- where the file cannot be had ----------------------------------------------------------------------------


@contextmanager
def unprivileged():
    """Root may write everywhere: be nobody for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A folder without permission to write, on a path that everybody may follow."""
    code = shutil.copy(decoded_file.images.__file__, tmp_path)
    monkeypatch.setattr(decoded_file.images, "__file__", code)  # the project may lie where nobody may look
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
    assert f"--decoded_dir {locked} cannot hold the decoded images ({locked}/.celeba-train-16-" in message
    assert ".lock: Permission denied)" in message
    assert "leave it out" in message


def test_a_folder_of_no_machine_is_refused(root):
    message = refusal(UserError, load, root, "gs://bucket/decoded")
    assert message == "--decoded_dir gs://bucket/decoded must be a folder of this machine"


def test_the_users_cache_that_may_not_be_written_is_done_without(root, locked, monkeypatch, capsys):
    monkeypatch.setattr(decoded_file, "SMALL", 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(locked))
    with unprivileged():
        [train] = load_training_data(root, ["train"], 16, TWO[0])
    said = capsys.readouterr().out
    assert (
        f"{locked}/dime cannot hold 0 MiB ({locked}/dime: Permission denied); name another folder by --decoded_dir"
        in said
    )
    assert "kept in memory: 70 images" in said and train.pixels(3).shape == (3, 16, 16)


def test_a_file_in_a_folder_that_may_not_be_written_is_read(root, locked):
    locked.chmod(0o755)
    load(root, locked)
    locked.chmod(0o555)
    with unprivileged():
        assert load(root, locked)[0]


def test_a_full_disk_is_seen_before_anything_is_decoded(root, tmp_path, monkeypatch):
    monkeypatch.setattr(decoded_file.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 100))
    monkeypatch.setattr(CelebA, "decode", None)
    message = refusal(UserError, load, root, tmp_path / "decoded")
    assert "it needs 0 MiB, and 0 MiB are free" in message and files(tmp_path / "decoded") == []


def test_several_ranks_share_a_file_in_the_users_cache_where_the_data_are_not_small(root, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    needed = 75 * 3 * 16 * 16
    monkeypatch.setattr(decoded_file, "SMALL", 2 * needed)
    assert not load(root, None)[0] and not load(root, None, Ranks())[0] and not (tmp_path / "cache").exists()
    monkeypatch.setattr(decoded_file, "SMALL", 2 * needed - 1)
    assert not load(root, None, Ranks())[0]
    assert load(root, None)[0] and len(files(tmp_path / "cache/dime")) == 2


# -- in trainings ----------------------------------------------------------------------------------------------

SCRIPT = "celeba-train-classifier.py"


@pytest.fixture
def flags(root, tmp_path):
    return {
        "data_dir": root,
        "output_path": tmp_path / "training",
        "image_size": 16,
        "batch_size": 4,
        "architecture": "tiny_cnn",
        "lr_anneal_steps": 4,
        "save_interval": 4,
        "log_interval": 1,
    }


def mpiexec_words(flags):
    """The command that trains on two ranks."""
    if not shutil.which("mpiexec", path=SEARCH_PATH):
        pytest.skip("no mpiexec on this machine")
    return ["mpiexec", "-n", "2", sys.executable, str(ROOT / SCRIPT), *as_argv(flags)]


def weights(folder):
    return torch.load(folder / "model000004.pt")


@pytest.mark.slow
def test_two_ranks_train_the_same_with_and_without_the_file_which_the_first_has_made(flags, tmp_path):
    folders = {}
    for name, change in (("memory", {}), ("file", {"decoded_dir": tmp_path / "decoded"})):
        folders[name] = tmp_path / name
        code, out, err = run_command(*mpiexec_words(flags | change | {"output_path": folders[name]}))
        assert code == 0, err
        assert ("kept in memory" in out) == (name == "memory")
    assert f"decoding 70 images into {tmp_path}/decoded/celeba-train-16-" in out and out.count("decoding") == 2
    assert "for all ranks of this machine: 75 images" in out and "70/70" in err
    assert_identical(weights(folders["memory"]), weights(folders["file"]))
    assert logged(folders["memory"]) == logged(folders["file"])
    assert (folders["memory"] / "attributes.csv").read_bytes() == (folders["file"] / "attributes.csv").read_bytes()


@pytest.mark.slow
def test_a_validation_on_two_ranks_is_that_of_one(flags, tmp_path, root):
    code, _, err = run_command(*mpiexec_words(flags | {"architecture": "shufflenet_v2_x0_5", "image_size": 32}))
    assert code == 0, err
    classifier = load_classifier(flags["output_path"] / "last.pt")
    alone = validate_attributes(classifier, CelebA(root, "val", 32), torch.device("cpu"))
    table = pd.read_csv(flags["output_path"] / "attributes.csv", index_col=0)
    pd.testing.assert_frame_equal(table, alone.table)
    assert alone.table["accuracy"].nunique() > 2


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_ranks_decide_on_all_images_in_their_order(count):
    dataset = [(torch.full((3, 2, 2), float(i)), None) for i in range(count)]
    asked = []

    class Rank:
        world_size = 4

        def __init__(self, rank):
            self.rank = rank

        def gather(self, tensor):
            asked.append(tensor)
            return tensor

    for rank in range(4):
        decide_together(lambda x: x[:, :1, 0, 0], dataset, torch.device("cpu"), Rank(rank), decision=lambda x: x)
    assert len({part.shape for part in asked}) == 1
    assert torch.cat(asked)[:count, 0].tolist() == list(range(count))


@pytest.mark.slow
def test_ranks_that_cannot_write_the_named_folder_say_so_once(flags, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run_command(*mpiexec_words(flags | {"decoded_dir": tmp_path / "file/decoded"}))
    assert code == 2 and "Traceback" not in err
    assert err.count(f"error: --decoded_dir {tmp_path}/file/decoded cannot hold the decoded images") == 1


@pytest.mark.slow
def test_a_kill_while_the_file_is_made_leaves_nothing_that_counts(flags, tmp_path):
    data, decoded = write_celeba(tmp_path / "many", {"train": 3000, "val": 5}), tmp_path / "decoded"
    flags |= {"data_dir": data, "decoded_dir": decoded, "image_size": 64}
    with subprocess.Popen(
        mpiexec_words(flags), env=environment(PATH=SEARCH_PATH), stderr=subprocess.PIPE
    ) as killed:
        while not list(decoded.glob(".*.part")):
            assert killed.poll() is None
            time.sleep(0.001)
        for process in psutil.Process(killed.pid).children(recursive=True):
            if process.name().startswith("python"):
                process.kill()
        killed.communicate()
    assert files(decoded) == [] and len(list(decoded.glob(".*.part"))) == 1
    code, out, err = run_command(*mpiexec_words(flags))
    assert code == 0 and "decoding 3,000 images" in out, err
    assert list(decoded.glob(".*.part")) == [] and len(files(decoded)) == 2
    pixels, plain = np.load(decoded / files(decoded)[0]), CelebA(data, "train", 64)
    assert all(np.array_equal(pixels[i], plain.pixels(i)) for i in range(0, 3000, 50))


def test_a_training_waits_for_another_that_is_making_the_file(root, flags, tmp_path):
    decoded = tmp_path / "decoded"
    file = DecodedFile(decoded, CelebA(root, "train", 16), "train", root)
    decoded.mkdir()
    with FileLock(decoded / f".{file.stem}.lock"):
        running = start_script(SCRIPT, flags | {"decoded_dir": decoded})
        while "waiting for it" not in (said := Path(running.outputs[0].name).read_text()):
            assert running.poll() is None
            time.sleep(0.01)
        assert f"another process is making {file.path}" in said and files(decoded) == []
    code, _, err = running.finish()
    assert code == 0 and len(files(decoded)) == 2, err


def test_of_two_trainings_at_once_one_makes_the_file(flags, tmp_path):
    data, decoded = write_celeba(tmp_path / "many", {"train": 1500, "val": 5}), tmp_path / "decoded"
    flags |= {"data_dir": data, "decoded_dir": decoded, "image_size": 64}
    both = [start_script(SCRIPT, flags | {"output_path": tmp_path / name}) for name in "ab"]
    ends = [running.finish() for running in both]
    assert [code for code, *_ in ends] == [0, 0], ends
    assert sum(out.count("decoding 1,500 images") for _, out, _ in ends) == 1 and len(files(decoded)) == 2
    assert_identical(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.slow
def test_a_disk_that_fills_up_meanwhile_is_told_with_the_remedy(flags, tmp_path):
    words = shlex.join(
        [sys.executable, str(ROOT / SCRIPT), *as_argv(flags | {"decoded_dir": tmp_path / "decoded"})]
    )
    # No file may grow beyond 16 KiB: the images take 52.
    code, _, err = run_command("bash", "-c", f"ulimit -f 16; exec {words}")
    assert code == 2 and "Traceback" not in err
    assert f"--decoded_dir {tmp_path}/decoded cannot hold the decoded images (File too large)" in err
    assert files(tmp_path / "decoded") == [] and not list((tmp_path / "decoded").glob(".*.part"))
