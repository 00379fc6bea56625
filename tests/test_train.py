import csv
import threading
import time
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from assertions import assert_identical, assert_near, refusal
from scripts import logged
from toy_networks import TINY_FLAGS, filled

from guided_diffusion import logger, train_flags, train_util
from guided_diffusion.checkpoint_folder import CheckpointFolder
from guided_diffusion.compile_util import compiled, wants_compiling
from guided_diffusion.errors import UserError
from guided_diffusion.logger import Logger
from guided_diffusion.objectives import DenoisingObjective
from guided_diffusion.resample import create_named_schedule_sampler
from guided_diffusion.script_util import create_model_and_diffusion
from guided_diffusion.train_data import Batch, Batches, generator
from guided_diffusion.train_util import TrainLoop
from guided_diffusion.weight_files import save_aside

CPU = torch.device("cpu")
EVENT_WRITER = logger._event_writer


@pytest.fixture(autouse=True)
def no_tensorboard(monkeypatch):
    """progress.csv is what is looked at here; importing TensorBoard takes seconds."""
    monkeypatch.setattr(logger, "_event_writer", lambda directory, start_step: None)


class Pictures:
    """A data set of ten small random pictures, the i-th of class i."""

    def __init__(self, size=10):
        rng = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (size, 3, 8, 8), dtype=torch.uint8, generator=rng)
        self.labels = torch.arange(size)[:, None]

    def __len__(self):
        return len(self.images)

    def pixels(self, i):
        return self.images[i]


class Killed(Exception):
    """Raised in the middle of a run, as a kill would end it."""


class Spoiled(DenoisingObjective):
    """Whose losses spoil(terms, step) changes."""

    def __init__(self, diffusion, sampler, spoil):
        super().__init__(diffusion, sampler)
        self.spoil = spoil

    def losses(self, network, batch):
        terms = super().losses(network, batch)
        self.spoil(terms, batch.step)
        return terms


def train(output_path, until, spoil=lambda terms, step: None, schedule_sampler="loss-second-moment", **flags):
    """A TrainLoop of a tiny DDPM, run and killed after `until` steps; 0: not run."""
    flags = {
        "lr": 1e-3, "batch_size": 4, "ema_rate": "0.5", "log_interval": 1, "save_interval": 1, "compile": "False",
    } | flags  # fmt: skip
    model_flags = TINY_FLAGS | {"dropout": 0.1, "learn_sigma": True, "diffusion_steps": 50}
    model, diffusion = create_model_and_diffusion(**model_flags)
    filled(model).train()

    def batches(start):
        for batch in Batches(Pictures(), flags["batch_size"], 0, start, random_flip=True):
            if batch.step == until != 0:
                raise Killed
            yield batch

    loop = TrainLoop(
        model, batches,
        Spoiled(diffusion, create_named_schedule_sampler(schedule_sampler, diffusion.num_timesteps), spoil),
        output_path, CPU, named_state=lambda network: network.state_dict(),
        flags=flags | {"schedule_sampler": schedule_sampler},
    )  # fmt: skip
    if until:
        with pytest.raises(Killed):
            loop.run_loop()
    if loop.lock:
        loop.lock.release()  # as the end of the process would
    return loop


def saved(folder, name, step):
    return torch.load(folder / f"{name}{step:06d}.pt", weights_only=True)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# -- the loop ----------------------------------------------------------------------------------------------


def test_a_resumed_training_is_bit_identical_to_an_unbroken_one(tmp_path):
    train(tmp_path / "whole", 6, save_interval=3)
    train(tmp_path / "parts", 3, save_interval=3)
    before = saved(tmp_path / "parts", "model", 3)
    train(tmp_path / "parts", 6, save_interval=3)
    assert names(tmp_path / "whole") == names(tmp_path / "parts")
    for name in ("model", "ema_0.5_", "opt"):
        assert_identical(saved(tmp_path / "whole", name, 6), saved(tmp_path / "parts", name, 6))
    assert logged(tmp_path / "whole") == logged(tmp_path / "parts")
    after = saved(tmp_path / "parts", "model", 6)
    assert any((after[name] - before[name]).abs().max() > 1e-4 for name in after)


