"""The training loop: steps, averages, precisions, and trainings that go on."""

import csv
import os
import shutil
from itertools import pairwise

import pytest
import torch
from assertions import assert_identical, assert_near, refusal
from scripts import logged
from torch.utils._python_dispatch import TorchDispatchMode
from toy_training import names, saved, train

from guided_diffusion.script.errors import UserError
from guided_diffusion.training import flags as train_flags
from guided_diffusion.training import loop as train_util
from guided_diffusion.training.checkpoint_folder import CheckpointFolder
from guided_diffusion.training.logger import read_numbers
from guided_diffusion.training.weight_files import SAVE_FORMATS

pytestmark = pytest.mark.usefixtures("no_tensorboard")


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
        values += read_numbers([loop.run_step(next(iter(loop.batches(0))))])
        gradients.append(torch.cat([p.grad.flatten() for p in loop.model.parameters()]))
    assert_near(gradients[1], gradients[0])
    assert values[1] == pytest.approx(values[0], rel=1e-4, nan_ok=True)
    quarters = {"loss_q0", "loss_q1", "loss_q2", "loss_q3"}
    assert values[0].keys() == {"loss", "mse", "vb", "grad_norm", "lr"} | quarters
    assert values[0]["grad_norm"] == pytest.approx(gradients[0].norm().item(), rel=1e-4)


def test_a_long_gradient_is_cut_to_the_limit(tmp_path):
    loop = train(tmp_path, 0, grad_clip=1e-3)
    [values] = read_numbers([loop.run_step(next(iter(loop.batches(0))))])
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


