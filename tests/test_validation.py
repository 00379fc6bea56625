"""The validation of a classifier in training, on several ranks."""

import shutil
import sys

import pandas as pd
import pytest
import torch
from scripts import ROOT, SEARCH_PATH, as_argv, run_command
from toy_celeba import write_celeba

from core.data.datasets import CelebA
from core.metrics.validation import decide_together, validate_attributes
from models.classifiers import load_classifier


@pytest.mark.slow
def test_a_validation_on_two_ranks_is_that_of_one(tmp_path):
    if not shutil.which("mpiexec", path=SEARCH_PATH):
        pytest.skip("no mpiexec on this machine")
    root = write_celeba(tmp_path / "celeba", {"train": 70, "val": 5, "test": 0})
    flags = {"data_dir": root, "output_path": tmp_path / "training", "architecture": "shufflenet_v2_x0_5"}
    flags |= {"image_size": 32, "batch_size": 4, "lr_anneal_steps": 4, "save_interval": 4}
    code, _, err = run_command(
        "mpiexec", "-n", "2", sys.executable, str(ROOT / "celeba-train-classifier.py"), *as_argv(flags)
    )
    assert code == 0, err
    classifier = load_classifier(tmp_path / "training/last.pt")
    alone = validate_attributes(classifier, CelebA(root, "val", 32), torch.device("cpu"))
    table = pd.read_csv(tmp_path / "training/attributes.csv", index_col=0)
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
