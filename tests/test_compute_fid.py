"""FID, sFID and KID as their users run them."""

import numpy as np
import pytest
import torch
from pytorch_fid import inception
from scripts import output_of, run_shell
from toy_results import PLACES, write_random_pairs

import compute_FID
from core.metrics.distributions import frechet_distance
from core.results.layout import Layout
from core.results.reading import read_pairs
from models.judges import LOADERS, InceptionFeatures


def test_fid_is_of_pytorch_fids_activations_which_are_kept(tmp_path, measure, weights_dir, monkeypatch):
    write_random_pairs(tmp_path, places=PLACES[:4])
    monkeypatch.setenv("TORCH_HOME", str(weights_dir))
    found, out = measure(compute_FID, batch_size=3)
    library = inception.InceptionV3().eval()  # finds the weights in torch.hub's cache by itself
    pairs = read_pairs(Layout(tmp_path, "exp"), reached=("CCF", "ICF"))
    images = zip(*[pair.images() for pair in pairs], strict=True)
    with torch.no_grad():
        x, counterfactuals = (library((torch.stack(each) + 1) / 2)[0].flatten(1).numpy() for each in images)
    flipped = [pair.reached == "CCF" for pair in pairs]
    expected = frechet_distance(x, counterfactuals[flipped])
    assert found["FID"]["value"] == pytest.approx(expected, rel=1e-2) and found["FID"]["n"] == 3
    assert "against 4 originals; biased upwards by fewer than 2,048 images" in out and "KID: " in out
    kept = np.load(tmp_path / "Original/activations.npz")
    np.testing.assert_allclose(np.sort(kept["activations"], 0), np.sort(x, 0), rtol=1e-3, atol=1e-5)

    monkeypatch.setattr(InceptionFeatures, "forward", None)  # not needed again
    inception_path = weights_dir / "hub/checkpoints/pt_inception-2015-12-05-6726825d.pth"
    again, _ = measure(compute_FID, inception_path=inception_path)
    assert again == {name: again[name] | {"value": found[name]["value"]} for name in found}


def test_fid_needs_two_counterfactuals_and_says_what_it_cannot_halve(tmp_path, measure, refuse, monkeypatch):
    (tmp_path / "inception.pt").write_bytes(b"any")
    flags = {"inception_path": tmp_path / "inception.pt"}
    network = InceptionFeatures(torch.nn.AdaptiveAvgPool2d(1), tmp_path / "inception.pt")
    monkeypatch.setattr(InceptionFeatures, "forward", lambda _, images: images.mean((2, 3)))
    monkeypatch.setitem(LOADERS, "inception", lambda *_: network)
    write_random_pairs(tmp_path, places=["CC/CCF"])
    assert "holds 1 flipped counterfactuals" in refuse(compute_FID, **flags)
    write_random_pairs(tmp_path, places=["CC/CCF"] * 2)
    found, out = measure(compute_FID, **flags)
    assert found["FID"]["value"] > 0 and found["FID"]["interval"] is None
    assert "sFID: undefined (n = 2" in out and "KID: undefined (n = 2" in out


def test_other_weights_of_inception_are_refused_and_a_seed_below_0_before_the_work(tmp_path, refuse, weights_dir):
    assert "--seed -1 must be at least 0" in refuse(compute_FID, seed=-1)
    write_random_pairs(tmp_path)
    message = refuse(compute_FID, inception_path=weights_dir / "small.pt")
    assert "is a small_cnn classifier, not pytorch-fid's Inception; check --inception_path" in message


@pytest.mark.slow
def test_compute_fid_takes_its_two_arguments(tmp_path, weights_dir):
    write_random_pairs(tmp_path, exp_name="smile", places=["CC/CCF"] * 3)
    for words in ((), (tmp_path,), (tmp_path, "--gpu")):
        code, _, err = run_shell("compute-fid.sh", *words)
        assert code == 2 and "usage: compute-fid.sh OUTPUT_PATH EXPNAME" in err
    out = output_of(run_shell("compute-fid.sh", tmp_path, "smile", "--gpu", "-1", TORCH_HOME=str(weights_dir)))
    assert all(f"\n{name}: " in f"\n{out}" for name in ("FID", "sFID", "KID"))
    assert (tmp_path / "Results/smile/metrics.yaml").exists()
