"""All metrics by one command."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml
from pages import parser_of
from rank_runs import run_tasks, words_of
from scripts import ROOT, as_argv, call_script, error_of, output_of, run_command, run_script, run_shell
from toy_celeba import write_celeba
from toy_results import write_random_pairs

import compute_metrics
from core.data.datasets import CELEBA_ATTRIBUTES
from core.results.layout import Layout
from core.results.reading import read_pairs
from models.classifiers import load_classifier
from models.judges import LOADERS

INCEPTION = "pt_inception-2015-12-05-6726825d.pth"


def write_experiment(root, weights_dir, exp_name="exp", seed=0):
    """A folder as main.py leaves it: pairs, records.csv, flags.yaml."""
    write_random_pairs(root, exp_name, seed)
    flags = dict.fromkeys(["oracle_path", "classifier_path"], str(weights_dir / "small.pt"))
    flags |= {"query_label": "Smiling", "data_dir": str(root / "celeba"), "classifier_architecture": None}
    experiment = root / "Results" / exp_name
    (experiment / "flags.yaml").write_text(yaml.safe_dump(flags))
    rows = {"id": range(6), "label": 1, "pred": [1, 0] * 3, "target": [0, 1] * 3}
    rows["cf_pred"] = [0, 1, 1, 1, 0, 0]  # as the places of write_random_pairs say
    pd.DataFrame(rows | {"attempts": 1, "bkl": 0.5, "l_1": 0.1}).to_csv(experiment / "records.csv", index=False)


def reasons_in(out):
    return [line for line in out.splitlines() if line.startswith("not computed: ")]


@pytest.mark.slow
def test_everything_is_measured_by_one_command_and_laid_out(tmp_path, weights_dir):
    write_experiment(tmp_path, weights_dir)
    write_experiment(tmp_path, weights_dir, "exp-2", seed=1)
    write_celeba(tmp_path / "celeba", {"train": 30}, images=False)
    flags = {"weights-path": weights_dir / "resnet50_ft.pkl", "gpu": -1, "exp-pattern": "exp*"}
    words = as_argv(flags | {"markdown": tmp_path / "table.md"})
    out = output_of(run_shell("compute_metrics.sh", tmp_path, "exp", *words, TORCH_HOME=str(weights_dir)))
    found = yaml.safe_load((tmp_path / "Results/exp/metrics.yaml").read_text())
    names = "FR,bKL,L1,FVA,FS,MNAC,Oracle FR,CD,COUT,FID,sFID,KID,sigma_L"
    assert set(found) == set(names.split(","))
    assert "not computed" not in out and (tmp_path / "table.md").read_text() in out
    assert all(f"\n| {name} " in out for name in found)

    # The oracle's numbers, from its decisions on the folder.
    oracle = load_classifier(weights_dir / "small.pt")
    before, after = [], []
    for pair in read_pairs(Layout(tmp_path, "exp")):
        for decisions, image in zip((before, after), pair.images(), strict=True):
            decisions.append((oracle(image[None]) > 0)[0].tolist())
    changed = np.array(before) != np.array(after)
    assert found["MNAC"]["value"] == changed.sum(1).mean() > 0
    assert found["Oracle FR"]["value"] == changed[:, CELEBA_ATTRIBUTES.index("Smiling")].mean()


@pytest.mark.slow
def test_what_cannot_be_measured_is_said_and_the_rest_is(tmp_path, weights_dir):
    write_experiment(tmp_path, weights_dir)
    write_experiment(tmp_path, weights_dir, "other")
    (tmp_path / "Results/other/records.csv").unlink()
    out = output_of(run_shell("compute_metrics.sh", tmp_path, "exp", "other", "--metrics", "FR,sigma_L"))
    assert re.search(r"\| metric +\| exp", out) and re.search(r"\| FR ↑ +\| 0\.6667 \[.*\], n = 6 \| – +\|", out)
    reasons = reasons_in(out)
    assert len(reasons) == 2
    assert "FR, bKL, L1 of other: " in reasons[0] and "records.csv does not exist" in reasons[0]
    assert "sigma_L: give --exp_pattern" in reasons[1]


def test_a_value_of_before_is_told_from_one_of_now(tmp_path, weights_dir):
    write_experiment(tmp_path, weights_dir)
    flags = {"output_path": tmp_path, "exp_names": "exp", "metrics": "FR,MNAC", "oracle_path": tmp_path / "none"}
    _, out, _ = call_script(compute_metrics, flags)
    reasons = reasons_in(out)
    assert len(reasons) == 1 and "earlier value" not in reasons[0]
    (tmp_path / "Results/exp/records.csv").unlink()
    _, out, _ = call_script(compute_metrics, flags | {"oracle_path": weights_dir / "small.pt"})
    assert "FR ↑" in out
    reasons = reasons_in(out)
    assert len(reasons) == 1 and reasons[0].endswith("(the table has an earlier value)")


def test_nothing_to_measure_is_an_error(tmp_path):
    flags = {"output_path": tmp_path, "exp_names": "none", "metrics": "FR"}
    assert f"{tmp_path}/Results/none is not there" in error_of(call_script(compute_metrics, flags))
    (tmp_path / "Results/none").mkdir(parents=True)
    code, out, err = call_script(compute_metrics, flags)
    assert code == 2 and "not computed: FR, bKL, L1 of none" in out and "no metric of none" in err
    assert "--metrics FRR is unknown" in error_of(call_script(compute_metrics, flags | {"metrics": "FRR"}))


def test_an_experiment_that_is_not_there_is_an_error_after_all_others_are_measured(tmp_path, weights_dir):
    write_experiment(tmp_path, weights_dir)
    flags = ["--output_path", tmp_path, "--exp_names", "exp", "nosuch", "--metrics", "FR"]
    code, out, err = call_script(compute_metrics, [*flags, "--markdown", tmp_path / "table.md"])
    assert code == 2 and f"{tmp_path}/Results/nosuch: not there; check --exp_names" in err.splitlines()[-1]
    assert "| FR ↑" in out and "not computed: FR, bKL, L1 of nosuch" in out and (tmp_path / "table.md").exists()
    assert not (tmp_path / "Results/nosuch").exists()


def test_a_table_that_cannot_be_written_is_an_error_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for place, reason in {
        "nowhere/table.md": "cannot be written (No such file or directory)",
        "file/table.md": "cannot be written (Not a directory)",
        "folder": "is no file",
        ".": "is no file",
        "a" * 300: "cannot be written (File name too long)",
    }.items():
        code, out, err = call_script(compute_metrics, {"exp_names": "exp", "markdown": place})
        assert code == 2 and f"error: --markdown {place} {reason}" in err and err.count("\n") == 1 and out == ""
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_the_place_of_a_table_that_can_be_written_is_left_as_it_is(tmp_path):
    (tmp_path / "old.md").write_text("old")
    (tmp_path / "Results/none").mkdir(parents=True)
    for name in ("old.md", "new.md"):
        flags = {"output_path": tmp_path, "exp_names": "none", "metrics": "FR", "markdown": tmp_path / name}
        code, _, err = call_script(compute_metrics, flags)
        assert code == 2 and "no metric of none" in err
    assert [path.name for path in tmp_path.glob("*.md")] == ["old.md"]
    assert (tmp_path / "old.md").read_text() == "old"


def test_compute_metrics_says_how_it_is_used():
    for words in ("", "out", "out --gpu 0", "--gpu 0"):
        code, _, err = run_shell("compute_metrics.sh", *words.split())
        assert code == 2 and "usage: compute_metrics.sh OUTPUT_PATH EXPNAME..." in err


def test_every_flag_of_a_script_can_be_given_to_the_command_of_all():
    scripts = {path.name for path in ROOT.glob("compute_*.py")} - {"compute_metrics.py"}
    assert len(scripts) == 7
    of_all = {action.dest for action in parser_of("compute_metrics.py")._actions} | {"exp_name"}
    for script in scripts:
        assert {action.dest for action in parser_of(script)._actions} <= of_all, script


def test_a_metric_that_breaks_is_reported_and_the_others_go_on(tmp_path, weights_dir, monkeypatch):
    write_experiment(tmp_path, weights_dir)

    def broken(*_):
        raise ZeroDivisionError("of no user's making")

    monkeypatch.setitem(LOADERS, "oracle", broken)
    flags = {"output_path": tmp_path, "exp_names": "exp", "metrics": "MNAC,FR,COUT"}
    code, out, err = call_script(compute_metrics, flags)
    assert code == 0 and "not computed: MNAC, Oracle FR of exp: ZeroDivisionError: of no user's making" in out
    assert "| FR ↑" in out and "| COUT ↑" in out and "Traceback" in err


PUBLISHED = {
    "compute_FVA.py": "--output-path --exp-name --gpu --weights-path",
    "compute_MNAC.py": "--output-path --exp-name --gpu --oracle-path",
    "compute_CD.py": "--output-path --exp-name --gpu --oracle-path --celeba-path",
    "compute_LPIPS.py": "--output-path --exp-pattern --exp-values --gpu",
}


def test_the_published_flags_are_taken_with_hyphens_and_underscores():
    for script, flags in PUBLISHED.items():
        parser = parser_of(script)
        for flag in flags.split():
            name = flag[2:].replace("-", "_")
            for spelling in (flag, f"--{name}"):
                assert getattr(parser.parse_known_args([spelling, "x"], check=False)[0], name) in ("x", ["x"])


@pytest.mark.slow
def test_ranks_share_the_networks_work_of_every_metric(tmp_path, weights_dir):
    write_experiment(tmp_path, weights_dir)
    flags = {"output_path": tmp_path, "exp_names": "exp", "metrics": "FR,MNAC,COUT", "batch_size": 2}
    words = words_of("mpiexec", "compute_metrics.py", flags | {"num_workers": 3})
    out = output_of(run_command(*words))
    path = tmp_path / "Results/exp/metrics.yaml"
    on_two = path.read_text()
    assert {"FR", "bKL", "L1", "MNAC", "Oracle FR", "COUT"} == yaml.safe_load(on_two).keys()
    assert out.count("-- MNAC, Oracle FR of exp") == 1 and out.count("| metric ") == 1
    path.unlink()
    assert run_script("compute_metrics.py", flags)[0] == 0
    assert on_two == path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 5])  # there are four counterfactuals
def test_ranks_share_the_activations(tmp_path, weights_dir, number):
    write_experiment(tmp_path, weights_dir)
    flags = {"output_path": tmp_path, "inception_path": weights_dir / "hub/checkpoints" / INCEPTION}
    path = tmp_path / "Results/exp/activations.npz"
    out, _ = run_tasks("compute_FID.py", flags | {"batch_size": 2}, number)
    assert len(re.findall("^FID: ", out, re.M)) == 1
    on_ranks = dict(np.load(path))
    path.unlink()
    assert run_script("compute_FID.py", flags)[0] == 0
    alone = np.load(path)
    assert on_ranks["hashes"].tolist() == alone["hashes"].tolist()
    np.testing.assert_allclose(on_ranks["activations"], alone["activations"], rtol=1e-4, atol=1e-5)
