"""Which output means which label, and how well a classifier agrees with the labels: said before a run."""

import shutil

import numpy as np
import pytest
import torch
import yaml
from main_runs import refuse
from PIL import Image
from scripts import call_script, output_of

from core.running.networks import class_predictor
from models.oracles import load_oracle

WARNING = "hardly better than chance"
ORDER = "output 2 for 2 of --data_dir. As text 10 comes there"


@pytest.fixture
def numbered(flags, tmp_path):
    """Flags of a run on folders 0 to 11 of two greys each, of a network that is named by `classifier_path`."""
    for number, level in enumerate(np.linspace(12, 242, 12)):
        (tmp_path / "data" / str(number)).mkdir(parents=True)
        for i in range(2):
            grey = np.full((16, 16, 3), level + i, np.uint8)
            Image.fromarray(grey).save(tmp_path / "data" / str(number) / f"{i}.png")
    del flags["classifier_architecture"]
    return flags | {"data_dir": tmp_path / "data", "split": "all", "task": "classes", "batch_size": 8}


def explained(flags, network):
    """Explains with a network -> (stdout, stderr, the summary's accuracy)."""
    code, out, err = call_script("main.py", flags | {"classifier_path": f"odd_networks:{network}"})
    assert code == 0, err
    summary = yaml.safe_load((flags["output_path"] / "Results/exp/summary.yaml").read_text())
    return out, err, summary["clean acc"]


def test_numbers_of_outputs_that_are_no_places_of_folders_are_said(numbered):
    out, err, accuracy = explained(numbered, "levels_as_numbers")
    assert ORDER in out and "predicts 100.0 % of the labels of 24 images" in out and accuracy == 100
    assert WARNING not in err


def test_an_order_that_is_mistaken_is_warned_of_and_class_names_mend_it(numbered, tmp_path):
    out, err, accuracy = explained(numbered, "levels_as_text")
    assert ORDER in out and accuracy < 20 and WARNING in err and "--class_names" in err
    (tmp_path / "names.txt").write_text("\n".join(sorted(map(str, range(12)))))
    mended = {"class_names": tmp_path / "names.txt", "overwrite": True}
    out, err, accuracy = explained(numbered | mended, "levels_as_text")
    assert ORDER not in out and accuracy == 100 and WARNING not in err


def test_numbers_in_the_order_of_text_are_places(numbered):
    for number in range(10):
        (numbered["data_dir"] / str(number)).rename(numbered["data_dir"] / f"0{number}")
    out, err, accuracy = explained(numbered, "levels_as_numbers")
    assert ORDER not in out and "taken for those of --data_dir in their order, 0 for 00, 1 for 01" in out
    assert accuracy == 100 and WARNING not in err


def test_a_single_logit_is_named_by_a_file_of_one_line(numbered, tmp_path):
    for number in range(2, 12):
        shutil.rmtree(numbered["data_dir"] / str(number))
    (numbered["data_dir"] / "0").rename(numbered["data_dir"] / "dark")
    (numbered["data_dir"] / "1").rename(numbered["data_dir"] / "light")
    del numbered["task"]
    flags = numbered | {"classifier_path": "odd_networks:one_logit", "query_label": "light"}
    refuse(flags, "does not answer light", "--class_names, a file with a line for each output")
    (tmp_path / "names.txt").write_text("light\n")
    output_of(call_script("main.py", flags | {"class_names": tmp_path / "names.txt"}))


def test_a_question_of_one_class_is_judged_by_all_images_looked_at(numbered):
    out, err, _ = explained(numbered | {"query_label": "3", "target_label": "4"}, "levels_as_numbers")
    assert "predicts 100.0 % of the labels of 24 images" in out and WARNING not in err


def test_an_oracle_whose_numbers_have_another_order_is_said(capsys):
    oracle = load_oracle("odd_networks:levels_as_text", image_size=16)
    predict = class_predictor(oracle, tuple(sorted(map(str, range(12)))))
    assert "the oracle does not name its outputs" in capsys.readouterr().out
    assert predict(torch.full((1, 3, 16, 16), 0.9)).tolist() == [5]  # output 3 means class 3, the sixth as text
    class_predictor(oracle, tuple(map(str, range(12))))
    assert capsys.readouterr().out == ""
