"""main.py and the metrics with networks by their names."""

import shutil

import pandas as pd
import pytest
import torch
import yaml
from hub_folders import write_transformers
from main_runs import explain
from main_runs import refuse as refuse_run
from reference_weights import deterministic_array
from safetensors.torch import load_file, save_file
from toy_networks import Brightness

import compute_COUT
import compute_MNAC
from core.data.datasets import CELEBA_ATTRIBUTES, CelebA
from core.results.records import read_records

FUNCTION = "toy_networks:brightness"


@pytest.fixture
def flags(flags):
    return flags | {"num_batches": 1}


@pytest.fixture(scope="module")
def forty(tmp_path_factory):
    """A folder of transformers, of a network with a yes/no answer to each of CelebA's attributes."""
    folder = tmp_path_factory.mktemp("forty")
    names = dict(enumerate(CELEBA_ATTRIBUTES))
    network = write_transformers(folder, problem_type="multi_label_classification", id2label=names)
    with torch.no_grad():  # answers that differ from picture to picture
        network.classifier.bias -= network(deterministic_array("pictures", (64, 3, 32, 32), 0.4)).logits.mean(0)
    network.save_pretrained(folder)
    return folder


def named(flags, path, **more):
    return {name: value for name, value in flags.items() if name != "classifier_architecture"} | {
        "classifier_path": path,
        **more,
    }


def test_a_function_explains_like_the_file_of_its_network(flags, tmp_path):
    expected, out = explain(flags)
    assert "\nclassifier " not in out
    found, out = explain(named(flags, FUNCTION, output_path=tmp_path / "named"))
    pd.testing.assert_frame_equal(found, expected)
    line = f"classifier {FUNCTION}: 40 attributes (5_o_Clock_Shadow, Arched_Eyebrows, Attractive, ...), images"
    assert out.count(line) == 1


def test_a_function_takes_weights(flags, tmp_path):
    network = Brightness(40)
    network.scale.data *= -1
    torch.save(network.state_dict(), tmp_path / "darkness.pt")
    bright, _ = explain(named(flags, FUNCTION))
    weights = {"classifier_weights": tmp_path / "darkness.pt", "output_path": tmp_path / "dark"}
    dark, _ = explain(named(flags, FUNCTION, **weights))
    assert (bright["pred"] != dark["pred"]).all()


def test_a_folder_of_transformers_is_explained_and_judges(flags, forty):
    records, out = explain(named(flags, f"transformers:{forty}", oracle_path=f"transformers:{forty}"))
    for role in ("classifier", "oracle"):
        assert out.count(f"{role} transformers:{forty}: 40 attributes (5_o_Clock_Shadow, ") == 1
    smiling = CELEBA_ATTRIBUTES.index("Smiling")
    decisions = read_records(flags["output_path"] / "Results/exp/records.csv")["oracle_pred"]
    assert len(records) == 3 and list(records["pred"]) == [int(bits[smiling]) for bits in decisions]


