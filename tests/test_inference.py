"""What the compute_ scripts share: batches, and what they read of a results folder."""

import argparse

import pytest
import torch
import yaml
from assertions import refusal
from toy_results import Colours, flat, write_pair, write_random_pairs

from core.metrics.inference import in_batches, judge, read_batches, require_pairs, require_size, take_from_run
from core.results.reading import read_flags, read_pairs
from guided_diffusion.script.errors import UserError

CPU = torch.device("cpu")


# -- batches -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 8])
def test_batches_hold_everything_once_and_in_order(batch_size):
    batches = list(read_batches(lambda i: (torch.tensor(i), torch.tensor([2 * i])), range(7), batch_size))
    assert [len(numbers) for numbers, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert torch.cat([numbers for numbers, _ in batches]).tolist() == list(range(7))
    assert torch.cat([doubles for _, doubles in batches]).flatten().tolist() == list(range(0, 14, 2))


def test_one_batch_is_read_ahead_and_no_more():
    read = []
    batches = read_batches(lambda i: (read.append(i), (torch.tensor(i),))[1], range(100), 5)
    next(batches)
    batches.close()
    assert set(read) <= set(range(10)) and set(range(5)) <= set(read)


def test_an_error_while_reading_is_told_as_it_is():
    def load(i):
        raise UserError("image 3 is gone")

    assert "image 3 is gone" in refusal(UserError, lambda: list(read_batches(load, range(4), 2)))


def test_images_of_several_sizes_are_refused(tmp_path):
    for i, size in enumerate((4, 8)):
        write_pair(tmp_path, i, flat(1, 1, 1, size=size), flat(0, 0, 0, size=size))
    pairs = read_pairs(tmp_path, "exp")
    message = refusal(UserError, lambda: judge(Colours(), pairs, 2, CPU))
    assert "4 x 4, 8 x 8" in message


def test_an_oracle_judges_alike_in_any_batch_and_order(tmp_path):
    write_random_pairs(tmp_path, places=["CC/CCF"] * 5)
    pairs = read_pairs(tmp_path, "exp")
    before, after = judge(Colours(), pairs, 5, CPU)
    for row, pair in enumerate(pairs):
        x, counterfactual = pair.images()
        assert before[row].tolist() == (x.mean((1, 2)) > 0).long().tolist()
        assert after[row].tolist() == (counterfactual.mean((1, 2)) > 0).long().tolist()
    assert (before != after).any()
    singly = judge(Colours(), pairs[::-1], 2, CPU)
    assert torch.equal(singly[0].flip(0), before) and torch.equal(singly[1].flip(0), after)


def test_functions_run_without_gradients():
    weight = torch.ones(1, requires_grad=True)
    (found,) = in_batches(lambda x: (x * weight,), lambda i: (torch.ones(1) * i,), range(3), 2, CPU, "")
    assert found.flatten().tolist() == [0, 1, 2] and not found.requires_grad


def test_a_network_of_another_size_is_refused(tmp_path):
    write_pair(tmp_path, 0, flat(1, 1, 1), flat(0, 0, 0))
    network = Colours()
    require_size(network, read_pairs(tmp_path, "exp"), "oracle_path")
    network.image_size = 64
    message = refusal(UserError, require_size, network, read_pairs(tmp_path, "exp"), "oracle_path")
    assert "--oracle_path" in message and "64" in message and "has 4" in message


# -- the results folder --------------------------------------------------------------------------------------


def test_pairs_that_are_not_there_are_said(tmp_path):
    write_pair(tmp_path, 0, flat(1, 1, 1), flat(0, 0, 0), place="CC/ICF")
    assert "reached their target" in refusal(UserError, require_pairs, tmp_path, "exp")
    assert len(require_pairs(tmp_path, "exp", reached=("CCF", "ICF"))) == 1


def test_a_pair_of_two_sizes_is_refused(tmp_path):
    write_pair(tmp_path, 0, flat(1, 1, 1), flat(0, 0, 0, size=8))
    (pair,) = read_pairs(tmp_path, "exp")
    assert str(pair.counterfactual) in refusal(UserError, pair.images)


def test_an_unfinished_run_is_measured_but_not_in_silence(tmp_path, capsys):
    write_pair(tmp_path, 0, flat(1, 1, 1), flat(0, 0, 0))
    experiment = tmp_path / "Results/exp"

    def said():
        assert len(require_pairs(tmp_path, "exp")) == 1
        return capsys.readouterr().err

    assert said() == ""  # not a folder of main.py's, which alone is known to be unfinished
    (experiment / "chunk-0_num-chunks-2_flags.yaml").write_text("seed: 4\n")
    (experiment / "chunk-0_num-chunks-2_summary.yaml").write_text("n: 1\n")
    assert f"{experiment} has no summary.yaml" in said()
    (experiment / "summary.yaml").write_text("n: 1\n")
    assert said() == ""


def test_info_is_read_back(tmp_path):
    write_pair(tmp_path, 0, flat(1, 1, 1), flat(0, 0, 0), target=1)
    (pair,) = read_pairs(tmp_path, "exp")
    assert pair.info() == {"label": 0, "pred": 0, "target": 1}
    info = tmp_path / "Results/exp/CC/CCF/Info/0000000.txt"
    for text in ("label: x\n", "label: 1\n"):
        info.write_text(text)
        assert str(info) in refusal(UserError, pair.info)
    info.unlink()
    assert str(info) in refusal(UserError, pair.info)


def test_flags_come_from_the_command_then_the_run_then_main(tmp_path):
    names = ("oracle_path", "query_label", "classifier_path", "celeba_path")

    def taken(**given):
        args = argparse.Namespace(**dict.fromkeys(names) | {"output_path": tmp_path, "exp_name": "exp"} | given)
        take_from_run(args, *names)
        return {name: getattr(args, name) for name in names}

    assert taken() == {
        "oracle_path": "models/oracle.pth",
        "query_label": "31",
        "celeba_path": None,
        "classifier_path": "models/classifier.pth",
    }
    (tmp_path / "Results/exp").mkdir(parents=True)
    (tmp_path / "Results/exp/chunk-1_num-chunks-2_flags.yaml").write_text(
        yaml.safe_dump({"oracle_path": None, "query_label": "Young", "classifier_path": "a.pt", "data_dir": "d"})
    )
    (tmp_path / "Results/exp/chunk-2_num-chunks-2_flags.yaml").write_text("not read")
    assert taken(classifier_path="b.pt") == {
        "oracle_path": "models/oracle.pth",
        "query_label": "Young",
        "celeba_path": "d",
        "classifier_path": "b.pt",
    }


def test_damaged_flags_are_refused(tmp_path):
    (tmp_path / "Results/exp").mkdir(parents=True)
    path = tmp_path / "Results/exp/flags.yaml"
    for text in ("- a list", "a: b: c", ""):
        path.write_text(text)
        assert str(path) in refusal(UserError, read_flags, tmp_path, "exp")
