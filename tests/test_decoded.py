import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import torch
from assertions import refusal
from toy_celeba import write_celeba

from core.data.datasets import CelebA
from core.data.decoded import MIB, DecodedImages, available_memory, keep_decoded
from guided_diffusion.script.errors import UserError


def test_an_image_is_decoded_once_however_many_ask_at_once():
    together, decoded = threading.Barrier(8, timeout=30), []

    def decode(i):
        decoded.append(i)
        return torch.full((3, 4, 4), i, dtype=torch.uint8)

    images = DecodedImages(decode, 100, 4)

    def ask(_):
        together.wait()
        return [int(images[i].unique()) for i in range(100)]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [list(range(100))] * 8
    assert sorted(decoded) == list(range(100))


def test_an_image_that_cannot_be_decoded_is_not_taken_for_decoded():
    def refuse(i):
        raise UserError("broken")

    images = DecodedImages(refuse, 3, 4)
    assert refusal(UserError, images.__getitem__, 1) == refusal(UserError, images.__getitem__, 1) == "broken"


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("enough", [True, False])
def test_images_stay_in_memory_where_all_fit_into_half_of_it(tmp_path, capsys, enough, processes):
    root = write_celeba(tmp_path, {"train": 4, "val": 3, "test": 0})
    train, val = CelebA(root, "train", 16), CelebA(root, "val", 16)
    before = [train.pixels(i) for i in range(4)]
    needed = 7 * 3 * 16 * 16 * processes
    keep_decoded(train, val, processes=processes, available=2 * needed - (0 if enough else 1))
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "7 images" in said and ("kept in memory" in said) == enough
    assert all(torch.equal(train.pixels(i), before[i]) for i in range(4)) and val[2][0].shape == (3, 16, 16)

    for path in train.image_dir.iterdir():
        path.unlink()
    if enough:
        assert all(torch.equal(train.pixels(i), before[i]) for i in range(4))
    else:
        refusal(UserError, train.pixels, 0)


def test_the_memory_that_is_left_is_the_systems_or_the_containers(tmp_path):
    system = psutil.virtual_memory().available
    assert 0.5 * system < available_memory(tmp_path) < 2 * system  # no container
    for name, text in {"max": "max", "current": f"{60 * MIB}", "stat": f"anon 5\ninactive_file {20 * MIB}"}.items():
        (tmp_path / f"memory.{name}").write_text(f"{text}\n")
    assert 0.5 * system < available_memory(tmp_path) < 2 * system  # a container without a limit
    (tmp_path / "memory.max").write_text(f"{100 * MIB}\n")
    assert available_memory(tmp_path) == 60 * MIB  # files that the system only keeps at hand give way
    (tmp_path / "memory.max").write_text(f"{10 * MIB}\n")
    assert available_memory(tmp_path) == 0
