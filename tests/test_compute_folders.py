"""Folders and files that are not as they should be, before the compute_ scripts."""

import shutil

import pytest
from PIL import Image
from scripts import call_script
from toy_networks import write_weights
from toy_results import flat, write_pair, write_random_pairs

import compute_CD
import compute_COUT
import compute_FID
import compute_FVA
import compute_LPIPS
import compute_MNAC


def test_one_pair_has_no_interval_and_jpg_and_png_are_read_alike(tmp_path, measure, colour_oracle):
    write_pair(tmp_path, 0, flat(0, 0, 0), flat(1, 1, 0))
    found, out = measure(compute_MNAC, **colour_oracle)
    assert found["MNAC"]["value"] == 2 and found["MNAC"]["interval"] is None
    assert "MNAC: 2 (n = 1 pairs that reached their target)" in out
    shutil.rmtree(tmp_path / "Original")
    shutil.rmtree(tmp_path / "Results/exp/CC")
    for i, suffixes in enumerate([("jpg", "png"), ("png", "jpeg"), ("jpg", "jpg")]):
        write_pair(tmp_path, i, flat(0, 0, 0), flat(1, 1, 0), suffixes=suffixes)
    assert measure(compute_MNAC, **colour_oracle)[0]["MNAC"]["value"] == 2


@pytest.mark.parametrize("module", [compute_MNAC, compute_CD, compute_FVA, compute_COUT, compute_FID])
def test_folders_without_pairs_or_with_broken_ones_are_refused(tmp_path, refuse, module):
    flags = {"celeba_path": tmp_path} if module is compute_CD else {}
    assert "is not there" in refuse(module, **flags)
    (tmp_path / "Results/exp").mkdir(parents=True)
    assert "holds no" in refuse(module, **flags)
    write_pair(tmp_path, 0, flat(0, 0, 0), flat(1, 1, 1))
    (tmp_path / "Original/Correct/0000000.png").unlink()
    assert "CC/CCF/CF/0000000.png has no original" in refuse(module, **flags)


def test_a_corrupt_image_or_one_in_two_folders_is_named_and_batches_of_nothing(tmp_path, refuse, colour_oracle):
    write_random_pairs(tmp_path)
    assert "--batch_size 0 must be at least 1" in refuse(compute_MNAC, **colour_oracle, batch_size=0)
    broken = tmp_path / "Results/exp/CC/CCF/CF/0000003.png"
    broken.write_bytes(broken.read_bytes()[:60])
    assert f"{broken} cannot be read" in refuse(compute_MNAC, **colour_oracle)
    broken.write_text("not an image")
    assert f"{broken} cannot be read" in refuse(compute_MNAC, **colour_oracle)
    Image.new("RGB", (32, 32)).save(broken)
    assert f"{broken} is not of the size of" in refuse(compute_MNAC, **colour_oracle)
    write_pair(tmp_path, 3, flat(0, 0, 0), flat(1, 1, 1), place="CC/ICF")
    message = refuse(compute_COUT)
    assert "CC/CCF/CF/0000003.png" in message and "CC/ICF/CF/0000003.png" in message


def test_an_image_in_two_formats_is_refused_and_both_are_named(tmp_path, refuse, colour_oracle):
    write_random_pairs(tmp_path)
    for place in ("Original/Correct", "Results/exp/CC/CCF/CF"):
        first = tmp_path / place / "0000003.png"
        second = first.with_suffix(".jpg")
        Image.open(first).save(second)
        message = refuse(compute_MNAC, **colour_oracle)
        assert str(first) in message and str(second) in message
        second.unlink()


# -- weights -------------------------------------------------------------------------------------------------


def test_missing_weights_are_named(tmp_path, refuse):
    write_random_pairs(tmp_path)
    flags = {compute_FVA: "weights_path", compute_MNAC: "oracle_path", compute_COUT: "classifier_path"}
    for module, flag in flags.items():
        assert f"{tmp_path}/none does not exist" in refuse(module, **{flag: tmp_path / "none"})


@pytest.mark.parametrize("module, kind", [(compute_MNAC, "oracle"), (compute_COUT, "classifier")])
def test_code_is_imported_where_the_command_names_it_and_not_where_a_folder_does(
    tmp_path, refuse, measure, monkeypatch, module, kind
):
    write_random_pairs(tmp_path)
    write_weights(tmp_path)
    name = "toy_networks:Brightness"
    (tmp_path / "Results/exp/flags.yaml").write_text(f"{kind}_architecture: {name}\nquery_label: Smiling\n")
    flags = {f"{kind}_path": tmp_path / "classifier.pt"}
    assert f"needs the code of {name}" in refuse(module, **flags)
    assert measure(module, **flags, **{f"{kind}_architecture": name})[0]


OF_INCEPTION = (compute_FID, "pt_inception-2015-12-05-6726825d.pth", "inception_path")


@pytest.mark.parametrize("module, file, flag", [OF_INCEPTION, (compute_LPIPS, "vgg16-397923af.pth", "vgg_path")])
def test_offline_it_is_said_what_is_missing_and_where(tmp_path, monkeypatch, module, file, flag):
    for exp_name in ("exp", "exp-2"):
        write_random_pairs(tmp_path, exp_name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    for name in ("https_proxy", "HTTPS_PROXY"):  # a download must fail at once, here and anywhere
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    which = {"exp_pattern": "exp*"} if module is compute_LPIPS else {"exp_name": "exp"}
    code, _, err = call_script(module, {"output_path": tmp_path} | which)
    path = tmp_path / "cache/hub/checkpoints" / file
    assert code == 2 and f"{path} and cannot be downloaded" in err and f"give --{flag}" in err
    assert not path.exists()
