"""What the compute_ scripts share: batches, and what they read of a results folder."""

import pytest
import torch
import yaml
from assertions import refusal
from toy_results import Colours, flat, write_pair, write_random_pairs

from core.metrics.batches import Batching, read_batches
from core.metrics.judges import Judges, decisions_of, judge_pairs
from core.results.layout import Layout
from core.results.reading import read_pairs
from core.running.run import read_run
from guided_diffusion.ranks.ranks import Ranks
from guided_diffusion.script.errors import UserError

CPU = torch.device("cpu")


def judged(pairs, batch_size):
    return judge_pairs(decisions_of(Colours()), pairs, Batching(CPU, batch_size))


# -- batches -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 8])
def test_batches_hold_everything_once_and_in_order(batch_size):
    batches = list(read_batches(lambda i: (torch.tensor(i), torch.tensor([2 * i])), range(7), batch_size))
    assert [len(numbers) for numbers, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert torch.cat([numbers for numbers, _ in batches]).tolist() == list(range(7))
    assert torch.cat([doubles for _, doubles in batches]).flatten().tolist() == list(range(0, 14, 2))


def test_one_batch_is_read_ahead_and_no_more_and_an_error_while_reading_is_raised_as_it_is():
    read = []
    batches = read_batches(lambda i: (read.append(i), (torch.tensor(i),))[1], range(100), 5)
    next(batches)
    batches.close()
    assert set(read) <= set(range(10)) and set(range(5)) <= set(read)

    def load(i):
        raise UserError("image 3 is gone")

    assert "image 3 is gone" in refusal(UserError, lambda: list(read_batches(load, range(4), 2)))


def test_images_of_several_sizes_and_a_pair_of_two_are_refused(tmp_path):
    for i, size in enumerate((4, 8)):
        write_pair(tmp_path, i, flat(1, 1, 1, size=size), flat(0, 0, 0, size=size))
    pairs = read_pairs(Layout(tmp_path, "exp"))
    assert "4 x 4, 8 x 8" in refusal(UserError, lambda: judged(pairs, 2))
    write_pair(tmp_path, 0, flat(1, 1, 1), flat(0, 0, 0, size=8))
    assert str(pairs[0].counterfactual) in refusal(UserError, pairs[0].images)


def test_an_oracle_judges_alike_in_any_batch_and_order(tmp_path):
    write_random_pairs(tmp_path, places=["CC/CCF"] * 5)
    pairs = read_pairs(Layout(tmp_path, "exp"))
    before, after = judged(pairs, 5)
    for row, pair in enumerate(pairs):
        x, counterfactual = pair.images()
        assert before[row].tolist() == (x.mean((1, 2)) > 0).long().tolist()
        assert after[row].tolist() == (counterfactual.mean((1, 2)) > 0).long().tolist()
    assert (before != after).any()
    singly = judged(pairs[::-1], 2)
    assert torch.equal(singly[0].flip(0), before) and torch.equal(singly[1].flip(0), after)


def test_functions_run_without_gradients():
    weight = torch.ones(1, requires_grad=True)
    (products,) = Batching(CPU, 2).map(lambda x: (x * weight,), lambda i: (torch.ones(1) * i,), range(3), "")
    assert products.flatten().tolist() == [0, 1, 2] and not products.requires_grad


def test_a_network_of_another_size_is_refused_and_is_loaded_once(tmp_path):
    write_pair(tmp_path, 0, flat(1, 1, 1), flat(0, 0, 0))
    run, networks = read_run(tmp_path, "exp"), []

    def load(*arguments):
        networks.append(Colours())
        return networks[-1]

    judges = Judges({"gpu": "-1", "batch_size": 2, "num_workers": None}, {"oracle": load}, Ranks())
    first, again = (judges.of_role("oracle", run, run.pairs())[0] for _ in range(2))
    assert first is again is networks[0] and len(networks) == 1
    first.image_size = 64
    message = refusal(UserError, judges.of_role, "oracle", run, run.pairs())
    assert "--oracle_path" in message and "at 64 pixels" in message and "have 4" in message


# -- the results folder --------------------------------------------------------------------------------------


def test_pairs_that_are_not_there_are_said(tmp_path):
    write_pair(tmp_path, 0, flat(1, 1, 1), flat(0, 0, 0), place="CC/ICF")
    run = read_run(tmp_path, "exp")
    assert "reached their target" in refusal(UserError, run.require_pairs)
    assert len(run.require_pairs(reached=("CCF", "ICF"))) == 1


def test_an_unfinished_run_is_measured_but_not_in_silence(tmp_path, capsys):
    write_pair(tmp_path, 0, flat(1, 1, 1), flat(0, 0, 0))
    experiment = tmp_path / "Results/exp"

    def said():
        assert len(read_run(tmp_path, "exp").require_pairs()) == 1
        return capsys.readouterr().err

    assert said() == ""  # not a folder of main.py's, which alone is known to be unfinished
    (experiment / "chunk-0_num-chunks-2_flags.yaml").write_text("seed: 4\n")
    (experiment / "chunk-0_num-chunks-2_summary.yaml").write_text("n: 1\n")
    assert f"{experiment} has no summary.yaml" in said()
    (experiment / "summary.yaml").write_text("n: 1\n")
    assert said() == ""


def test_info_is_read_back(tmp_path):
    write_pair(tmp_path, 0, flat(1, 1, 1), flat(0, 0, 0), target=1)
    (pair,) = read_pairs(Layout(tmp_path, "exp"))
    assert pair.info() == {"label": 0, "pred": 0, "target": 1}
    info = tmp_path / "Results/exp/CC/CCF/Info/0000000.txt"
    for text in ("label: x\n", "label: 1\n"):
        info.write_text(text)
        assert str(info) in refusal(UserError, pair.info)
    info.unlink()
    assert str(info) in refusal(UserError, pair.info)


def test_a_network_comes_from_the_command_then_the_run_then_main_and_damaged_flags_are_refused(tmp_path):
    experiment = tmp_path / "Results/exp"
    experiment.mkdir(parents=True)

    def paths(**flags):
        run = read_run(tmp_path, "exp")
        return [run.network(role, flags).path for role in ("classifier", "oracle")], run

    assert paths()[0] == ["models/classifier.pth", "models/oracle.pth"] and paths()[1].question.attribute == ""
    flags = {"oracle_path": None, "query_label": "Young", "classifier_path": "a.pt", "classifier_size": 8}
    (experiment / "chunk-1_num-chunks-2_flags.yaml").write_text(yaml.safe_dump(flags))
    (experiment / "chunk-2_num-chunks-2_flags.yaml").write_text("not read")
    files, run = paths(classifier_path="b.pt")
    assert files == ["b.pt", "models/oracle.pth"] and run.question.attribute == "Young"
    for number, name in (("39", "Young"), ("31", "Smiling")):
        assert read_run(tmp_path, "exp", query_label=number).question.attribute == name
    own, other = run.network("classifier"), run.network("classifier", {"classifier_path": "b.pt"})
    assert own.options == {"classifier_size": 8} and not own.typed  # so that a file never names code
    assert other.options == {} and other.typed  # what prepares the images of another network is not its
    path = experiment / "flags.yaml"
    for text in ("- a list", "a: b: c", ""):
        path.write_text(text)
        assert str(path) in refusal(UserError, read_run, tmp_path, "exp")