def test_dropout_follows_the_seed_alone(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(3)  # whatever was drawn before
        train(tmp_path / name, 2, seed=seed)
    one, same, other = (saved(tmp_path / name, "model", 2) for name in "abc")
    assert_identical(one, same)
    assert not torch.equal(one["out.2.weight"], other["out.2.weight"])


@pytest.mark.parametrize("microbatch", [1, 4])
def test_microbatches_add_up_to_the_gradient_of_the_batch(tmp_path, microbatch):
    gradients, values = [], []
    for name, size in (("whole", -1), ("parts", microbatch)):
        loop = train(tmp_path / name, 0, batch_size=6, microbatch=size)
        loop.model.eval()  # a microbatch has dropout of its own
        values.append(loop.run_step(next(iter(loop.batches(0)))))
        gradients.append(torch.cat([p.grad.flatten() for p in loop.model.parameters()]))
    assert_near(gradients[1], gradients[0])
    assert values[1] == pytest.approx(values[0], rel=1e-4, nan_ok=True)
    quarters = {"loss_q0", "loss_q1", "loss_q2", "loss_q3"}
    assert values[0].keys() == {"loss", "mse", "vb", "grad_norm", "lr"} | quarters
    assert values[0]["grad_norm"] == pytest.approx(gradients[0].norm().item(), rel=1e-4)


def test_a_long_gradient_is_cut_to_the_limit(tmp_path):
    loop = train(tmp_path, 0, grad_clip=1e-3)
    values = loop.run_step(next(iter(loop.batches(0))))
    assert values["grad_norm"] > 1e-2
    clipped = torch.cat([p.grad.flatten() for p in loop.model.parameters()]).norm()
    assert clipped.item() == pytest.approx(1e-3, rel=1e-3)


def test_a_training_lowers_its_loss(tmp_path):
    train(tmp_path, 40, save_interval=40, grad_clip=1.0)
    with open(tmp_path / "progress.csv") as file:
        mse = [float(row["mse"]) for row in csv.DictReader(file)]
    assert len(mse) == 40 and sum(mse[-10:]) < 0.8 * sum(mse[:10])


def test_averaged_weights_follow_the_model_at_their_rate(tmp_path):
    train(tmp_path, 4, ema_rate="0.5,0.9", keep_checkpoints=9)
    for rate in (0.5, 0.9):
        averages = [saved(tmp_path, f"ema_{rate}_", step) for step in (1, 2, 3, 4)]
        models = [saved(tmp_path, "model", step) for step in (1, 2, 3, 4)]
        assert_identical(averages[0], models[0])
        for (before, after), model in zip(pairwise(averages), models[1:], strict=True):
            for name in model:
                torch.testing.assert_close(after[name], rate * before[name] + (1 - rate) * model[name])


def test_the_learning_rate_rises_and_falls_linearly(tmp_path):
    loop = train(tmp_path, 0, lr=1.0, lr_warmup_steps=4, lr_anneal_steps=10)
    expected = [0.25, 0.5 * 0.9, 0.75 * 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert [loop.learning_rate(step) for step in range(10)] == pytest.approx(expected)
    constant = train(tmp_path, 0, lr=0.5)
    assert {constant.learning_rate(step) for step in (0, 1, 1000)} == {0.5}
    values = loop.run_step(next(iter(loop.batches(0))))
    assert values["lr"] == loop.optimizer.param_groups[0]["lr"] == 0.25


def test_a_training_ends_at_its_last_step_with_a_checkpoint_and_is_then_done(tmp_path):
    train(tmp_path, 0, lr_anneal_steps=3, save_interval=100).run_loop()
    assert CheckpointFolder(tmp_path, 2).steps() == [3]
    before = saved(tmp_path, "model", 3)
    again = train(tmp_path, 0, lr_anneal_steps=3, save_interval=100)
    assert again.step == 3
    again.run_loop()
    assert_identical(saved(tmp_path, "model", 3), before)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_training_and_names_step_and_checkpoint(tmp_path, value):
    def spoil(terms, step):
        if step == 2:
            terms["loss"] = terms["loss"] * value

    message = refusal(UserError, lambda: train(tmp_path, 9, spoil))
    assert "step 2" in message and str(tmp_path / "model000002.pt") in message and "--lr" in message
    assert CheckpointFolder(tmp_path, 2).steps() == [1, 2]
    assert all(tensor.isfinite().all() for tensor in saved(tmp_path, "model", 2).values())


def test_a_gradient_that_is_no_number_ends_the_training_before_it_is_in_the_weights(tmp_path):
    def spoil(terms, step):
        if step == 2:
            terms["loss"] = terms["loss"] + (0 * terms["loss"]).sqrt()  # whose derivative at 0 is infinite

    message = refusal(UserError, lambda: train(tmp_path, 9, spoil))
    assert "the gradient's norm is nan at step 2" in message and str(tmp_path / "model000002.pt") in message
    assert CheckpointFolder(tmp_path, 2).steps() == [1, 2]
    assert all(tensor.isfinite().all() for tensor in saved(tmp_path, "model", 2).values())


def test_float16_skips_a_gradient_that_is_no_number_and_halves_its_scale(tmp_path):
    def spoil(terms, step):
        if step == 2:
            terms["loss"] = terms["loss"] + (0 * terms["loss"]).sqrt()

    train(tmp_path, 4, spoil, precision="fp16", keep_checkpoints=9, log_interval=4)
    assert_identical(saved(tmp_path, "model", 2), saved(tmp_path, "model", 3))
    scales = [saved(tmp_path, "opt", step)["scaler"]["scale"] for step in (2, 3, 4)]
    assert scales[1] == scales[2] == scales[0] / 2
    assert float(logged(tmp_path)[0]["grad_norm"]) < 1e6  # of the steps that were taken


def test_averaged_weights_wait_for_a_step_that_float16_skipped(tmp_path):
    def spoil(terms, step):
        if step == 2:
            terms["loss"] = terms["loss"] + (0 * terms["loss"]).sqrt()

    train(tmp_path, 4, spoil, precision="fp16", keep_checkpoints=9)
    averages = [saved(tmp_path, "ema_0.5_", step) for step in (1, 2, 3, 4)]
    assert_identical(averages[1], averages[2])
    for before, after in (averages[0:2], averages[2:4]):
        assert any(not torch.equal(before[name], after[name]) for name in after)
    assert [saved(tmp_path, "opt", step)["averaged"]["0.5"] for step in (2, 3, 4)] == [2, 2, 3]


def test_a_loss_that_was_never_a_number_has_no_good_checkpoint(tmp_path):
    def spoil(terms, step):
        terms["loss"] = terms["loss"] * float("nan")

    message = refusal(UserError, lambda: train(tmp_path, 9, spoil))
    assert "step 0" in message and "none" in message


# -- going on where something changed ----------------------------------------------------------------------


def test_a_half_precision_training_may_move_to_a_device_of_another_half_precision(tmp_path, monkeypatch):
    for step, dtype in enumerate((torch.bfloat16, torch.float16, torch.float32), start=1):
        monkeypatch.setattr(train_flags, "half_precision", lambda device, dtype=dtype: dtype)
        train(tmp_path, step, use_fp16=True)
        assert bool(saved(tmp_path, "opt", step)["scaler"]) == (dtype is torch.float16)


def test_a_new_ema_rate_is_refused_by_name(tmp_path):
    train(tmp_path, 2)
    assert "--ema_rate" in refusal(UserError, lambda: train(tmp_path, 0, ema_rate="0.5,0.9"))


def test_a_checkpoint_of_another_network_is_refused_in_one_line(tmp_path):
    train(tmp_path, 1)
    state = saved(tmp_path, "model", 1)
    state["out.2.bias"] = state["out.2.bias"][:3]
    torch.save(state, tmp_path / "model000001.pt")
    assert "model000001.pt" in refusal(UserError, lambda: train(tmp_path, 0))


def test_a_damaged_checkpoint_without_one_before_it_can_be_begun_again(tmp_path):
    train(tmp_path, 1)
    (tmp_path / "model000001.pt").write_bytes(b"damaged")
    message = refusal(UserError, lambda: train(tmp_path, 0))
    assert "model000001.pt" in message and f"remove {tmp_path}/opt000001.pt to start from the beginning" in message


def test_a_checkpoint_of_another_sampler_is_refused_by_the_flags_name(tmp_path):
    train(tmp_path, 1)
    message = refusal(UserError, lambda: train(tmp_path, 0, schedule_sampler="uniform"))
    assert "--schedule_sampler" in message


# -- checkpoints -------------------------------------------------------------------------------------------


def test_only_the_newest_checkpoints_stay(tmp_path):
    train(tmp_path, 5, ema_rate="0.5,0.9", keep_checkpoints=2)
    kept = [f"{name}{step:06d}.pt" for name in ("ema_0.5_", "ema_0.9_", "model", "opt") for step in (4, 5)]
    assert names(tmp_path) == sorted([*kept, "progress.csv", ".lock"])


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


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    save_aside({"a": torch.ones(3)}, path)
    assert names(tmp_path) == ["model.pt"]  # no part of a file is left beside it

    def full_disk(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    message = refusal(UserError, lambda: save_aside({"a": torch.zeros(3)}, path))
    assert str(path) in message and "No space left" in message
    assert names(tmp_path) == ["model.pt"]
    assert torch.load(path)["a"].tolist() == [1, 1, 1]


# -- batches -----------------------------------------------------------------------------------------------


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
        batches(6, start=2, batch_size=batch_size, random_flip=True, rank=rank, world_size=world_size)
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


def test_batches_need_a_worker():
    assert "--num_workers" in refusal(UserError, lambda: Batches(Pictures(), batch_size=4, seed=7, num_workers=0))


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


# -- the log -----------------------------------------------------------------------------------------------


def rows(folder):
    with open(folder / "progress.csv", newline="") as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]


def log(folder, steps, start_step=0):
    log = Logger(folder, start_step)
    for step in steps:
        log.log(step, {"loss": step / 10, "lr": 0.5})


def test_rows_are_appended_under_one_header(tmp_path):
    log(tmp_path, [10, 20])
    log(tmp_path, [30], start_step=20)
    assert (tmp_path / "progress.csv").read_text() == "step,loss,lr\n10,1,0.5\n20,2,0.5\n30,3,0.5\n"


def test_rows_beyond_the_step_that_is_resumed_are_dropped(tmp_path):
    log(tmp_path, [10, 20, 30, 40])
    log(tmp_path, [25], start_step=20)
    assert rows(tmp_path) == [(10, 1.0), (20, 2.0), (25, 2.5)]


def test_a_row_that_a_kill_has_torn_is_dropped(tmp_path):
    log(tmp_path, [10, 20])
    path = tmp_path / "progress.csv"
    path.write_bytes(path.read_bytes() + b"30,3.")
    log(tmp_path, [30], start_step=40)
    assert rows(tmp_path) == [(10, 1.0), (20, 2.0), (30, 3.0)]


def test_a_log_can_begin_anew(tmp_path):
    log(tmp_path, [10])
    log(tmp_path, [5], start_step=0)
    assert rows(tmp_path) == [(5, 0.5)]


def test_columns_that_an_older_log_lacks_are_added_and_those_it_has_stay(tmp_path):
    (tmp_path / "progress.csv").write_text("step,loss,speed\n10,1,7\n20,,8\n")
    log(tmp_path, [30, 40], start_step=20)
    expected = "step,loss,speed,lr\n10,1,7,\n20,,8,\n30,3,,0.5\n40,4,,0.5\n"
    assert (tmp_path / "progress.csv").read_text() == expected


@pytest.mark.parametrize(
    "garbage",
    [b"loss,lr\n1,2\n", b"step,loss\nten,1\n", b"step,loss\n10,1,2\n", b"step,loss\n10\n", b"\xff\x00\n1\n"],
)
def test_a_file_that_is_no_log_is_put_aside(tmp_path, garbage, capsys):
    (tmp_path / "progress.csv").write_bytes(garbage)
    log(tmp_path, [30], start_step=20)
    assert rows(tmp_path) == [(30, 3.0)]
    assert (tmp_path / "progress.csv.bad").read_bytes() == garbage
    assert str(tmp_path / "progress.csv") in capsys.readouterr().out


def test_a_full_disk_is_an_error_that_names_the_log(tmp_path, monkeypatch):
    class Full:
        def add_scalar(self, *row):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(logger, "_event_writer", lambda directory, start_step: Full())
    message = refusal(UserError, lambda: log(tmp_path, [10]))
    assert str(tmp_path / "progress.csv") in message and "No space left on device" in message


def test_events_hold_what_the_csv_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(logger, "_event_writer", EVENT_WRITER)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path, 3)
    train(tmp_path, 5)
    events = EventAccumulator(str(tmp_path)).Reload()
    with open(tmp_path / "progress.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 5 and {"step", *events.Tags()["scalars"]} == set(table[0])
    for name in events.Tags()["scalars"]:
        seen = {event.step: event.value for event in events.Scalars(name)}
        assert seen == pytest.approx({int(row["step"]): float(row[name]) for row in table if row[name]}, rel=1e-4)


# -- compiling ---------------------------------------------------------------------------------------------


def test_compiling_is_for_those_who_ask_and_for_long_trainings():
    cpu, half = torch.device("cpu"), torch.bfloat16
    for place in ((cpu, half), (torch.device("cuda"), torch.float32)):
        assert [wants_compiling("auto", steps, *place) for steps in (None, 1000, 999)] == [True, True, False]
    assert not wants_compiling("auto", None, cpu, torch.float32)  # it would gain nothing
    assert wants_compiling("True", 1, cpu, torch.float32) and not wants_compiling("False", None, cpu, half)
    assert "--compile maybe" in refusal(UserError, lambda: wants_compiling("maybe", 1, cpu, half))


def test_a_training_that_goes_on_near_its_end_compiles_as_one_that_never_stopped(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(train_util, "compiled", lambda module, device: asked.append(module) or module)
    for _ in range(2):
        train(tmp_path, 2, lr_anneal_steps=1000, compile="auto", precision="bf16")
    assert len(asked) == 2
    train(tmp_path / "unbroken", 0, lr_anneal_steps=999, compile="auto", precision="bf16")
    assert len(asked) == 2


def test_a_machine_that_cannot_compile_says_so_and_goes_on(monkeypatch, capsys):
    def no_compiler(function):
        raise RuntimeError("no C++ compiler\nand more of that")

    module = torch.nn.Linear(2, 2)
    monkeypatch.setattr(torch, "compile", no_compiler)
    assert compiled(module, CPU) is module
    assert "cannot compile (no C++ compiler)" in capsys.readouterr().out
