"""Every command in the README and in docs/ runs, or at least parses.

A block of commands (bash, python) is run here, in a folder with small data, unless the line before it says what it
needs or how long it takes: <!-- needs CelebA -->, or <!-- takes minutes and needs the network -->. What is not run
is parsed, by the parser of the script that it starts.
"""

import argparse
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from pages import CARD, NAMES, PAGES, ROOT, SCRIPTS, blocks_of, module_of
from PIL import Image
from toy_celeba import write_celeba

from core.results.records import flipped, read_records

REASONS = {"CelebA", "weights", "a GPU", "the network", "minutes"}
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SIX = blocks_of(ROOT / "docs/your-own.md")[0]  # from a folder of images to metrics
RUN = [block for block in BLOCKS if block.language in ("bash", "python") and not block.reasons]


def test_a_block_says_what_it_is_and_why_it_is_not_run_and_every_marker_stands_before_one():
    for block in BLOCKS:
        assert block.language in ("bash", "python", "text"), block.place
        assert set(block.reasons) <= REASONS and (block.language != "text" or not block.reasons), block.place
    markers = sum(len(re.findall(r"<!--", page.read_text())) for page in PAGES)
    assert markers == sum(bool(block.reasons) for block in BLOCKS) > 0


OTHERS = {  # flags of torchrun, uv, pip and SLURM
    *("--nproc-per-node", "--python", "--resolution", "--index-url"),
    *("--nodes", "--ntasks-per-node", "--gpus-per-task", "--cpus-per-task", "--time", "--requeue", "--array"),
    *("--kill-on-bad-exit", "--gpus-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint"),
}
SHIMS = {  # what a shell finds instead of these programs; python notes the words that it is given
    "python": 'printf "%s\\x1f" "$@" >> "$NOTED"; printf "\\x1e" >> "$NOTED"',
    "mpiexec": '[ "$1" = -n ] && shift 2 && exec "$@"',
    "srun": 'while [[ $1 == -* ]]; do shift; done; exec "$@"',
    "scontrol": "echo node1",
    "torchrun": '[ "$1" = --nproc-per-node ] && shift 2 && exec python "$@"',
    "pip": "",
    "make": 'for target in "$@"; do grep -q "^$target:" Makefile || exit 1; done',
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder that looks like the root, and that a command may write into; the test runs in it."""
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.name != "runs":
            (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python_commands(text, place):
    """The words of each call of this project's Python that a shell makes when it runs the text."""
    shims, noted = place / ".shims", place / ".noted"
    shims.mkdir(exist_ok=True)
    for name, body in SHIMS.items():
        (shims / name).write_text(f"#!/bin/bash\n{body}\n")
        (shims / name).chmod(0o755)
    noted.write_text("")
    env = {**os.environ, "PATH": f"{shims}:{os.environ['PATH']}", "NOTED": str(noted)}
    done = subprocess.run(["bash", "-e", "-c", text], cwd=place, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    commands = [command.split("\x1f")[:-1] for command in noted.read_text().split("\x1e")[:-1]]
    # celeba-train.sh asks Python, by -c, whether mpi4py works.
    return [words for words in commands if words[:2] != ["-m", "timeit"] and words[0] != "-c"]


def started(words):
    """(module, its words) of a Python command."""
    if words[0] == "-m":
        return importlib.import_module(words[1]), words[2:]
    assert Path(words[0]).name in SCRIPTS, words[0]
    return module_of(Path(words[0]).name), words[1:]


def parser_of(module):
    """The parser that the main() of a module uses."""

    def stop(parser, *_):  # in place of what a script does once it has its parser
        raise InterruptedError(parser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)  # which parse_args calls
        with pytest.raises(InterruptedError) as stopped:
            module.main()
    return stopped.value.args[0]


def unknown_words(words):
    """What the parser of a Python command does not know; SystemExit where it refuses a value."""
    module, rest = started(words)
    return parser_of(module).parse_known_args(rest)[1]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_the_commands_of_a_page_parse(page, place):
    blocks = [block for block in blocks_of(page) if block.language == "bash"]
    installs = [block for block in blocks if re.search(r"-m venv|uv pip", block.text)]
    commands = python_commands("\n".join(block.text for block in blocks if block not in installs), place)
    for words in commands:
        if words[-1] == "--help":
            continue
        rest = unknown_words(words)
        if words[:2] == ["-m", "benchmarks.methods"]:  # which hands the rest on
            rest = unknown_words(["main.py", *rest])
        assert rest == [], words
    assert commands or page in (CARD, ROOT / "docs/installing.md")


def test_a_wrong_flag_in_a_page_would_be_seen(place):
    (words,) = python_commands('F="--seed 1"\npython main.py $F --chnk \\\n  0', place)
    assert words == ["main.py", "--seed", "1", "--chnk", "0"] and unknown_words(words) == ["--chnk", "0"]
    with pytest.raises(SystemExit):
        unknown_words(["main.py", "--seed", "x"])


def test_no_page_names_a_flag_that_there_is_not():
    known = {"--help", "--batch-size"} | OTHERS
    modules = list(map(module_of, SCRIPTS))
    for path in [*ROOT.glob("demo/*.py"), *ROOT.glob("benchmarks/*.py")]:
        if "\ndef main(" in path.read_text():
            modules.append(importlib.import_module(f"{path.parent.name}.{path.stem}"))
    for module in modules:
        known |= {f"--{action.dest}" for action in parser_of(module)._actions}
    for page in PAGES:
        assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", page.read_text())) <= known, page


# What makes the commands that are run quick: flags that follow theirs, and words that stand for theirs.
QUICK = {
    "main.py": "--timestep_respacing 4 --start_step 3 --classifier_scales 1000 --batch_size 2",
    "celeba-train-diffusion.py": "--image_size 16 --num_channels 32 --channel_mult 1 --num_res_blocks 1"
    " --lr_anneal_steps 1 --batch_size 2 --sample_steps 0",
    "celeba-train-classifier.py": "--image_size 16 --architecture tiny_cnn --lr_anneal_steps 60 --batch_size 8"
    " --ema_rate 0.5",
}
WORDS = {"100000": "1", "runs/ddpm/ema_0.9999_100000.pt": "runs/ddpm/ema_0.9999_000001.pt"}


def write_data(root):
    """path/to/photos in CelebA's layout, path/to/photos.csv, path/to/pets with a subfolder for each class, and
    path/to/output with two experiments' records.
    """
    photos = root / "path/to/photos"
    write_celeba(photos, {"train": 6, "val": 2}, attributes=("Striped", "Round"), labels=[(1, -1), (-1, 1)] * 4)
    paths = [f"photos/img_align_celeba/{path.name}" for path in sorted((photos / "img_align_celeba").iterdir())]
    pd.DataFrame({"path": paths, "Striped": [1, 0] * 4}).to_csv(photos.with_suffix(".csv"), index=False)
    rows = {"id": [0, 1], "label": 1, "pred": 1, "target": 0, "cf_pred": [0, 1], "attempts": 1, "bkl": [0.1, 0.9]}
    drawn = np.random.default_rng(0)
    for brightness, kind in ((60, "cat"), (120, "dog"), (180, "lynx")):
        (root / "path/to/pets" / kind).mkdir(parents=True)
        for k in range(8):
            pixels = brightness + drawn.integers(-40, 40, (20, 24, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / "path/to/pets" / kind / f"{k}.png")
    for name in ("smile", "age"):
        folder = root / "path/to/output/Results" / name
        folder.mkdir(parents=True)
        pd.DataFrame(rows | {"l_1": 0.01}).to_csv(folder / "records.csv", index=False)


def run_quickly(block, place, monkeypatch):
    """Runs the commands of a block at toy size, in this process -> how many there were."""
    write_data(place)
    commands = python_commands(block.text, place)
    for words in commands:
        module, rest = started(words)
        rest = [WORDS.get(word, word) for word in rest] + QUICK.get(Path(words[0]).name, "").split()
        if words[0].endswith("compute_metrics.py") and "--metrics" not in rest:
            rest += ["--metrics", "FR"]
        monkeypatch.setattr(sys, "argv", [module.__name__, *rest])
        try:
            module.main()
        except SystemExit as end:
            assert end.code == 0 and words[-1] == "--help"
    return len(commands)


@pytest.mark.parametrize(
    "block", [b for b in RUN if b.language == "bash" and b.place != SIX.place], ids=lambda block: block.place
)
def test_a_block_of_commands_runs(block, place, monkeypatch, capsys):
    assert run_quickly(block, place, monkeypatch) and capsys.readouterr().out


@pytest.mark.slow
def test_six_commands_lead_from_a_folder_of_images_to_a_picture_and_metrics(place, monkeypatch, capfd):
    assert run_quickly(SIX, place, monkeypatch) == 6
    out = capfd.readouterr().out
    assert "every class to the runner-up: explaining 2 of 2 images of path/to/pets val" in out
    assert Image.open("runs/why.png").width > 300
    records = read_records("runs/results/Results/why/records.csv")
    assert len(records) == 2 and {"oracle_pred", "oracle_cf_pred"} <= set(records)
    measured = yaml.safe_load(Path("runs/results/Results/why/metrics.yaml").read_text())
    assert measured.keys() >= {"FR", "Oracle FR", "bKL", "L1", "COUT"}, out
    assert measured["FR"]["value"] == flipped(records).mean() > 0
    assert all(f"\n| {name} " in out for name in measured) and "not computed" not in out


@pytest.mark.parametrize("block", [b for b in RUN if b.language == "python"], ids=lambda block: block.place)
def test_the_lines_for_a_notebook_explain_a_tensor_of_images(block, place):
    names = {"images": torch.zeros(2, 3, 64, 64)}
    exec(block.text.replace("tau=10", "tau=1"), names)
    assert names["found"].counterfactual.shape == (2, 3, 64, 64) and names["found"].flipped.shape == (2,)
