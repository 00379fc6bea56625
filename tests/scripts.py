"""The scripts as their users run them: command lines, processes, and what they leave behind.

Python takes seconds to import what a script needs. start_script therefore forks each process from a server that
has imported it already: a process like any other, with its own memory, exit code and death. run_python and
run_shell start one from nothing.
"""

import csv
import io
import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

from guided_diffusion.script.run import run_script as exit_on_user_errors

ROOT = Path(__file__).parent.parent
FORKSERVER = multiprocessing.get_context("forkserver")
TIMEOUT = 300  # seconds that a script may take
# Commands are looked for in this environment first, where mpiexec is, too.
SEARCH_PATH = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])


def as_argv(flags):
    """name -> value as words of a command line; words stay as they are."""
    if isinstance(flags, dict):
        return [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return [str(word) for word in flags]


def environment(**extra):
    """One thread a process, and the tests' modules importable, as in this process."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **extra}


# -- in a process of its own -------------------------------------------------------------------------------------


class Running:
    """A script that runs in a forked process."""

    def __init__(self, script, argv, env, cwd):
        with mock.patch.dict(os.environ, environment()):
            FORKSERVER.set_forkserver_preload(["imported_by_scripts"])
            multiprocessing.forkserver.ensure_running()
        self.outputs = [tempfile.NamedTemporaryFile("r") for _ in range(2)]
        names = [file.name for file in self.outputs]
        self.process = FORKSERVER.Process(target=_become, args=(script, argv, env, str(cwd), names))
        self.process.start()

    def poll(self):
        """The exit code, minus the signal of one that was killed; None while it runs."""
        return self.process.exitcode

    def kill(self):
        self.process.kill()

    def finish(self):
        """Waits for the end -> (exit code, stdout, stderr)."""
        self.process.join(TIMEOUT)
        code = self.poll()
        if code is None:
            self.kill()
        out, err = (file.read() for file in self.outputs)
        for file in self.outputs:
            file.close()
        assert code is not None, f"still running after {TIMEOUT} s:\n{out}\n{err}"
        return code, out, err


def _become(script, argv, env, cwd, outputs):
    """What a forked process does: it becomes the script."""
    for descriptor, name in enumerate(outputs, start=1):
        os.dup2(os.open(name, os.O_WRONLY), descriptor)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.modules.pop("guided_diffusion.script.guard")  # which acts when a script is the first to import it
    multiprocessing.set_start_method(None, force=True)  # of a script's own processes: Python's default
    _run(script, argv)


def _run(script, argv):
    """Runs main.py or demo.faces, say, as `python main.py` or `python -m demo.faces` would."""
    sys.argv = [script, *argv]
    if script.endswith(".py"):
        runpy.run_path(str(ROOT / script), run_name="__main__")
    else:
        runpy.run_module(script, run_name="__main__", alter_sys=True)


def start_script(script, flags, cwd=ROOT, **extra):
    """Starts a script of the root, such as main.py, or a module, such as demo.faces; extra: of its environment."""
    return Running(script, as_argv(flags), environment(**extra), cwd)


def run_script(script, flags, cwd=ROOT, **extra):
    """Runs a script of the root, or a module, to its end -> (exit code, stdout, stderr)."""
    return start_script(script, flags, cwd, **extra).finish()


def fork_script(*words):
    """Runs a script as benchmarks.runs.run does, but forks it, for speed."""
    script, flags = (words[1], words[2:]) if words[0] == "-m" else (words[0], words[1:])
    code, _, err = run_script(script, flags)
    assert code == 0, err


def kill_when(running, there):
    """Kills a script as soon as there() holds; whether that was what ended it."""
    while running.poll() is None and not there():
        time.sleep(0.001)
    running.kill()
    return running.finish()[0] == -signal.SIGKILL


# -- by a command ------------------------------------------------------------------------------------------------


def run_command(*words, cwd="/", **extra):
    """Runs a command from nothing -> (exit code, stdout, stderr); extra: of its environment."""
    env = environment(**{"PATH": SEARCH_PATH} | extra)
    done = subprocess.run(as_argv(words), capture_output=True, text=True, timeout=TIMEOUT, cwd=cwd, env=env)
    return done.returncode, done.stdout, done.stderr


def run_python(script, flags, **extra):
    """Runs a script of the root, or a module, by a Python of its own -> (exit code, stdout, stderr)."""
    which = [ROOT / script] if script.endswith(".py") else ["-m", script]
    return run_command(sys.executable, *which, *as_argv(flags), cwd=ROOT, **extra)


def run_shell(script, *words, **extra):
    """Runs a shell script of the root, by bash -> (exit code, stdout, stderr); extra: of its environment."""
    return run_command("bash", ROOT / script, *words, **extra)


# -- in this process ---------------------------------------------------------------------------------------------


def call_script(script, flags):
    """Runs a script in this process, where functions may be replaced -> (exit code, stdout, stderr).

    script: main.py or demo.faces, say; or a module, of which main() is called, so that what is replaced in the
    module itself counts.
    """
    argv = as_argv(flags)
    if isinstance(script, str):
        return _called(lambda: _run(script, argv))

    def run():
        sys.argv = [f"{script.__name__}.py", *argv]
        exit_on_user_errors(script.main)

    return _called(run)


def _called(function):
    """Calls a function that ends like a script -> (exit code, stdout, stderr)."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    code = 0
    with mock.patch.object(sys, "argv", sys.argv), redirect_stdout(out), redirect_stderr(err):
        try:
            function()
        except SystemExit as exit:
            code = exit.code
    return code, *(stream.buffer.getvalue().decode() for stream in (out, err))


# -- how they end ------------------------------------------------------------------------------------------------


def output_of(end):
    """The stdout of a script that must have succeeded. end: (exit code, stdout, stderr)."""
    code, out, err = end
    assert code == 0, out + err
    return out


def error_of(end):
    """The one line about an error of a script that must have ended with exit code 2. end: as of output_of."""
    code, _, err = end
    lines = [line for line in err.splitlines() if "error:" in line]
    assert code == 2 and len(lines) == 1 and "Traceback" not in err, err
    return lines[0]


# -- what they leave behind --------------------------------------------------------------------------------------


def contents(root):
    """Every file below a folder: relative path -> bytes; but not locks, and runs.yaml, which tells the time."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.endswith(("lock", "runs.yaml"))
    }


def logged(folder):
    """The rows of progress.csv without what depends on the machine's mood."""
    with open(folder / "progress.csv", newline="") as file:
        return [
            {name: value for name, value in row.items() if name not in ("images_per_s", "memory_mib")}
            for row in csv.DictReader(file)
        ]


@contextmanager
def unprivileged():
    """Root may read and write everything: be nobody for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
