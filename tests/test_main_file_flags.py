"""main.py takes the model flags that a weight file carries, so that nobody has to type them."""

import pytest
import torch
from main_runs import explain, refuse
from scripts import contents
from toy_networks import MODEL_FLAGS

from core.running.flags import FLAGS
from guided_diffusion.training.weight_files import save_aside
from main import create_argparser
from models.checkpoints import attach_flags, read_flags, read_weights
from models.file_flags import flags_of_weights


@pytest.fixture
def untyped(flags):
    """The command line without a single model flag."""
    return {name: value for name, value in flags.items() if name not in MODEL_FLAGS}


def carry(toy_files, path, carried):
    """Writes the toy UNet with other flags in its file."""
    save_aside(attach_flags(read_weights(toy_files / "ddpm.pt"), carried), path)
    return path


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_run_without_model_flags_is_the_run_with_all_of_them(flags, untyped, toy_files, tmp_path, suffix):
    model = carry(toy_files, tmp_path / f"model.{suffix}", MODEL_FLAGS)
    _, out = explain(flags | {"model_path": model})
    assert "taken from" not in out
    typed = contents(flags["output_path"])
    _, out = explain(untyped | {"model_path": model, "overwrite": True})
    (line,) = [line for line in out.splitlines() if line.startswith(f"taken from {model}: ")]
    assert "--image_size 16 --num_channels 32 " in line and "--learn_sigma True" in line
    assert "noise_schedule" not in line  # which is the default's already
    assert contents(flags["output_path"]) == typed | {
        "Results/exp/flags.yaml": typed["Results/exp/flags.yaml"].replace(b"overwrite: false", b"overwrite: true")
    }


def test_a_flag_that_contradicts_the_file_is_refused_and_no_other_is_named(untyped, toy_files):
    line = refuse(
        untyped | {"num_heads": 4}, f"--num_heads is 4, but {toy_files}/ddpm.pt was trained with num_heads 2"
    )
    assert line.endswith("give --num_heads 2")
    refuse(untyped | {"channel_mult": "one"}, "--channel_mult 'one'")


def test_a_typed_flag_stays_as_it_was_typed_and_one_that_decides_nothing_stays_too(toy_files, tmp_path, capsys):
    trained = {"image_size": 128, "channel_mult": "1,1,2,3,4", "attention_resolutions": "32,16", "dropout": 0.5}
    path = carry(toy_files, tmp_path / "model.pt", trained)
    values = vars(create_argparser().parse_args(["--model_path", str(path), "--attention_resolutions", "16,32"]))
    before, given = dict(values), {"model_path", "attention_resolutions"}
    taken = {"image_size": 128, "channel_mult": "1,1,2,3,4"}
    assert flags_of_weights(path, values, given, FLAGS) == taken and values == before
    assert capsys.readouterr().out == f"taken from {path}: --image_size 128 --channel_mult 1,1,2,3,4\n"


@pytest.mark.parametrize(
    "wrong",
    [{"diffusion_steps": "many"}, {"image_size": 10**9}, {"noise_schedule": "steep"}, {"num_heads": [2]}],
    ids=str,
)
def test_a_file_with_impossible_flags_is_refused_by_name(untyped, toy_files, tmp_path, wrong):
    model = carry(toy_files, tmp_path / "model.pt", MODEL_FLAGS | wrong)
    refuse(untyped | {"model_path": model}, f"{model} carries flags that no diffusion model has", *wrong)


def test_a_file_without_flags_needs_them_on_the_command_line(flags, untyped, toy_files, tmp_path):
    torch.save({**torch.load(toy_files / "ddpm.pt")}, tmp_path / "plain.pt")
    assert read_flags(tmp_path / "plain.pt") is None and read_flags(tmp_path / "nowhere.pt") is None
    untyped |= {"model_path": tmp_path / "plain.pt", "image_size": 16, "channel_mult": "1,1"}
    refuse(untyped, "--num_res_blocks is 2", "plain.pt holds num_channels 32, num_res_blocks 1")
    explain(flags | {"model_path": tmp_path / "plain.pt"})