def test_a_run_goes_on_with_the_same_files_of_a_folder_alone(flags, forty, tmp_path):
    folder = shutil.copytree(forty, tmp_path / "forty")
    flags = named(flags, f"transformers:{folder}")
    explain(flags)
    explain(flags | {"num_batches": 2})
    state = load_file(folder / "model.safetensors")
    save_file(state | {"classifier.bias": state["classifier.bias"] + 0.1}, folder / "model.safetensors")
    refuse_run(flags, "--classifier_path sha256")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"classifier_size": 0}, ["--classifier_size 0 must be"]),
        ({"classifier_mean": "grey"}, ["--classifier_mean 'grey'"]),
        ({"classifier_mean": "0.5,0.5"}, ["--classifier_mean 0.5,0.5 must be a number, or three"]),
        ({"classifier_mean": "nan"}, ["--classifier_mean nan"]),
        ({"classifier_std": "0.5,0,0.5"}, ["--classifier_std 0.5,0,0.5 must be a number, above 0, or three"]),
        ({"classifier_std": ","}, ["--classifier_std , must be a number"]),
        ({"oracle_path": FUNCTION, "oracle_std": -1}, ["--oracle_std -1 must be a number, above 0"]),
        ({"classifier_interpolation": "lanczos"}, ["--classifier_interpolation lanczos", "bicubic"]),
        ({"classifier_weights": "w.pt"}, ["--classifier_weights w.pt is for a network by name"]),
        ({"oracle_path": "classifier.pt", "oracle_weights": "w.pt"}, ["--oracle_weights w.pt", "leave out one"]),
        ({"classifier_path": FUNCTION}, ["--classifier_architecture toy_networks:Brightness is for a file"]),
        ({"oracle_path": "timm:resnet19"}, ["timm:resnet19", "timm.list_models()"]),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_bad_flags_are_one_line_and_write_nothing(flags, change, words):
    refuse_run(flags | change, *words)
    assert not flags["output_path"].exists()


def test_a_name_whose_files_say_no_task_may_be_asked_yes_or_no_questions(flags, tmp_path):
    network = write_transformers(tmp_path, id2label={0: "Young", 1: "Smiling"})
    folder = f"transformers:{tmp_path}"
    refuse_run(named(flags, folder, query_label="Smiling"), "give --task attributes")
    records, out = explain(named(flags, folder, oracle_path=folder, task="attributes"))
    assert out.count("2 attributes (Young, Smiling)") == 2 and set(records["pred"]) <= {0, 1}
    images = torch.stack([image for image, _ in CelebA(flags["data_dir"], "val", 16)][:3])
    answers = network(torch.nn.functional.interpolate(images, (32, 32), mode="bilinear", antialias=True)).logits
    assert list(records["pred"]) == (answers[:, 1] > 0).long().tolist()
    found = {name[0] for name in read_records(flags["output_path"] / "Results/exp/records.csv")["oracle_pred"]}
    assert found <= {"0", "1"}


def test_metrics_take_the_runs_network_with_what_was_asked_of_it(flags, forty, tmp_path, measure):
    asked = {"oracle_size": 32, "oracle_mean": "0.4", "oracle_interpolation": "bicubic"}
    flags |= {"output_path": tmp_path, "classifier_scales": "100", "num_batches": 0}
    explain(named(flags, FUNCTION, oracle_path=f"transformers:{forty}", **asked))
    records = read_records(tmp_path / "Results/exp/records.csv")
    found, _ = measure(compute_MNAC)
    assert found["MNAC"]["options"].items() >= asked.items()
    assert found["MNAC"]["weights"] == {"oracle_path": {"name": f"transformers:{forty}"}}
    flipped = records[records["cf_pred"] == records["target"]]
    bits = zip(flipped["oracle_pred"], flipped["oracle_cf_pred"], strict=True)
    changed = [sum(a != b for a, b in zip(*each, strict=True)) for each in bits]
    assert found["MNAC"]["value"] == pytest.approx(sum(changed) / len(changed)) and sum(changed) > 0
    named_here, _ = measure(compute_MNAC, oracle_path=f"transformers:{forty}")
    assert not asked.keys() & named_here["MNAC"]["options"].keys()


def test_code_of_a_run_is_run_where_it_is_named_again(flags, tmp_path, measure, refuse):
    explain(named(flags, FUNCTION) | {"output_path": tmp_path, "classifier_scales": "100"})
    assert yaml.safe_load((tmp_path / "Results/exp/flags.yaml").read_text())["classifier_path"] == FUNCTION
    assert f"give --classifier_path {FUNCTION}" in refuse(compute_COUT)
    found, _ = measure(compute_COUT, classifier_path=FUNCTION)
    assert found["COUT"]["weights"] == {"classifier_path": {"name": FUNCTION}}
