import argparse

import pytest
from assertions import refusal
from test_project import parser_of

from guided_diffusion.errors import UserError
from guided_diffusion.script_util import check_ranges
from guided_diffusion.train_flags import FREE_FLAGS, RANGES, TRAIN_FLAGS, check_train_flags, smallest_part

TRAINERS = ["celeba-train-diffusion.py", "celeba-train-classifier.py"]


def given(script, *words):
    return parser_of(script).parse_args(words)


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
        assert f"--{flag} " in refusal(UserError, check_train_flags, given(script, f"--{flag}={value}"))


@pytest.mark.parametrize(
    "flag, value",
    [
        ("dropout", 2), ("dropout", "nan"), ("num_res_blocks", 0), ("num_classes", 0), ("sample_steps", -1),
        ("timestep_respacing", 50),
    ],
)
def test_what_no_ddpm_can_have_is_refused_by_its_flag(flag, value):
    assert f"--{flag} " in refusal(UserError, check_train_flags, given(TRAINERS[0], f"--{flag}={value}"))


@pytest.mark.parametrize("script", TRAINERS)
def test_the_defaults_and_the_ends_of_the_ranges_are_taken(script):
    check_train_flags(given(script))
    flags = vars(given(script))
    for flag, ends in RANGES.items():
        for value in ends:
            if value is not None and flag in flags:
                check_train_flags(given(script, f"--{flag}={value}"))


def test_a_range_is_of_flags_that_are_there():
    known = set().union(*(vars(given(script)) for script in TRAINERS))
    assert set(RANGES) | set(TRAIN_FLAGS) | set(FREE_FLAGS) <= known


def test_a_range_without_an_upper_end_has_none():
    check_ranges(argparse.Namespace(seed=10**30), {"seed": (0, None), "absent": (1, 2)})
    message = refusal(UserError, check_ranges, argparse.Namespace(share=1.5), {"share": (0, 1)})
    assert message == "--share 1.5 must be from 0 to 1"


@pytest.mark.parametrize("batch_size, microbatch, least", [(4, -1, 4), (8, 4, 4), (5, 4, 1), (7, 4, 3), (3, 8, 3)])
def test_the_smallest_part_is_what_a_microbatch_leaves(batch_size, microbatch, least):
    assert smallest_part(argparse.Namespace(batch_size=batch_size, microbatch=microbatch)) == least
