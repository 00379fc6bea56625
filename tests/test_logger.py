"""The log of a training: progress.csv and the events of TensorBoard."""

import csv
import time

import pytest
from assertions import refusal
from toy_training import train

from guided_diffusion.script.errors import UserError
from guided_diffusion.training import logger
from guided_diffusion.training.logger import Logger

EVENT_WRITER = logger._event_writer  # before a test replaces it
pytestmark = pytest.mark.usefixtures("no_tensorboard")


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
    time.sleep(1)  # TensorBoard reads the files in the order of the seconds in their names
    train(tmp_path, 5)
    events = EventAccumulator(str(tmp_path)).Reload()
    with open(tmp_path / "progress.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 5 and {"step", *events.Tags()["scalars"]} == set(table[0])
    for name in events.Tags()["scalars"]:
        seen = {event.step: event.value for event in events.Scalars(name)}
        assert seen == pytest.approx({int(row["step"]): float(row[name]) for row in table if row[name]}, rel=1e-4)