class ReadsOfTheDevice(TorchDispatchMode):
    """Counts what would make the CPU wait for a GPU: reading a number, and selecting by a mask."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, inputs=(), options=None):
        indices = inputs[1] if str(function).startswith("aten.index.Tensor") else ()
        self.count += "_local_scalar_dense" in str(function) or "nonzero" in str(function)
        self.count += any(isinstance(each, torch.Tensor) and each.dtype is torch.bool for each in indices)
        return function(*inputs, **options or {})


def test_a_step_does_not_wait_for_the_device_and_reading_many_waits_once(tmp_path):
    loop = train(tmp_path, 0, schedule_sampler="uniform")
    loop.emas = {}  # torch keeps their counter on the CPU, and reads it there
    batches = iter(loop.batches(0))
    drawn = [next(batches) for _ in range(3)]
    with ReadsOfTheDevice() as reads:
        rows = [loop.run_step(batch) for batch in drawn]
    assert reads.count == 0
    losses = [row["loss"].item() for row in rows]
    assert [row["loss"] for row in read_numbers(rows)] == losses and len(set(losses)) == 3
    assert not any(isinstance(value, torch.Tensor) for row in read_numbers(rows) for value in row.values())
    with ReadsOfTheDevice() as reads:
        losses[0] = rows[0]["loss"].item()
        torch.ones(3)[torch.ones(3) > 0]
    assert reads.count == 2  # it sees them


def test_a_log_holds_the_means_of_the_steps_since_the_row_before(tmp_path):
    train(tmp_path / "each", 6)
    train(tmp_path / "third", 6, log_interval=3)
    each, third = logged(tmp_path / "each"), logged(tmp_path / "third")
    for k, row in enumerate(third):
        losses = [float(step["loss"]) for step in each[3 * k : 3 * k + 3]]
        assert float(row["loss"]) == pytest.approx(sum(losses) / 3, rel=1e-4)
    assert [row["step"] for row in third] == ["3", "6"]


def factor(at, value=float("nan")):
    """What multiplies the loss of step `at` by the value."""

    def spoil(terms, step):
        if step == at:
            terms["loss"] = terms["loss"] * value

    return spoil


def steep_at_2(terms, step):
    """The loss of step 2 has a derivative that is no number."""
    if step == 2:
        terms["loss"] = terms["loss"] + (0 * terms["loss"]).sqrt()


@pytest.mark.parametrize("spoilt", [2, 4])
def test_a_number_that_is_read_later_is_named_with_its_own_step_and_is_in_no_checkpoint(tmp_path, spoilt):
    message = refusal(UserError, lambda: train(tmp_path, 99, factor(spoilt), log_interval=50, save_interval=3))
    assert f"the loss is nan at step {spoilt};" in message
    assert CheckpointFolder(tmp_path, 2).steps() == ([] if spoilt == 2 else [3])


def test_a_number_is_read_in_time_where_nothing_is_logged_or_saved_for_long(tmp_path, monkeypatch):
    monkeypatch.setattr(train_util, "MOST_UNREAD", 4)
    done = []

    def spoil(terms, step):
        done.append(step)
        if step == 1:
            terms["loss"] = terms["loss"] * float("nan")

    message = refusal(UserError, lambda: train(tmp_path, 99, spoil, log_interval=50, save_interval=50))
    assert "at step 1;" in message and done == [0, 1, 2, 3]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_training_and_names_step_and_checkpoint(tmp_path, value):
    message = refusal(UserError, lambda: train(tmp_path, 9, factor(2, value)))
    assert "step 2" in message and str(tmp_path / "model000002.pt") in message and "--lr" in message
    assert CheckpointFolder(tmp_path, 2).steps() == [1, 2]
    assert all(tensor.isfinite().all() for tensor in saved(tmp_path, "model", 2).values())


def test_a_gradient_that_is_no_number_ends_the_training_before_it_is_in_the_weights(tmp_path):
    message = refusal(UserError, lambda: train(tmp_path, 9, steep_at_2))
    assert "the gradient's norm is nan at step 2" in message and str(tmp_path / "model000002.pt") in message
    assert CheckpointFolder(tmp_path, 2).steps() == [1, 2]
    assert all(tensor.isfinite().all() for tensor in saved(tmp_path, "model", 2).values())


def test_float16_skips_a_gradient_that_is_no_number_halves_its_scale_and_averages_nothing(tmp_path):
    train(tmp_path, 4, steep_at_2, precision="fp16", keep_checkpoints=9, log_interval=4)
    assert_identical(saved(tmp_path, "model", 2), saved(tmp_path, "model", 3))
    scales = [saved(tmp_path, "opt", step)["scaler"]["scale"] for step in (2, 3, 4)]
    assert scales[1] == scales[2] == scales[0] / 2
    assert float(logged(tmp_path)[0]["grad_norm"]) < 1e6  # of the steps that were taken
    averages = [saved(tmp_path, "ema_0.5_", step) for step in (1, 2, 3, 4)]
    assert_identical(averages[1], averages[2])
    for before, after in (averages[0:2], averages[2:4]):
        assert any(not torch.equal(before[name], after[name]) for name in after)
    assert [saved(tmp_path, "opt", step)["averaged"]["0.5"] for step in (2, 3, 4)] == [2, 2, 3]


def test_a_loss_that_was_never_a_number_has_no_good_checkpoint(tmp_path):
    message = refusal(UserError, lambda: train(tmp_path, 9, factor(0)))
    assert "step 0" in message and "none" in message


# -- going on where something changed ----------------------------------------------------------------------


def test_a_half_precision_training_may_move_to_a_device_of_another_half_precision(tmp_path, monkeypatch):
    for step, dtype in enumerate((torch.bfloat16, torch.float16, torch.float32), start=1):
        monkeypatch.setattr(train_flags, "half_precision", lambda device, dtype=dtype: dtype)
        train(tmp_path, step, use_fp16=True)
        assert bool(saved(tmp_path, "opt", step)["scaler"]) == (dtype is torch.float16)


@pytest.mark.parametrize("change", [{"ema_rate": "0.5,0.9"}, {"schedule_sampler": "uniform"}], ids=str)
def test_another_average_or_sampler_is_refused_by_the_flags_name(tmp_path, change):
    train(tmp_path, 2)
    [name] = change
    assert f"--{name}" in refusal(UserError, lambda: train(tmp_path, 0, **change))


def test_a_checkpoint_of_another_network_is_refused_in_one_line(tmp_path):
    train(tmp_path, 1)
    state = saved(tmp_path, "model", 1)
    state["out.2.bias"] = state["out.2.bias"][:3]
    torch.save(state, tmp_path / "model000001.pt")
    assert "model000001.pt" in refusal(UserError, lambda: train(tmp_path, 0))


DAMAGES = {
    "opt": lambda path: torch.save({"of": "something else"}, path),
    "model": lambda path: os.truncate(path, 9999),
    "ema_0.5_": lambda path: os.truncate(path, 0),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_named_with_the_way_to_go_on(tmp_path, name):
    run, remedied = tmp_path / "run", tmp_path / "remedied"
    train(run, 2)
    path, whole = run / f"{name}000002.pt", saved(run, name, 2)
    DAMAGES[name](path)
    shutil.copytree(run, remedied)
    message = refusal(UserError, lambda: train(run, 0))
    assert f"{path} cannot be read" in message and f"remove {run}/opt000002.pt to go on from step 1" in message
    (remedied / "opt000002.pt").unlink()
    train(remedied, 2)
    assert_identical(saved(remedied, name, 2), whole)


@pytest.mark.parametrize("save_format", SAVE_FORMATS)
def test_a_damaged_checkpoint_without_one_before_it_can_be_begun_again(tmp_path, save_format):
    train(tmp_path, 1, save_format=save_format)
    (tmp_path / f"model000001.{save_format}").write_bytes(b"damaged")
    message = refusal(UserError, lambda: train(tmp_path, 0))
    assert f"model000001.{save_format} cannot be read" in message
    assert f"remove {tmp_path}/opt000001.pt to start from the beginning" in message


def test_a_training_that_goes_on_near_its_end_compiles_as_one_that_never_stopped(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(train_util, "compiled", lambda module, device: asked.append(module) or module)
    for _ in range(2):
        train(tmp_path, 2, lr_anneal_steps=1000, compile="auto", precision="bf16")
    assert len(asked) == 2
    train(tmp_path / "unbroken", 0, lr_anneal_steps=999, compile="auto", precision="bf16")
    assert len(asked) == 2
