"""The scripts as their users run them: command lines, processes, and what they leave behind."""

import csv
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def as_argv(flags):
    """name -> value as words of a command line."""
    return [word for name, value in flags.items() for word in (f"--{name}", str(value))]


def environment(**extra):
    """One thread a process, and the tests' modules importable, as in this process."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **extra}


def start_script(script, flags, **extra):
    """A root script as a process of its own."""
    command = [sys.executable, str(ROOT / script), *as_argv(flags)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**extra)
    )


def run_script(script, flags, **extra):
    """Runs a root script to its end -> (exit code, stdout, stderr)."""
    process = start_script(script, flags, **extra)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def contents(root):
    """Every file below a folder: relative path -> bytes."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*"))
            if path.is_file() and not path.name.endswith("lock")}


def logged(folder):
    """The rows of progress.csv without what depends on the machine's mood."""
    with open(folder / "progress.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name not in ("images_per_s", "memory_mib")}
                for row in csv.DictReader(file)]  # fmt: skip
