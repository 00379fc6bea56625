"""Ctrl-C and SIGTERM, before a script has begun and later."""

import os
import signal
import subprocess
import sys
import time
from unittest import mock

import pytest
from main_runs import main_flags
from pages import SCRIPTS
from rank_runs import finish_tasks, start_tasks, wait_for, words_of
from scripts import ROOT, SEARCH_PATH, environment, output_of, run_command, run_script, start_script
from toy_celeba import write_celeba
from toy_networks import MODEL_FLAGS

from guided_diffusion.script.interrupts import end_on_interrupt, raise_on_interrupt

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}  # signal -> the exit code that shells expect
# A torch that is interrupted while it is imported.
INTERRUPTED = """
import os, signal, time
os.kill(os.getpid(), signal.{})
time.sleep(60)
"""


@pytest.mark.parametrize(
    "script, number", [(script, signal.SIGINT) for script in SCRIPTS] + [("main.py", signal.SIGTERM)]
)
def test_an_interruption_while_a_script_imports_is_one_line(script, number, tmp_path):
    (tmp_path / "torch.py").write_text(INTERRUPTED.format(number.name))
    code, out, err = run_command(sys.executable, ROOT / script, PYTHONPATH=str(tmp_path))
    assert (code, out, err) == (SIGNALS[number], "", f"{ROOT / script}: interrupted before it began\n")


@pytest.mark.parametrize("module", ["demo.sheet", "benchmarks.methods"])
def test_an_interruption_while_a_module_imports_is_one_line(module, tmp_path):
    (tmp_path / "torch.py").write_text(INTERRUPTED.format("SIGTERM"))
    code, out, err = run_command(sys.executable, "-m", module, cwd=ROOT, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert (code, out) == (143, "") and err.endswith(": interrupted before it began\n") and err.count("\n") == 1


def test_ctrl_c_while_an_installed_command_imports_is_one_line(tmp_path):
    (tmp_path / "torch.py").write_text(INTERRUPTED.format("SIGINT"))
    words = sys.executable, "-c", "from dime.commands import explain; explain()"
    code, out, err = run_command(*words, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert (code, out, err) == (130, "", "-c: interrupted before it began\n")


@pytest.fixture
def long_run(toy_files, tmp_path):
    """Flags of a main.py that takes minutes."""
    return main_flags(toy_files, tmp_path / "out") | {"start_step": 25, "batch_size": 1}


@pytest.fixture
def long_flags(long_run, tmp_path):
    """Script -> flags of a main.py that takes minutes, or of a training without end."""
    data = write_celeba(tmp_path / "data", {"train": 8, "val": 4})
    steps = {"lr_anneal_steps": 0, "save_interval": 2, "log_interval": 1}
    training = {"data_dir": data, "output_path": tmp_path / "out", "image_size": 16, "batch_size": 4} | steps
    return {
        "main.py": long_run,
        "celeba-train-diffusion.py": MODEL_FLAGS | training | {"sample_steps": 0},
        "celeba-train-classifier.py": training | {"architecture": "tiny_cnn"},
    }


def started(output_path):
    """Whether a run has written what it is to go on from."""
    return any(output_path.glob("Results/exp/records.csv")) or any(output_path.glob("opt*.pt"))


@pytest.mark.parametrize("number", SIGNALS, ids=str)
@pytest.mark.parametrize(
    "script, words",
    [
        ("main.py", "the same command, without --overwrite True, goes on"),
        ("celeba-train-diffusion.py", "the same command goes on from the last checkpoint"),
        ("celeba-train-classifier.py", "the same command goes on from the last checkpoint"),
    ],
)
def test_a_script_ends_within_seconds_and_says_that_it_goes_on(long_flags, script, words, number):
    output = long_flags[script]["output_path"]
    running = start_script(script, long_flags[script])
    wait_for(lambda: started(output), [running])
    began = time.monotonic()
    os.kill(running.process.pid, number)
    code, _, err = running.finish()
    assert time.monotonic() - began < 15
    assert code == SIGNALS[number] and "Traceback" not in err, err
    said = [line for line in err.splitlines() if "interrupted" in line]
    assert said == [f"{ROOT}/{script}: interrupted; {words}"] and not list(output.rglob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS, ids=str)
def test_ranks_that_srun_interrupts_end_with_one_line(long_run, number):
    tasks = start_tasks("main.py", long_run, 2)
    wait_for(lambda: started(long_run["output_path"]), tasks)
    began = time.monotonic()
    for task in tasks:
        os.kill(task.process.pid, number)
    codes, _, errs = finish_tasks(tasks)
    assert time.monotonic() - began < 20
    lines = [line for line in "".join(errs).splitlines() if "interrupted" in line or "Traceback" in line]
    assert codes[0] == SIGNALS[number] and len(lines) == 1 and lines[0].endswith("goes on"), errs


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS, ids=str)
def test_mpiexec_that_is_interrupted_ends_its_ranks(long_run, number):
    words = words_of("mpiexec", "main.py", long_run)
    env = environment(PATH=SEARCH_PATH)
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as launcher:
        while launcher.poll() is None and not started(long_run["output_path"]):
            time.sleep(0.05)
        began = time.monotonic()
        launcher.send_signal(number)
        _, err = launcher.communicate(timeout=60)
    assert time.monotonic() - began < 20 and launcher.returncode != 0
    assert "Traceback" not in err, err
    output_of(run_script("main.py", long_run | {"num_batches": 1}))


def test_a_process_that_waits_for_a_library_is_ended_all_the_same(tmp_path):
    """Nothing is raised in a main thread that never comes back to Python."""
    (tmp_path / "stuck.py").write_text(
        "import ctypes\n"
        "from guided_diffusion.script import interrupts\n"
        "from guided_diffusion.script.run import run_script\n"
        "interrupts.GRACE = 0.5\n"
        "def main():\n"
        "    lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(256)\n"
        "    print('waits', flush=True)\n"
        "    lock(mutex), lock(mutex)\n"
        "interrupts.end_on_interrupt()\n"
        "run_script(main, hint='start again')\n"
    )
    words = [sys.executable, str(tmp_path / "stuck.py")]
    with subprocess.Popen(
        words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as stuck:
        assert stuck.stdout.readline() == "waits\n"
        stuck.send_signal(signal.SIGTERM)
        _, err = stuck.communicate(timeout=60)
    assert (stuck.returncode, err) == (143, f"{tmp_path}/stuck.py: interrupted; start again\n")


def test_ctrl_c_raises_again_once_a_script_has_begun_and_stays_ignored_where_it_was():
    with mock.patch("signal.getsignal", return_value=signal.SIG_IGN), mock.patch("signal.signal") as set_handler:
        end_on_interrupt()
        raise_on_interrupt()
        assert not set_handler.called
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    end_on_interrupt()
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    raise_on_interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
