"""Checkpoints on the disk: whole or absent, the newest kept."""

import pytest
from toy_training import names, train

from guided_diffusion.training.checkpoint_folder import CheckpointFolder

pytestmark = pytest.mark.usefixtures("no_tensorboard")


def test_only_the_newest_checkpoints_stay(tmp_path):
    train(tmp_path, 5, ema_rate="0.5,0.9", keep_checkpoints=2)
    newest = [f"{name}{step:06d}.pt" for name in ("ema_0.5_", "ema_0.9_", "model", "opt") for step in (4, 5)]
    assert names(tmp_path) == sorted([*newest, "progress.csv", ".lock"])


def test_steps_count_in_the_order_of_numbers_however_long_they_are(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    for step in (999_998, 999_999, 1_000_000, 1_000_001):
        folder.save(step, {"model": {}, "opt": {}})
    assert folder.steps() == [1_000_000, 1_000_001]
    assert len(names(tmp_path)) == 4


def test_a_checkpoint_counts_once_it_is_complete(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=1)
    folder.save(10, {"model": {}, "opt": {}})
    with pytest.raises((AttributeError, TypeError)):
        folder.save(20, {"model": {}, "opt": lambda: "cannot be saved"})
    assert (tmp_path / "model000020.pt").exists()
    assert folder.steps() == [10] and (tmp_path / "model000010.pt").exists()
