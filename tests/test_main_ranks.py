"""main.py on several ranks, by real launchers and as srun starts it."""

import re
import shutil
import subprocess
import time
from contextlib import suppress

import numpy as np
import pandas as pd
import psutil
import pytest
from main_runs import counterfactuals, explain, explained, main_flags
from rank_runs import finish_tasks, run_tasks, start_tasks, wait_for, words_of
from scripts import SEARCH_PATH, contents, environment, output_of, run_command, run_script
from toy_celeba import write_celeba
from toy_networks import write_weights

from core.results.folder import ResultsFolder
from core.results.layout import Layout


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """toy_files with 21 images."""
    root = tmp_path_factory.mktemp("files")
    write_celeba(root / "data", {"val": 21})
    return write_weights(root)


@pytest.fixture(scope="module")
def alone(files, tmp_path_factory):
    """The output folder of one process."""
    output = tmp_path_factory.mktemp("alone") / "out"
    explain(main_flags(files, output))
    return output


@pytest.fixture
def flags(files, tmp_path):
    return main_flags(files, tmp_path / "out")


def assert_alike(output, alone, exp_name="exp"):
    """The same files, records and summary; images within one grey level, and most of them identical."""
    ours, theirs = contents(output), contents(alone)
    assert ours.keys() == theirs.keys()
    summary = f"Results/{exp_name}/summary.yaml"
    assert ours[summary] == theirs[summary]
    ours, theirs = (pd.read_csv(folder / f"Results/{exp_name}/records.csv") for folder in (output, alone))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-3, atol=1e-3)
    ours, theirs = counterfactuals(output), counterfactuals(alone)
    differences = [np.abs(ours[i] - theirs[i]).max() for i in theirs]
    assert max(differences) <= 1 and np.mean(differences) < 0.5


def by(launcher, flags):
    """Runs main.py on two ranks -> stdout."""
    if launcher == "srun":
        return run_tasks("main.py", flags, 2)[0]
    return output_of(run_command(*words_of(launcher, "main.py", flags)))


@pytest.mark.parametrize("launcher", ["mpiexec", pytest.param("torchrun", marks=pytest.mark.slow), "srun"])
def test_two_ranks_write_what_one_process_writes(launcher, flags, alone):
    out = by(launcher, flags)
    assert_alike(flags["output_path"], alone)
    assert out.count("explaining 21 of 21 images") == 1 and out.count("in all, on 2 ranks") == 1
    assert len(re.findall(r"^flip rate .* 21 images in", out, re.M)) == 1


def test_ranks_choose_images_together(flags, tmp_path):
    flags |= {"target_label": 1, "num_batches": 2}
    _, out = explain(flags)
    line = next(line for line in out.splitlines() if "predicted Smiling already" in line)
    others = flags | {"output_path": tmp_path / "ranks"}
    assert line in run_tasks("main.py", others, 3)[0]
    assert_alike(others["output_path"], flags["output_path"])


def test_a_run_killed_and_started_with_other_numbers_of_ranks_loses_nothing(flags, alone):
    output = flags["output_path"]
    finished, stopped = 0, 0
    for number, rows in ((2, 2), (3, 6), (2, 10)):
        tasks = start_tasks("main.py", flags, number)
        wait_for(lambda rows=rows: explained(output) >= rows, tasks)
        for task in tasks:
            task.kill()
        finish_tasks(tasks)
        now = explained(output)
        assert now >= finished
        finished, stopped = now, stopped + (not (output / "Results/exp/summary.yaml").exists())
    out = output_of(run_script("main.py", flags))
    assert f"({finished} of 21 are done already)" in out and finished >= 2 and stopped >= 2
    assert_alike(output, alone)


def test_a_run_of_one_process_goes_on_with_ranks(flags, alone):
    explain(flags | {"num_batches": 2})
    out, _ = run_tasks("main.py", flags, 2)
    assert "(6 of 21 are done already)" in out
    assert_alike(flags["output_path"], alone)


@pytest.mark.slow
@pytest.mark.parametrize("launcher, dying", [("mpiexec", 0), ("torchrun", 1)])
def test_a_rank_that_is_killed_ends_the_others_and_the_same_command_goes_on(launcher, dying, flags, alone):
    words, log = words_of(launcher, "main.py", flags), flags["output_path"].with_suffix(".log")
    where = {"cwd": "/", "env": environment(PATH=SEARCH_PATH)}
    with open(log, "w") as file, subprocess.Popen(words, stdout=file, stderr=file, **where) as started:
        while started.poll() is None and not explained(flags["output_path"]):
            time.sleep(0.01)
        ranks = [each for each in psutil.Process(started.pid).children(recursive=True) if is_rank(each)]
        ranks[dying].kill()
        assert started.wait(timeout=60) != 0
        assert not psutil.wait_procs(ranks, timeout=60)[1]
    assert len(ranks) == 2 and not list(flags["output_path"].glob("Results/exp/summary.yaml")), log.read_text()
    by(launcher, flags)
    assert_alike(flags["output_path"], alone)


def is_rank(process):
    with suppress(psutil.Error):
        return "python" in process.name() and any(word.endswith("main.py") for word in process.cmdline())


def test_an_error_of_one_rank_is_the_message_of_all(flags, tmp_path):
    shutil.copytree(flags["data_dir"], tmp_path / "data")
    (tmp_path / "data/img_align_celeba/000012.jpg").write_bytes(b"broken")
    codes, _, errs = finish_tasks(start_tasks("main.py", flags | {"data_dir": tmp_path / "data"}, 2))
    lines = [line for line in "".join(errs).splitlines() if "error:" in line]
    assert 2 in codes
    assert len(lines) == 1 and "000012.jpg" in lines[0] and "Traceback" not in "".join(errs)


@pytest.mark.slow
def test_what_is_wrong_on_every_rank_is_said_once_and_at_the_end_of_torchruns_report(flags):
    code, _, err = run_command(*words_of("torchrun", "main.py", flags | {"model_path": "nowhere"}))
    assert code == 1
    assert len(re.findall(r"^\S*main.py: error: .*nowhere", err, re.M)) == 1
    assert re.search(r"traceback : \S*main.py: error: .*nowhere", err.splitlines()[-2])


@pytest.mark.slow
def test_ranks_share_a_chunk_and_chunks_merge(flags, alone):
    for chunk in (0, 1):
        run_tasks("main.py", flags | {"num_chunks": 2, "chunk": chunk}, 2)
    out, _ = run_tasks("main.py", {"merge_and_eval": True, "output_path": flags["output_path"]}, 2)
    assert out.count("flip rate") == 1
    ours = contents(flags["output_path"])
    theirs = contents(alone)
    assert ours.keys() - theirs.keys() == {
        f"Results/exp/chunk-{chunk}_num-chunks-2_{name}"
        for chunk in (0, 1)
        for name in ("flags.yaml", "records.csv", "summary.yaml")
    }
    assert ours["Results/exp/summary.yaml"] == theirs["Results/exp/summary.yaml"]


def test_a_second_run_into_the_experiment_is_refused_to_all_its_ranks(flags):
    with ResultsFolder(Layout(flags["output_path"], "exp")).claimed():
        codes, _, errs = finish_tasks(start_tasks("main.py", flags, 2))
    assert codes[0] == 2 and "is being written by another run" in errs[0] and codes[1] != 0


def test_a_single_image_is_explained_by_one_of_three_ranks(flags):
    image = sorted((flags.pop("data_dir") / "img_align_celeba").iterdir())[0]
    run_tasks("main.py", flags | {"images": image}, 3)
    assert len(counterfactuals(flags["output_path"])) == 1
