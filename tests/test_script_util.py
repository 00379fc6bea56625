import sys

import pytest
from assertions import refusal
from toy_networks import TINY_FLAGS

from guided_diffusion.gaussian_diffusion import LossType, ModelMeanType, ModelVarType
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import FlagParser
from guided_diffusion.script.run import run_script
from guided_diffusion.script_util import (
    DIFFUSION_FLAGS,
    MODEL_FLAGS,
    args_to_dict,
    create_gaussian_diffusion,
    create_model,
    create_model_and_diffusion,
    model_and_diffusion_defaults,
)

# -- factories ---------------------------------------------------------------------------------------------


def test_every_model_and_diffusion_flag_has_help_and_its_default():
    assert not MODEL_FLAGS.keys() & DIFFUSION_FLAGS.keys()
    assert all(flag.help for flag in (MODEL_FLAGS | DIFFUSION_FLAGS).values())
    defaults = model_and_diffusion_defaults()
    args = FlagParser("The flags of a model.", MODEL_FLAGS | DIFFUSION_FLAGS).parse_args([])
    assert args_to_dict(args, defaults) == defaults
    assert create_model_and_diffusion()[1].num_timesteps == defaults["diffusion_steps"] == 1000


@pytest.mark.parametrize(
    "flags, named",
    [
        ({"image_size": 96, "channel_mult": ""}, "--channel_mult"),
        ({"image_size": 6, "channel_mult": "1,2,2"}, "--image_size"),
        ({"num_channels": 48}, "--num_channels"),
        ({"channel_mult": "0.25,1"}, "--num_channels"),
        ({"num_channels": 64, "norm_groups": 48}, "multiples of 48 (--norm_groups)"),
        ({"channel_mult": "one,two"}, "--channel_mult"),
        ({"attention_resolutions": "3"}, "--attention_resolutions"),
        ({"attention_resolutions": "0"}, "--attention_resolutions"),
        ({"attention_resolutions": "all"}, "--attention_resolutions"),
        ({"image_size": 10, "channel_mult": "1,2", "attention_resolutions": "2.5"}, "--attention_resolutions"),
        ({"dropout": 2.0}, "--dropout 2.0"),
        ({"dropout": -1.0}, "--dropout -1.0"),
        ({"dropout": float("nan")}, "--dropout nan"),
        ({"num_heads": 3}, "--num_heads"),
        ({"num_heads_upsample": 5}, "--num_heads"),
        ({"num_heads": 0}, "--num_heads"),
        ({"class_cond": True, "multiclass": False, "num_classes": 1}, "--num_classes"),
        ({"num_head_channels": 48}, "--num_head_channels"),
        ({"num_head_channels": 128}, "--num_head_channels"),  # more than there are
    ],
)
def test_model_flags_that_contradict_each_other_are_refused_by_name(flags, named):
    assert named in refusal(UserError, lambda: create_model(**TINY_FLAGS | flags))


@pytest.mark.parametrize(
    "flags, named",
    [
        ({"noise_schedule": "sqrt"}, "--noise_schedule"),
        ({"timestep_respacing": "2000"}, "--timestep_respacing"),
        ({"timestep_respacing": "ddim300"}, "--timestep_respacing"),
        ({"timestep_respacing": "many"}, "--timestep_respacing"),
        ({"diffusion_steps": 0}, "--diffusion_steps"),
        ({"diffusion_steps": 10}, "--diffusion_steps"),  # a linear schedule cannot be so short
    ],
)
def test_diffusion_flags_that_cannot_be_are_refused_by_name(flags, named):
    assert named in refusal(UserError, lambda: create_gaussian_diffusion(**flags))


def test_a_flag_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match="num_chanels"):
        create_model_and_diffusion(num_chanels=32)


@pytest.mark.parametrize(
    "flags, attribute, expected",
    [
        ({}, "mean_type", ModelMeanType.EPSILON),
        ({"predict_xstart": True}, "mean_type", ModelMeanType.START_X),
        ({}, "var_type", ModelVarType.FIXED_LARGE),
        ({"sigma_small": True}, "var_type", ModelVarType.FIXED_SMALL),
        ({"learn_sigma": True}, "var_type", ModelVarType.LEARNED_RANGE),
        ({}, "loss_type", LossType.MSE),
        ({"rescale_learned_sigmas": True}, "loss_type", LossType.RESCALED_MSE),
        ({"use_kl": True}, "loss_type", LossType.RESCALED_KL),
        ({"rescale_timesteps": True}, "rescale_timesteps", True),
        ({"timestep_respacing": "25"}, "num_timesteps", 25),
        ({"diffusion_steps": 50, "noise_schedule": "cosine"}, "num_timesteps", 50),
    ],
)
def test_diffusion_flags_decide_the_process(flags, attribute, expected):
    assert getattr(create_gaussian_diffusion(**flags), attribute) == expected


@pytest.mark.parametrize("size, levels", [(64, 4), (128, 5), (256, 6)])
def test_the_usual_widths_follow_from_the_image_size(size, levels):
    model = create_model(image_size=size, num_channels=32, num_res_blocks=1)
    assert len(model.output_blocks) == 2 * levels


# -- how errors are told -----------------------------------------------------------------------------------


def failing(error):
    def main():
        raise error

    return main


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(KeyError):
        run_script(failing(KeyError("weights")))


@pytest.mark.parametrize(
    "error, hint, code, shown",
    [
        (UserError("--tau must be positive"), {}, 2, "error: --tau must be positive"),
        (PermissionError(13, "Permission denied", "out/a.png"), {}, 2, "error: out/a.png: Permission denied"),
        (KeyboardInterrupt(), {}, 130, "interrupted"),
        (KeyboardInterrupt(), {"hint": "it goes on"}, 130, "interrupted; it goes on"),
    ],
)
def test_an_error_of_the_users_or_an_interruption_is_one_line(error, hint, code, shown, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["main.py"])
    with pytest.raises(SystemExit) as caught:
        run_script(failing(error), **hint)
    assert caught.value.code == code
    assert capsys.readouterr().err == f"main.py: {shown}\n"


def test_a_script_that_succeeds_just_returns():
    done = []
    run_script(lambda: done.append(True))
    assert done == [True]
