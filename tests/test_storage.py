import errno
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import blobfile as bf
import pytest
import torch
from assertions import assert_identical, refusal
from scripts import environment, logged
from toy_training import names, train

from guided_diffusion.script.errors import UserError
from guided_diffusion.script.storage import (
    _part,
    append_text,
    lock,
    remove_parts,
    write_file,
    write_folder,
)

pytestmark = pytest.mark.usefixtures("no_tensorboard")


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """gs://bucket/ as a folder: blobfile's functions, which know no such bucket here, look there instead."""
    root = tmp_path / "bucket"

    def here(path):
        return str(path).replace("gs://bucket", str(root))

    for name in ("makedirs", "listdir", "exists", "remove"):
        original = getattr(bf, name)
        monkeypatch.setattr(bf, name, lambda path, original=original: original(here(path)))
    blob_file = bf.BlobFile
    monkeypatch.setattr(bf, "BlobFile", lambda path, *args, **options: blob_file(here(path), *args, **options))
    return root


def test_a_training_keeps_its_checkpoints_in_a_bucket_and_goes_on_from_there(tmp_path, bucket):
    train(tmp_path / "local", 4)
    train("gs://bucket/run", 2)
    train("gs://bucket/run", 4)
    assert {*names(bucket / "run"), ".lock"} == {*names(tmp_path / "local")}
    for name in ("model000004.pt", "opt000004.pt"):
        assert_identical(torch.load(bucket / "run" / name), torch.load(tmp_path / "local" / name))
    assert logged(bucket / "run") == logged(tmp_path / "local")


def test_a_failure_while_writing_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "file"
    write_file(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half of the new")
        raise OSError(28, "No space left on device")

    message = refusal(UserError, lambda: write_file(path, fail))
    assert str(path) in message and "No space left" in message
    assert path.read_bytes() == b"old" and [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_none_and_a_bucket_that_blobfile_does_not_reach_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "run", "s3://bucket/run"):
        assert f"--output_path {path}" in refusal(UserError, lambda path=path: train(path, 0))


def test_a_lock_ends_with_its_holder_even_where_that_is_killed(tmp_path):
    path = tmp_path / ".lock"
    held = lock(path, "{holder}")
    assert f"process {os.getpid()}" in refusal(UserError, lock, path, "{holder}")
    held.release()
    code = (
        "import sys, time; from guided_diffusion.script.storage import lock; "
        "held = lock(sys.argv[1], 'in use'); print(1, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(path)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment())
    holder.stdout.readline()
    assert f"process {holder.pid}" in refusal(UserError, lock, path, "{holder}")
    holder.kill()
    holder.wait()
    lock(path, "in use").release()


def test_threads_that_write_one_file_leave_one_of_their_versions(tmp_path):
    path, versions = tmp_path / "file", [bytes([i]) * 300_000 for i in range(8)]
    barrier = threading.Barrier(len(versions))

    def write(version):
        def fill(file):
            file.write(version[:1000])
            barrier.wait()  # all are half-written at once
            file.write(version[1000:])

        write_file(path, fill)

    threads = [threading.Thread(target=write, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in versions and [each.name for each in tmp_path.iterdir()] == ["file"]


def test_only_the_parts_of_dead_processes_are_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    own = str(_part(tmp_path / "file"))
    parts = {pid: Path(own.replace(f"-{os.getpid()}-", f"-{pid}-")) for pid in (os.getpid(), dead.pid)}
    foreign = tmp_path / f".file.elsewhere-{dead.pid}-1.part"
    for path in (*parts.values(), foreign):
        path.write_text("half")
    remove_parts(tmp_path)
    assert set(tmp_path.iterdir()) == {parts[os.getpid()], foreign}


def test_what_does_not_fit_at_the_end_of_a_file_leaves_it_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "records.csv"
    append_text(path, "a\n")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        message = refusal(UserError, append_text, path, "b\n")
    assert str(path) in message and "No space left" in message
    append_text(path, "ç\n")
    assert path.read_text() == "a\nç\n"
    assert "cannot be written" in refusal(UserError, append_text, tmp_path / "none/records.csv", "a\n")


def test_ctrl_c_in_torch_save_stays_ctrl_c(tmp_path):
    class Interrupted(io.BytesIO):
        def write(self, data):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "a.pt", lambda file: torch.save({"a": torch.zeros(9)}, Interrupted()))
    assert list(tmp_path.iterdir()) == []


def test_a_lock_names_its_file_where_the_disk_is_full(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError) as caught:
        lock(tmp_path / ".lock", "in use")
    assert caught.value.filename == str(tmp_path / ".lock")


@pytest.mark.parametrize("renames", [0, 1])
def test_a_folder_stays_where_its_replacement_is_interrupted_at_either_rename(tmp_path, monkeypatch, renames):
    folder, replace, done = tmp_path / "folder", os.replace, []

    def write(text):
        with write_folder(folder, "file") as part:
            (part / "file").write_text(text)

    def interrupted(source, target):
        if len(done) == renames:
            monkeypatch.undo()
            raise KeyboardInterrupt
        done.append(source)
        replace(source, target)

    write("first")
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write("second")
    assert (folder / "file").read_text() == "first" and [path.name for path in tmp_path.iterdir()] == ["folder"]
    write("third")
    assert (folder / "file").read_text() == "third"
