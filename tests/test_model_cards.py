"""What model cards show of weight files: samples, losses, fidelity, accuracies; and packing."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from scripts import ROOT, as_argv, error_of, output_of, run_script
from toy_celeba import write_celeba

from core.data.datasets import CelebA, load_images
from core.metrics.distributions import frechet_distance
from demo.card import BATCH, draw_images, features_of, load_for_sampling, losses_of
from guided_diffusion.script_util import create_gaussian_diffusion
from guided_diffusion.training.weight_files import save_aside
from models.checkpoints import attach_flags, flags_of, read_weights
from models.oracles import load_oracle

DDPM, ORACLE = (ROOT / f"models/demo/faces_{name}.pt" for name in ("ddpm", "oracle"))


def card(*words, **flags):
    """Runs demo.card -> (exit code, stdout, stderr)."""
    return run_script("demo.card", [*words, *as_argv(flags)])


class Silent(torch.nn.Module):
    """Predicts no noise at all, and notes the timesteps that it is asked about."""

    def __init__(self):
        super().__init__()
        self.unet, self.asked = torch.nn.Linear(1, 1), []

    def forward(self, z, t):
        self.asked += t.tolist()
        return torch.zeros_like(z)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_celeba(root, {"train": 6, "val": 5, "test": 7})
    return root


def test_a_network_that_predicts_nothing_loses_the_variance_of_the_noise():
    diffusion = create_gaussian_diffusion(diffusion_steps=100)
    network, images = Silent(), torch.zeros(120, 3, 8, 8)
    losses = losses_of(network, diffusion, images, 4)
    assert losses.shape == (120,) and abs(losses.mean() - 1) < 0.02  # 92,160 squared normals
    # Each draw covers its quarter of the timesteps evenly, so all together cover all of them.
    quarters = np.array(network.asked).reshape(4, 120)
    assert (quarters // 25 == np.arange(4)[:, None]).all() and len(set(network.asked)) == 100
    assert (losses_of(Silent(), diffusion, images, 4) == losses).all()


def test_an_image_is_drawn_whatever_the_number_of_the_batch_that_it_is_in():
    diffusion = create_gaussian_diffusion(diffusion_steps=2, noise_schedule="cosine")
    images = draw_images(Silent(), diffusion, 8, BATCH + 3, 0, torch.device("cpu"))
    assert images.shape == (BATCH + 3, 3, 8, 8) and len(images.flatten(1).unique(dim=0)) == BATCH + 3
    assert torch.equal(draw_images(Silent(), diffusion, 8, BATCH, 0, torch.device("cpu")), images[:BATCH])


def test_losses_are_a_table_and_a_curve(data, tmp_path):
    flags = {"data_dir": data, "draws": 1, "picture": tmp_path / "losses.png", "steps": "10,20"}
    out = output_of(card("losses", DDPM, DDPM, **flags))
    rows = re.findall(r"\| .*faces_ddpm.pt \| +([\d.]+) \| +([\d.]+) \|", out)
    assert len(rows) == 2 and rows[0] == rows[1]
    network, diffusion, _ = load_for_sampling(DDPM, "", torch.device("cpu"))
    for split, loss in zip(("train", "val"), rows[0], strict=True):
        dataset = CelebA(data, split, 64)
        images = load_images(dataset, range(len(dataset)))
        assert losses_of(network, diffusion, images, 1).mean() == pytest.approx(float(loss), rel=0.01)
    assert Image.open(tmp_path / "losses.png").width > 300
    assert "--steps" in error_of(card("losses", DDPM, data_dir=data, picture="x.png"))


def test_fidelity_is_the_distance_in_the_features_of_an_oracle_of_such_images(data):
    flags = {"data_dir": data, "oracle_path": ORACLE, "count": 5, "timestep_respacing": "2"}
    out = output_of(card("fidelity", DDPM, **flags))
    distances = dict(re.findall(r"FID of 5 images \((\w+)\) and 5 of the test split: ([\d.]+)", out))
    oracle, features = load_oracle(ORACLE), {}
    for split in ("train", "test"):
        images = load_images(CelebA(data, split, 64), range(5))
        features[split] = oracle.features(images).detach().numpy()
        assert np.allclose(features_of(oracle, images, torch.device("cpu"), ""), features[split], atol=1e-5)
    assert float(distances["train"]) == pytest.approx(frechet_distance(*features.values()), rel=1e-3)
    assert float(distances["drawn"]) > float(distances["train"])  # two steps make no faces

    line = error_of(card("fidelity", DDPM, data_dir=data, oracle_path=ROOT / "models/demo/fashion_oracle.pt"))
    assert "was trained at 32" in line and "images of 64" in line


def test_samples_of_shipped_weights_are_a_command_that_needs_no_flags(tmp_path):
    flags = {"picture": tmp_path / "new/samples.png", "count": 3, "timestep_respacing": 3}
    output_of(card("samples", ROOT / "models/demo/fashion_ddpm.pt", **flags))
    assert Image.open(tmp_path / "new/samples.png").size == (3 * 34 + 2, 36)

    bare = torch.load(ROOT / "models/demo/fashion_ddpm.pt")
    torch.save(dict(bare), tmp_path / "bare.pt")
    assert "carries no flags" in error_of(card("samples", tmp_path / "bare.pt", **flags))


def test_packed_weights_are_halved_and_keep_their_flags_but_for_those_that_are_given(tmp_path):
    trained = read_weights(ROOT / "models/demo/fashion_ddpm.pt")
    whole = {name: tensor.float() for name, tensor in trained.items()}
    save_aside(attach_flags(whole, flags_of(trained)), tmp_path / "trained.pt")
    for changes in ({}, {"norm_groups": 16}):
        flags = {"shipped": tmp_path / "made/shipped.safetensors"} | changes
        assert "shipped.safetensors: 2." in output_of(card("pack", tmp_path / "trained.pt", **flags))
        packed = read_weights(tmp_path / "made/shipped.safetensors")
        assert {tensor.dtype for tensor in packed.values()} == {torch.float16}
        assert all(torch.equal(packed[name].float(), whole[name]) for name in whole)
        assert flags_of(packed) == flags_of(trained) | changes


def test_norm_groups_that_a_network_cannot_have_are_not_packed(tmp_path):
    for name, groups in (("fashion_ddpm", 7), ("fashion_classifier", 8)):
        flags = {"shipped": tmp_path / "a.pt", "norm_groups": groups}
        assert "norm_groups" in error_of(card("pack", ROOT / f"models/demo/{name}.pt", **flags))
        assert not (tmp_path / "a.pt").exists()


def test_a_classifier_is_not_asked_about_attributes_that_it_does_not_know(tmp_path):
    write_celeba(tmp_path, {"test": 2})
    line = error_of(card("accuracy", ROOT / "models/demo/fashion_classifier.pt", data_dir=tmp_path))
    assert "other attributes" in line and "--data_dir" in line
