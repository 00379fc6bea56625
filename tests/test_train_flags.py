import argparse

import pytest
from assertions import refusal
from pages import parser_of

from guided_diffusion.script.errors import UserError
from guided_diffusion.training.flags import FREE_FLAGS, TRAIN_FLAGS, check_train_flags, smallest_part

TRAINERS = ["celeba-train-diffusion.py", "celeba-train-classifier.py"]


def flags_of(script):
    """name -> Flag."""
    return parser_of(script).flags


def check(script, *words):
    check_train_flags(parser_of(script).parse_args(["--data_dir", "data", "--output_path", "out", *words]))


@pytest.mark.parametrize("script", TRAINERS)
@pytest.mark.parametrize(
    "flag, values",
    {
        "lr": ["-1", "nan", "inf"],
        "weight_decay": ["-1", "nan"],
        "lr_warmup_steps": ["-1"],
        "lr_anneal_steps": ["-1"],
        "batch_size": ["0", "-1"],
        "microbatch": ["0", "-2"],
        "ema_rate": ["", ",", "2", "1", "-0.1", "nan", "0.9,2", "much"],
        "grad_clip": ["-1", "nan"],
        "precision": ["fp8", ""],
        "log_interval": ["0", "-5"],
        "save_interval": ["0"],
        "keep_checkpoints": ["0", "-1"],
        "seed": ["-1", str(2**32)],
        "num_workers": ["0"],
        "image_size": ["0", "-8"],
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_training_can_have_is_refused_by_its_flag(script, flag, values):
    for value in values:
        assert f"--{flag} " in refusal(UserError, check, script, f"--{flag}={value}")


@pytest.mark.parametrize(
    "flag, value",
    [
        ("dropout", 2),
        ("dropout", "nan"),
        ("num_res_blocks", 0),
        ("num_classes", 0),
        ("sample_steps", -1),
        ("timestep_respacing", 50),
    ],
)
def test_what_no_ddpm_can_have_is_refused_by_its_flag(flag, value):
    assert f"--{flag} " in refusal(UserError, check, TRAINERS[0], f"--{flag}={value}")


@pytest.mark.parametrize("script", TRAINERS)
def test_the_defaults_and_the_ends_of_the_ranges_are_taken(script):
    check(script)
    for name, flag in flags_of(script).items():
        for value in (flag.low, flag.high):
            if value is not None:
                check(script, f"--{name}={value}")


def test_the_flags_of_all_trainers_and_those_that_may_change_are_there():
    for script in TRAINERS:
        assert set(TRAIN_FLAGS) <= flags_of(script).keys()
    assert set(FREE_FLAGS) <= set().union(*map(flags_of, TRAINERS))


@pytest.mark.parametrize("batch_size, microbatch, least", [(4, -1, 4), (8, 4, 4), (5, 4, 1), (7, 4, 3), (3, 8, 3)])
def test_the_smallest_part_is_what_a_microbatch_leaves(batch_size, microbatch, least):
    assert smallest_part(argparse.Namespace(batch_size=batch_size, microbatch=microbatch)) == least
