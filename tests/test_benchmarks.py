"""The benchmark of the methods: what it reads back, and what it refuses. The benchmark of kills."""

import numpy as np
import pytest
import torch
from assertions import refusal
from main_runs import main_flags
from PIL import Image
from rank_runs import require
from scripts import SEARCH_PATH, as_argv, environment, error_of, fork_script, output_of, run_script

import main
from benchmarks import methods, runs
from benchmarks.columns import column_of, distances_in_features, evaluations, resources, speed_up
from benchmarks.damage import differing, half_written
from core.data.datasets import CELEBA_ATTRIBUTES
from core.results.reading import Pair
from core.running.run import read_run
from guided_diffusion.script.errors import UserError
from models.classifiers import build_classifier, classifier_checkpoint
from models.oracles import load_oracle


def test_the_speed_up_is_that_of_the_means_and_its_interval_holds_it():
    first, own = np.array([100, 100, 200]), np.array([10, 20, 10])
    metric = speed_up(first, own)
    assert metric.value == pytest.approx(10) and metric.interval[0] < 10 < metric.interval[1]
    assert speed_up(own, own).interval == (1.0, 1.0)


def test_the_demo_says_the_flags_and_every_experiment_has_flags_that_main_py_knows():
    assert runs.demo_flags("faces", "DIME")[:2] == ["--start_step", "10"]
    known = {f"--{flag}" for flag in main.create_argparser().flags}
    for dataset in methods.OURS:
        for name in methods.SETS:
            words = ["--output_path", "out", "--set", name, "--dataset", dataset]
            args = methods.create_argparser().parse_args(words)
            for flags in methods.choose(args, []).values():
                words = [word for word in [*runs.demo_flags(dataset, "RUN"), *flags] if word.startswith("--")]
                assert set(words) <= known


REFUSED = ["--set magic", "--dataset birds", "--images 0", "--query Smilling", "--dataset fashion --query Smiling"]
REFUSED = [(words, [], words.removeprefix("--dataset fashion ")) for words in REFUSED]
REFUSED += [("--methods dime,magic", [], "--methods magic"), ("--methods ", [], "--methods  is unknown")]


@pytest.mark.parametrize("flags, further, words", [*REFUSED, ("", ["--exp-name=x"], "--exp-name=x")], ids=str)
def test_what_cannot_be_is_refused_by_name(flags, further, words):
    command = ["--output_path", "out", *(flags.split(" ") if flags else [])]
    parse = methods.create_argparser().parse_args
    assert words in refusal(UserError, lambda: methods.choose(parse(command), further))


def test_in_the_oracles_features_an_image_is_like_itself(tmp_path):
    torch.manual_seed(0)
    oracle = classifier_checkpoint(build_classifier("tiny_cnn", 40), "tiny_cnn", CELEBA_ATTRIBUTES, 32)
    torch.save(oracle, tmp_path / "oracle.pt")
    rng, pairs = np.random.default_rng(0), []
    for k in range(6):
        for kind in ("x", "cf"):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f"{kind}{k}.png")
        reached = "ICF" if k == 5 else "CCF"
        pairs.append(Pair(str(k), tmp_path / f"x{k}.png", tmp_path / f"cf{k}.png", "CC", reached))
    same = [Pair(pair.id, pair.original, pair.original, "CC", "CCF") for pair in pairs]
    similarity, none, halves = distances_in_features(tmp_path / "oracle.pt", same)
    assert similarity.value == pytest.approx(1)
    similarity, distance, of_others = distances_in_features(tmp_path / "oracle.pt", pairs)
    assert similarity.n == distance.n == 5 and similarity.value < 0.5
    assert abs(none.value) < 1e-4 * distance.value  # whatever the scale of the features
    assert halves.value > 0.1 * distance.value and of_others.name == "sFID in oracle features"  # of other images
    images = zip(*(pair.images() for pair in pairs[:5]), strict=True)
    features = [load_oracle(tmp_path / "oracle.pt").features(torch.stack(each)) for each in images]
    assert similarity.value == pytest.approx(float(torch.cosine_similarity(*features).mean()), abs=1e-5)


