"""The demo of handwritten digits: its images, its diffusion model of diffusers, and all of it by one command."""

import importlib
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from scripts import call_script, contents, output_of, run_shell

from core.data.datasets import SPLITS
from core.data.image_lists import ImageFolder
from core.metrics.metric import read_metrics
from core.results.layout import Layout
from core.results.reading import read_classes
from core.results.records import flipped, read_records
from demo.digits import enlarge, name_digits, write_digits
from guided_diffusion.script.errors import UserError

datasets = pytest.importorskip("sklearn.datasets")
diffusers = pytest.importorskip("diffusers")
REMEDY = "which is not installed: pip install -r requirements-hub.txt"


@pytest.fixture(scope="module")
def digits():
    return datasets.load_digits()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of images; nobody may change it."""
    path = tmp_path_factory.mktemp("digits") / "new" / "images"
    write_digits(path)
    return path


# -- the images ------------------------------------------------------------------------------------------------


def test_every_digit_is_in_the_folder_of_its_class_and_in_one_split_that_is_always_the_same(folder, digits):
    sets = {split: ImageFolder(folder, split, 16) for split in SPLITS}
    assert {split: len(each) for split, each in sets.items()} == {"train": 1557, "val": 200, "test": 40}
    indices = []
    for split, dataset in sets.items():
        assert dataset.attributes == tuple("0123456789")
        for name, label in zip(dataset.names, dataset.labels[:], strict=True):
            index = int(name.rsplit("/")[-1].removesuffix(".png"))
            digit = digits.target[index]
            assert name == f"{split}/{digit}/{index:04d}.png" and label.argmax() == digit
            indices.append(index)
        shares = np.bincount(dataset.labels[:].argmax(1).numpy())
        assert split == "train" or (shares == len(dataset) // 10).all()
    assert sorted(indices) == list(range(1797))
    assert [path.name for path in folder.parent.iterdir()] == ["images"]
    assert name_digits(digits.target) == name_digits(digits.target)


def test_a_file_is_the_digit_enlarged_and_grey(folder, digits):
    for path in sorted(folder.rglob("*.png"))[::100]:
        image = Image.open(path)
        assert image.mode == "L" and image.size == (16, 16)
        small = image.crop((1, 1, 15, 15)).resize((8, 8), Image.Resampling.BOX)
        distances = np.abs(np.asarray(small) / 255 - digits.images / 16).mean((1, 2))
        assert distances.argmin() == int(path.stem)  # of all digits it is nearest to its own
    white = np.asarray(enlarge(np.full((8, 8), 16.0)))
    assert (white[1:-1, 1:-1] == 255).all() and white[0].max() == white[:, -1].max() == 0


def test_a_complete_folder_is_left_alone(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "images")
    image = next((tmp_path / "images").rglob("*.png"))
    image.write_bytes(b"touched")
    write_digits(tmp_path / "images")
    assert image.read_bytes() == b"touched"


def test_what_is_no_folder_of_digits_is_left_as_it_is(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "train/0").mkdir(parents=True)
    (tmp_path / "train/0/0001.png").touch()
    before = contents(tmp_path)
    for place in (tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match="holds something else: name a new folder, or remove it"):
            write_digits(place)
    code, _, err = call_script(importlib.import_module("demo.digits"), {"data_dir": tmp_path / "file/below"})
    assert code == 2 and f"{tmp_path}/file" in err and len(err.splitlines()) == 1
    assert contents(tmp_path) == before


def test_a_missing_package_or_flag_is_one_line(tmp_path, monkeypatch):
    script, package = "demo.digits_ddpm", "diffusers"
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    module = importlib.import_module(script)
    flags = {"data_dir": tmp_path / "images", "output_path": tmp_path / "out"}
    code, _, err = call_script(module, {name: value for name, value in flags.items() if name in module.FLAGS})
    (line,) = err.splitlines()
    assert code == 2 and f"error: {script} needs {package}" in line and line.endswith(REMEDY)
    assert not (tmp_path / "images").exists() and not (tmp_path / "out").exists()
    for script in ("demo.digits", "demo.digits_ddpm"):
        code, _, err = call_script(importlib.import_module(script), {})
        assert code == 2 and err.splitlines()[-1].endswith("--data_dir must be given")


# -- the command -----------------------------------------------------------------------------------------------


def run_demo(place, *flags):
    """Runs demo/digits.sh with networks that are hardly trained, on the first three digits -> what it printed."""
    quick = "--start_step 2 --timestep_respacing 4 --num_batches 1 --batch_size 3".split()
    places = {"DATA": str(place / "data"), "OUTPUT": str(place / "out")}
    steps = dict.fromkeys(["DDPM_STEPS", "CLASSIFIER_STEPS"], "2")
    return output_of(run_shell("demo/digits.sh", *quick, *flags, **places, **steps))


@pytest.mark.slow
def test_the_demo_goes_from_nothing_to_a_picture_metrics_and_a_model_that_diffusers_reads(tmp_path):
    place, out = tmp_path, run_demo(tmp_path)
    assert "1,557 train images" in out and f"the picture: {place}/out/demo.png" in out
    assert Image.open(place / "out/demo.png").width > 1000
    layout = Layout(place / "out", "demo")
    records = read_records(layout.records)
    assert len(records) == 3 and (records["label"] == 0).all() and {"oracle_pred"} <= set(records)
    assert "".join(read_classes(layout)) == "0123456789"
    assert read_metrics(layout.metrics)["FR"]["value"] == flipped(records).mean()
    pipeline = diffusers.DDPMPipeline.from_pretrained(place / "data/ddpm/pipeline")
    assert pipeline(num_inference_steps=2, output_type="np").images.shape == (1, 16, 16, 3)

    # Run again, it trains nothing and explains alike.
    def made():
        return {name: data for name, data in contents(place).items() if name.endswith((".pt", "tensors", ".png"))}

    before = made()
    assert run_demo(place, "--target_label", -1).count("going on from") == 3
    assert made() == before
