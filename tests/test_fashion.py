import gzip
import hashlib

import numpy as np
import pytest
from PIL import Image
from scripts import contents, error_of, run_script
from torchvision.datasets import FashionMNIST
from toy_celeba import csv_rows

from core.data.datasets import CelebA
from core.data.images import from_uint8, to_uint8
from demo import fashion
from demo.fashion import CLASSES, write_fashion
from guided_diffusion.script_util import UserError

ALL = {"train": -1, "val": -1, "test": -1}
PLACES = {"train": ("train", range(50)), "val": ("train", range(50, 60)), "test": ("t10k", range(20))}


def idx(array):
    """uint8 -> the bytes of an idx file: 0, 0, 8 (unsigned bytes), the rank, big-endian sizes, the values."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


@pytest.fixture(scope="module")
def clothes():
    """part -> (images, labels) of a Fashion-MNIST of 60 and 20 images; every ten hold every class."""
    rng = np.random.default_rng(0)
    tens = np.arange(10, dtype=np.uint8)

    def part(n):
        images = rng.integers(0, 256, (n, 28, 28), np.uint8)
        return images, np.concatenate([rng.permutation(tens) for _ in range(n // 10)])

    return {"train": part(60), "t10k": part(20)}


def write_raw(folder, clothes, pack=gzip.compress, suffix=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    for part, (images, labels) in clothes.items():
        (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels)))
    return folder


@pytest.fixture(scope="module")
def raw(clothes, tmp_path_factory):
    return write_raw(tmp_path_factory.mktemp("raw"), clothes)


@pytest.fixture
def no_debian(monkeypatch, tmp_path):
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", tmp_path / "not installed")


def test_files_have_celebas_layout(raw, clothes, tmp_path):
    write_fashion(tmp_path, ALL, ["Ankle_boot", "T-shirt"], raw)
    partition = csv_rows(tmp_path / "list_eval_partition.csv")
    attributes = csv_rows(tmp_path / "list_attr_celeba.csv")
    assert partition[0] == ["image_id", "partition"]
    assert attributes[0] == ["image_id", "Ankle_boot", "T-shirt"]
    assert [row[0] for row in attributes] == [row[0] for row in partition]

    expected = []  # every boot and T-shirt in the order of the files; the last sixth of train is val
    signs = {9: ["1", "-1"], 0: ["-1", "1"]}
    for number, (split, (part, places)) in enumerate(PLACES.items()):
        labels = clothes[part][1]
        expected += [(f"{split}_{i:05d}.png", str(number), signs[labels[i]]) for i in places if labels[i] in signs]
    assert [(a[0], p[1], a[1:]) for a, p in zip(attributes[1:], partition[1:], strict=True)] == expected
    images = tmp_path / "img_align_celeba"
    assert {path.name for path in images.iterdir()} == {name for name, *_ in expected}


def test_images_are_padded_with_black_and_lossless_and_the_dataset_reads_them(raw, clothes, tmp_path):
    write_fashion(tmp_path, ALL, CLASSES, raw)
    for split, (part, places) in PLACES.items():
        dataset = CelebA(tmp_path, split, 32)
        assert dataset.attributes == CLASSES and len(dataset) == len(places)
        for i, place in enumerate(places):
            image, labels = dataset[i]
            original = np.pad(clothes[part][0][place], 2)  # with black
            assert all(np.array_equal(channel, original) for channel in to_uint8(image))
            assert image.equal(from_uint8(dataset.pixels(i)))
            assert labels.nonzero().flatten().tolist() == [clothes[part][1][place]]
    with Image.open(tmp_path / "img_align_celeba/test_00000.png") as image:
        assert image.mode == "L" and image.size == (32, 32)


def test_a_smaller_set_holds_the_first_images_of_a_larger_one(raw, tmp_path):
    classes, counts = ["Sneaker", "Ankle_boot", "Bag"], {"val": 2, "test": 4, "train": 5}
    full, part = tmp_path / "full", tmp_path / "part"
    write_fashion(full, ALL, classes, raw)
    write_fashion(part, counts, classes, raw)
    for split, count in counts.items():
        larger, smaller = CelebA(full, split, 32), CelebA(part, split, 32)
        assert len(larger) > count == len(smaller)
        assert smaller.names == larger.names[:count] and smaller.labels.equal(larger.labels[:count])
        assert all(smaller.pixels(i).equal(larger.pixels(i)) for i in range(count))
    write_fashion(tmp_path / "bags", {"train": 0, "test": 10**6}, ["Bag"], raw)  # a count is a limit
    assert [row[1] for row in csv_rows(tmp_path / "bags/list_eval_partition.csv")[1:]] == ["2", "2"]


@pytest.mark.parametrize("place", ["", "FashionMNIST/raw"])
@pytest.mark.parametrize("pack, suffix", [(gzip.compress, ".gz"), (bytes, "")])
def test_every_form_of_the_source_gives_the_same_set(place, pack, suffix, raw, clothes, tmp_path):
    write_raw(tmp_path / "source" / place, clothes, pack, suffix)
    before = contents(tmp_path / "source")
    write_fashion(tmp_path / "a", {"test": 5}, CLASSES, tmp_path / "source")
    write_fashion(tmp_path / "b", {"test": 5}, CLASSES, raw)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "source") == before


def test_debians_folder_is_used_where_no_source_is_given(raw, clothes, tmp_path, monkeypatch):
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", raw)
    monkeypatch.setattr(FashionMNIST, "mirrors", [])
    write_fashion(tmp_path, {"test": 1})
    image = CelebA(tmp_path, "test", 32).pixels(0)[0, 2:30, 2:30]
    assert np.array_equal(image, clothes["t10k"][0][0])


def test_without_either_the_data_folder_holds_the_download(clothes, tmp_path, no_debian, monkeypatch):
    """torchvision leaves alone what it has downloaded: nothing is fetched here."""
    downloaded = sorted(write_raw(tmp_path / "FashionMNIST" / "raw", clothes).iterdir())
    sums = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in downloaded]
    monkeypatch.setattr(FashionMNIST, "resources", sums)
    for _ in range(2):
        write_fashion(tmp_path, {"test": 5})
    assert len(CelebA(tmp_path, "test", 32)) == 5


def test_a_missing_source_names_the_package_and_the_flag(tmp_path, no_debian, monkeypatch):
    monkeypatch.setattr(FashionMNIST, "mirrors", [(tmp_path / "nowhere").as_uri() + "/"])
    with pytest.raises(UserError, match="cannot be downloaded .*dataset-fashion-mnist.* --source") as error:
        write_fashion(tmp_path / "set", ALL)
    assert "\n" not in str(error.value)


def test_a_given_source_is_not_replaced_by_another(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", raw)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "t10k-images-idx3-ubyte.gz").touch()
    with pytest.raises(UserError, match="^--source .*source lacks .*dataset-fashion-mnist"):
        write_fashion(tmp_path / "set", ALL, CLASSES, tmp_path / "source")
    assert not (tmp_path / "set").exists()


def test_a_damaged_file_is_named(clothes, tmp_path):
    source = write_raw(tmp_path / "source", clothes)
    path = source / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    short, of_floats = gzip.compress(gzip.decompress(whole)[:-9]), gzip.compress(b"\0\0\7\3" + bytes(99))
    for damaged in (whole[:-40], b"no gzip", b"", short, of_floats):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz cannot be read \(.*\); restore it"):
            write_fashion(tmp_path / "set", ALL, CLASSES, source)


def test_files_of_another_data_set_are_refused(clothes, tmp_path):
    images, labels = clothes["t10k"]
    for other in ((images[:-1], labels), (images[:, 1:], labels), (images, labels + 1)):
        source = write_raw(tmp_path / "source", clothes | {"t10k": other})
        with pytest.raises(UserError, match="does not hold Fashion-MNIST: its t10k files"):
            write_fashion(tmp_path / "set", ALL, CLASSES, source)


@pytest.mark.parametrize("classes", ["Sneaker,Boot", "Bag,Bag", ""])
def test_classes_that_there_are_not_and_one_twice_are_refused(classes, raw, tmp_path):
    with pytest.raises(UserError, match=f"--classes {classes} must be some of T-shirt,Trouser.*, each once"):
        write_fashion(tmp_path / "set", ALL, classes.split(","), raw)
    assert not (tmp_path / "set").exists()


def test_command_line(raw, tmp_path):
    flags = f"--data_dir {tmp_path} --source {raw} --classes Sneaker,Ankle_boot --train 3 --val 0 --test -1"
    assert run_script("demo.fashion", flags.split())[0] == 0
    partition = csv_rows(tmp_path / "list_eval_partition.csv")
    assert [row[1] for row in partition] == ["partition", "0", "0", "0", "2", "2", "2", "2"]
    assert csv_rows(tmp_path / "list_attr_celeba.csv")[0] == ["image_id", "Sneaker", "Ankle_boot"]
    assert "--data_dir must be given" in error_of(run_script("demo.fashion", []))
    (tmp_path / "file").touch()
    refused = run_script("demo.fashion", [*flags.split(), "--data_dir", tmp_path / "file"])
    assert f"{tmp_path}/file" in error_of(refused)