@pytest.mark.slow
def test_an_experiment_is_timed_over_its_sittings_and_read_back(toy_files, tmp_path, monkeypatch):
    flags = main_flags(toy_files, tmp_path) | {"split": "val", "batch_size": 4}
    monkeypatch.setattr(runs, "demo_flags", lambda *_: as_argv(flags))
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    for batches, images in ((1, 4), (0, 8), (0, 8)):
        runs.explain(tmp_path, "exp", "faces", toy_files / "data", "31", ["--num_batches", str(batches)])
        monkeypatch.setattr(runs, "run", fork_script)  # once it has shown that it works
        seconds, memory = resources(read_run(tmp_path, "exp"))
        assert seconds.n == images and seconds.value > 0 and memory.value > 100
    for name, each, once in (("exp", 7, 0), ("ours", 3, 4)):
        if name == "ours":
            runs.explain(tmp_path, name, "faces", toy_files / "data", "31", ["--method", "inversion"])
        counts = evaluations(read_run(tmp_path, name))
        assert len(counts) == 8 and set(counts) <= {once + each, once + 2 * each}
    column = column_of(tmp_path, "ours", "exp")
    assert column["evaluations an image"]["value"] == counts.mean() and column["seconds an image"]["n"] == 8
    assert column["speed-up in evaluations"]["value"] > 1
    runs.evaluate(tmp_path, ["ours"], "fashion", "31", 1)
    assert {"FR", "speed-up in evaluations"} <= column_of(tmp_path, "ours", "exp").keys()
    assert "speed-up in evaluations" not in column_of(tmp_path, "ours", "elsewhere")


def test_the_command_says_in_one_line_what_is_missing():
    assert "--output_path" in error_of(run_script("benchmarks.methods", []))


@pytest.mark.slow
def test_the_benchmark_of_kills_kills_and_finds_nothing_lost(tmp_path):
    require("mpiexec")
    out = output_of(run_script("benchmarks.kills", {"work_dir": tmp_path / "work", "kills": 2}, PATH=SEARCH_PATH))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if "`" in line]
    assert [row[1] for row in rows] == ["1", "1", "0", "0", "0"]
    assert {row[3].split()[0] for row in rows} | {cell for row in rows for cell in row[4:6]} == {"0"}
    assert all(0 < float(first) < float(whole) for *_, whole, first in rows)
    assert "is not empty" in error_of(run_script("benchmarks.kills", {"work_dir": tmp_path / "work"}))


def test_the_benchmark_of_kills_sees_files_that_are_half_written_or_differ(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        (folder / "CF").mkdir(parents=True)
        Image.new("RGB", (9, 9), (7, 7, 7)).save(folder / "CF/0.png")
        torch.save({"a": torch.arange(3), "b": [1, "x"]}, folder / "opt1.pt")
        (folder / "a.yaml").write_text("a: 1\n")
        (folder / "progress.csv").write_text("step,images_per_s,loss\n1,5,0.5\n")
        (folder / "i.txt").write_text("label: 1\n")
    assert half_written(ours) == [] == differing(ours, theirs, False)
    (theirs / "progress.csv").write_text("step,images_per_s,loss\n1,6,0.5\n")
    assert differing(ours, theirs, False) == []
    whole = {path: path.read_bytes() for path in ours.rglob("*.*")}
    for path, content in whole.items():
        for half in (content[: len(content) // 2], b""):
            path.write_bytes(half)
            assert half_written(ours) == differing(ours, theirs, False) == [str(path.relative_to(ours))]
        path.write_bytes(content)
    torch.save({"a": torch.arange(3).float(), "b": [1, "x"]}, theirs / "opt1.pt")
    (theirs / "a.yaml").unlink()
    assert differing(ours, theirs, False) == ["a.yaml", "opt1.pt"]

    for level, by_ranks in ((8, []), (9, ["CF/0.png"])):
        Image.new("RGB", (9, 9), (7, level, 7)).save(theirs / "CF/0.png")
        assert "CF/0.png" in differing(ours, theirs, False)
        assert sorted(differing(ours, theirs, True)) == sorted(["a.yaml", *by_ranks])
