"""Activations that are kept beside the images."""

import numpy as np
import pytest
import torch
from PIL import Image
from toy_results import write_random_pairs

from core.metrics.activations import activations_of
from core.metrics.batches import Batching
from core.results.layout import Layout
from core.results.reading import read_pairs

BATCHES = Batching(torch.device("cpu"), 4)


@pytest.fixture
def pictures(tmp_path):
    write_random_pairs(tmp_path)
    return [pair.original for pair in read_pairs(Layout(tmp_path, "exp"), reached=("CCF", "ICF"))]


class CountingNetwork:
    def __init__(self):
        self.images = 0

    def __call__(self, x):
        self.images += len(x)
        assert x.min() >= 0 and x.max() <= 1
        return x.mean((2, 3))


def test_activations_are_computed_once_until_an_image_changes_and_where_none_can_be_kept(tmp_path, pictures):
    network, file = CountingNetwork(), tmp_path / "kept.npz"

    def measured(weights="a"):
        return activations_of(file, pictures, network, weights, BATCHES, "")

    first = measured()
    assert first.shape == (6, 3) and network.images == 6
    assert np.array_equal(measured(), first) and network.images == 6
    pictures[2], pictures[3] = pictures[3], pictures[2]
    assert np.array_equal(measured()[[0, 1, 3, 2]], first[:4]) and network.images == 6
    Image.new("RGB", (16, 16), (255, 0, 0)).save(pictures[5])
    assert measured()[5].tolist() == [1, 0, 0] and network.images == 7
    measured(weights="b")
    assert network.images == 13
    file.write_bytes(file.read_bytes()[:100])
    measured(weights="b")
    assert network.images == 19 and not list(tmp_path.glob("*.part"))
    file = tmp_path / "absent/kept.npz"  # where none can be kept
    assert measured().shape == (6, 3)
