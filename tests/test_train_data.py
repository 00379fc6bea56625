"""The batches of a training: whatever loads them, they depend on the seed and the step alone."""

import threading
import time
from itertools import islice

import numpy as np
import pytest
import torch
from assertions import refusal
from toy_training import Pictures

from guided_diffusion.ranks.ranks import Ranks
from guided_diffusion.script.errors import UserError
from guided_diffusion.training.batches import Batch, Batches, generator


def batches(count, start=0, **options):
    options = {"batch_size": 4, "seed": 7} | options
    return list(islice(Batches(Pictures(), start=start, **options), count))


def same(one, other):
    return (
        one.step == other.step
        and torch.equal(one.images, other.images)
        and torch.equal(one.labels, other.labels)
        and torch.equal(one.normals(), other.normals())
        and np.array_equal(one.uniforms(), other.uniforms())
    )


def test_a_batch_depends_on_the_seed_and_the_step_alone():
    whole, late = batches(8, random_flip=True), batches(3, start=5, random_flip=True)
    assert [batch.step for batch in whole] == list(range(8))
    assert all(same(one, other) for one, other in zip(whole[5:], late, strict=True))
    assert not same(whole[0], batches(1, seed=8, random_flip=True)[0])


@pytest.mark.parametrize("options", [{"num_workers": 1}, {"num_workers": 3}, {"with_noise": True}])
def test_a_batch_does_not_depend_on_how_many_load_or_what_is_drawn_ahead(options):
    pairs = zip(batches(6, random_flip=True), batches(6, random_flip=True, **options), strict=True)
    assert all(same(one, other) for one, other in pairs)


@pytest.mark.parametrize("world_size, batch_size", [(2, 4), (3, 2), (4, 5)])
def test_the_batches_of_all_ranks_are_the_batch_of_one_bit_for_bit(world_size, batch_size):
    whole = batches(6, start=2, batch_size=world_size * batch_size, random_flip=True)
    ranks = [
        batches(6, start=2, batch_size=batch_size, random_flip=True, ranks=Ranks(rank, world_size))
        for rank in range(world_size)
    ]
    for one, parts in zip(whole, zip(*ranks, strict=True), strict=True):
        assert {part.step for part in parts} == {one.step}
        assert sum([part.places for part in parts], []) == one.places
        for name in ("images", "labels"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(one, name))
        assert torch.equal(torch.cat([part.normals() for part in parts]), one.normals())
        assert np.array_equal(np.concatenate([part.uniforms() for part in parts]), one.uniforms())


class Watched(Pictures):
    """Pictures that note which were asked for, and call `ask` then."""

    def __init__(self, ask=lambda i: None):
        super().__init__()
        self.ask, self.asked = ask, []

    def pixels(self, i):
        self.asked.append(i)
        self.ask(i)
        return super().pixels(i)


def test_batches_are_loaded_ahead_by_all_workers_at_once():
    together = threading.Barrier(2, timeout=30)
    pictures = Watched(lambda i: together.wait() if len(pictures.asked) <= 2 else None)
    loaded = iter(Batches(pictures, batch_size=4, seed=7, num_workers=2))
    next(loaded)
    deadline = time.monotonic() + 30
    while len(pictures.asked) < 5 * 4 and time.monotonic() < deadline:  # the batch that came, and four ahead
        time.sleep(0.001)
    loaded.close()
    assert len(pictures.asked) == 5 * 4


def test_an_image_that_cannot_be_read_ends_the_batches_with_its_error():
    def refuse(i):
        raise UserError(f"image {i} is broken")

    assert "is broken" in refusal(UserError, next, iter(Batches(Watched(refuse), batch_size=4, seed=7)))


def test_batches_for_a_gpu_are_pinned_by_the_workers_and_copied_without_waiting(monkeypatch):
    plain, calls = batches(2, with_noise=True), []
    to = torch.Tensor.to

    def pin(tensor):
        calls.append(("pin", threading.current_thread() is threading.main_thread()))
        return tensor

    def copy(tensor, place, *rest, **options):
        if place != "cuda:0":
            return to(tensor, place, *rest, **options)
        calls.append(("copy", options))
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "to", copy)
    on_gpu = batches(2, with_noise=True, device="cuda:0", num_workers=1)
    assert all(same(one, other) for one, other in zip(plain, on_gpu, strict=True))
    assert calls.count(("copy", {"non_blocking": True})) == 2 * 3 and calls.count(("pin", False)) >= 2 * 3
    assert {kind for kind, _ in calls} == {"pin", "copy"} and ("pin", True) not in calls


def test_every_epoch_is_a_new_permutation():
    seen = torch.cat([batch.labels[:, 0] for batch in batches(15)])  # 60 images: six epochs
    epochs = seen.reshape(6, 10)
    assert torch.equal(epochs.sort(1).values, torch.arange(10).expand(6, 10))
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 6


def test_images_are_the_data_sets_in_minus_1_to_1_with_their_labels():
    pictures = Pictures()
    for batch in batches(5):
        expected = pictures.images[batch.labels[:, 0]].float() / 127.5 - 1
        torch.testing.assert_close(batch.images.contiguous(), expected)


def test_half_of_the_images_are_mirrored():
    pictures, mirrored = Pictures(), []
    for batch in batches(100, random_flip=True):
        plain = pictures.images[batch.labels[:, 0]].float() / 127.5 - 1
        for image, original in zip(batch.images, plain, strict=True):
            mirrored.append(not torch.equal(image, original))
            assert torch.equal(image, original.flip(-1) if mirrored[-1] else original)
    assert 0.4 < np.mean(mirrored) < 0.6
    assert not np.array_equal(mirrored[:10], mirrored[10:20])  # each epoch anew


def test_different_keys_give_different_streams_even_where_zeros_end_them():
    keys = [(), (0,), (0, 0), (1,), (1, 0), (1, 0, 0), (0, 1), (1, 1), (2, 1), (2, 1, 0)]
    assert len({generator(*key).random() for key in keys}) == len(keys)
    assert generator(1, 0).random() == generator(1, 0).random()


def test_parts_of_a_batch_have_its_numbers():
    (batch,) = batches(1, batch_size=7, with_noise=True)
    parts = list(batch.split(3))
    assert [len(part.images) for part in parts] == [3, 3, 1]
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
    assert torch.equal(torch.cat([part.normals() for part in parts]), batch.normals())
    assert np.array_equal(np.concatenate([part.uniforms() for part in parts]), batch.uniforms())


def test_the_numbers_of_a_batch_are_uniform_and_normal_and_its_own():
    images = torch.zeros(500, 3, 8, 8)
    one, other = (Batch(0, step, list(range(500)), images, None) for step in (3, 4))
    quantiles = np.sort(one.uniforms())
    assert np.abs(quantiles - (np.arange(500) + 0.5) / 500).max() < 1.95 / 500**0.5  # Kolmogorov-Smirnov
    normals = one.normals()
    assert normals.mean().abs() < 0.01 and abs(normals.std() - 1) < 0.01
    for pair in ((one.uniforms(), other.uniforms()), (normals.flatten(), other.normals().flatten())):
        assert abs(np.corrcoef(*pair)[0, 1]) < 0.2
