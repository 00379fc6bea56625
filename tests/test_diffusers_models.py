"""Models in diffusers' format, held against diffusers itself."""

import json
import os
import shutil
import sys

import huggingface_hub
import numpy as np
import pytest
import torch
from assertions import assert_near, refusal
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, PNDMScheduler, UNet2DModel
from hub_folders import cache
from main_runs import explain, main_flags, refuse
from pages import module_of
from test_checkpoints import Payload
from toy_networks import MODEL_FLAGS

from guided_diffusion.sampling import SamplingNetwork
from guided_diffusion.schedules import cosine_betas, linear_betas
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag, FlagParser, given_flags
from models import downloads
from models.diffusers_models import (
    OLD_NAMES,
    PICKLED,
    SAFE,
    diffusers_diffusion,
    find_diffusers_model,
    load_diffusers_network,
)
from models.file_flags import flags_of_diffusers

STEPS = 30
NETWORK = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "attention_head_dim": 8,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
SCHEDULER = {"num_train_timesteps": STEPS, "beta_start": 0.01, "beta_end": 0.2}
CONFIG, SCHEDULE = "unet/config.json", "scheduler/scheduler_config.json"


def network(**options):
    torch.manual_seed(0)
    return UNet2DModel(**NETWORK | options).eval()


def pipeline_folder(path, unet=None, scheduler=None):
    """A folder as diffusers saves a pipeline -> its path as text."""
    DDPMPipeline(unet or network(), scheduler or DDPMScheduler(**SCHEDULER)).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder that nobody may change."""
    return pipeline_folder(tmp_path_factory.mktemp("saved") / "ddpm")


@pytest.fixture
def folder(saved, tmp_path):
    return str(shutil.copytree(saved, tmp_path / "ddpm"))


def change(folder, file, **values):
    path = f"{folder}/{file}"
    with open(path) as read:
        config = json.load(read) | values
    with open(path, "w") as write:
        json.dump(config, write)
    return folder


def load(folder, timestep_respacing=""):
    """What main.py makes of a folder -> (network, diffusion)."""
    model = find_diffusers_model(folder)
    return load_diffusers_network(model, 8), diffusers_diffusion(model, timestep_respacing)


def start():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def require_network(unet):
    """It is network(), called as ours is."""
    t = torch.tensor([29, 3])
    assert torch.equal(unet(start(), t), network()(start(), t).sample)


@torch.no_grad()
def theirs(scheduler, unet, **options):
    """The chain of a diffusers scheduler whose timesteps are set."""
    z, generator = start(), torch.Generator().manual_seed(2)
    for t in scheduler.timesteps:
        z = scheduler.step(unet(z, t).sample, t, z, generator=generator, **options).prev_sample
    return z


def ours(folder, timestep_respacing="", clip_denoised=True):
    """Our ancestral chain, with the noise that theirs() draws."""
    unet, diffusion = load(folder, timestep_respacing)
    generator = torch.Generator().manual_seed(2)

    def noise(like):
        return torch.randn(like.shape, generator=generator)

    return diffusion.p_sample_loop(unet, start(), noise, clip_denoised)


# -- the diffusion is diffusers' own ---------------------------------------------------------------------------


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_small_log", "fixed_large", "learned_range"])
def test_an_ancestral_chain_is_that_of_diffusers_scheduler(tmp_path, variance, prediction):
    unet = network(out_channels=6 if variance == "learned_range" else 3)
    scheduler = DDPMScheduler(**SCHEDULER, variance_type=variance, prediction_type=prediction)
    assert_near(ours(pipeline_folder(tmp_path, unet, scheduler)), theirs(scheduler, unet))


def test_without_clipping_it_is_the_same_chain_too(tmp_path):
    scheduler, unet = DDPMScheduler(**SCHEDULER, clip_sample=False), network()
    folder = pipeline_folder(tmp_path, unet, scheduler)
    assert find_diffusers_model(folder).clip is False
    assert_near(ours(folder, clip_denoised=False), theirs(scheduler, unet))


@pytest.mark.parametrize("respacing, spacing", [("ddim10", "leading"), ("10", "linspace")])
def test_a_chain_of_the_same_steps_is_the_same(tmp_path, respacing, spacing):
    scheduler, unet = DDPMScheduler(**SCHEDULER, timestep_spacing=spacing, variance_type="fixed_large"), network()
    folder = pipeline_folder(tmp_path, unet, scheduler)
    scheduler.set_timesteps(10)
    assert load(folder, respacing)[1].timestep_map.tolist() == scheduler.timesteps.flip(0).tolist()
    assert_near(ours(folder, respacing), theirs(scheduler, unet))


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("steps, respacing", [(STEPS, ""), (10, "ddim10")])
@pytest.mark.parametrize("clip", [True, False])
def test_a_ddim_chain_is_that_of_diffusers_scheduler(tmp_path, prediction, steps, respacing, clip):
    """Where clean images are clipped, our noise follows from the clipped one, as with use_clipped_model_output."""
    scheduler, unet = DDIMScheduler(**SCHEDULER, prediction_type=prediction, clip_sample=clip), network()
    ours, diffusion = load(pipeline_folder(tmp_path, unet, scheduler), respacing)
    scheduler.set_timesteps(steps)
    expected = theirs(scheduler, unet, eta=0.0, use_clipped_model_output=clip)
    assert_near(diffusion.ddim_sample_loop(ours, start(), clip_denoised=clip), expected)


TRAINED = list(np.geomspace(1e-3, 0.3, STEPS))


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"beta_schedule": "linear"}, np.linspace(0.01, 0.2, STEPS)),
        ({"beta_schedule": "scaled_linear"}, np.linspace(0.01**0.5, 0.2**0.5, STEPS) ** 2),
        ({"beta_schedule": "squaredcos_cap_v2"}, cosine_betas(STEPS)),
        ({"trained_betas": TRAINED}, TRAINED),
    ],
    ids=["linear", "scaled_linear", "cosine", "own"],
)
@pytest.mark.parametrize("scheduler", [DDPMScheduler, DDIMScheduler, PNDMScheduler])
def test_the_betas_are_the_schedulers(folder, scheduler, options, expected):
    scheduler(**SCHEDULER | options).save_pretrained(f"{folder}/scheduler")
    model = find_diffusers_model(folder)
    np.testing.assert_allclose(model.betas, expected, rtol=1e-5)
    assert model.betas.dtype == np.float64


def test_their_linear_is_ours_of_a_thousand_steps_alone(folder):
    for steps, same in ((1000, True), (500, False)):
        DDPMScheduler(num_train_timesteps=steps).save_pretrained(f"{folder}/scheduler")
        assert np.allclose(find_diffusers_model(folder).betas, linear_betas(steps)) == same


# -- the network -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [torch.float32, torch.bfloat16])
def test_the_network_is_called_as_ours_is(folder, half):
    unet, diffusion = load(folder)
    t = torch.tensor([29, 3])
    expected = network()(start(), t).sample
    assert torch.equal(unet(start(), t), expected)
    found = SamplingNetwork(unet, diffusion, dtype=half)(start(), t)
    assert_near(found, expected, 1e-5 if half is torch.float32 else 0.03)


def test_a_class_conditional_network_is_told_its_classes(tmp_path):
    unet = network(num_class_embeds=5)
    model = find_diffusers_model(pipeline_folder(tmp_path, unet))
    assert model.flags.items() >= {"class_cond": True, "num_classes": 5, "multiclass": False}.items()
    t, y = torch.tensor([29, 3]), torch.tensor([4, 0])
    found = SamplingNetwork(load_diffusers_network(model, 8), diffusers_diffusion(model))(start(), t, y)
    assert_near(found, unet(start(), t, y).sample)
    assert (found - unet(start(), t, y.flip(0)).sample).abs().max() > 1e-3


def at_the_root(folder):
    """Moves the files of unet/ and scheduler/ to the folder itself."""
    for name in ("unet/config.json", f"unet/{SAFE}", "scheduler/scheduler_config.json"):
        shutil.move(f"{folder}/{name}", folder)
    return folder


@pytest.mark.parametrize("index", [True, False])
def test_the_files_may_lie_at_the_root_with_a_pipeline_or_without(folder, index):
    at_the_root(folder)
    if not index:
        os.remove(f"{folder}/model_index.json")
    require_network(load(folder)[0])


def as_pickle(folder, contents):
    torch.save(contents, f"{folder}/unet/{PICKLED}")
    return folder


def test_a_pickle_is_read_where_there_is_no_safetensors_file_and_runs_no_code(folder, tmp_path):
    other = {name: tensor + 1 for name, tensor in network().state_dict().items()}
    as_pickle(folder, other)
    require_network(load(folder)[0])
    os.remove(f"{folder}/unet/{SAFE}")
    assert all(torch.equal(tensor, other[name]) for name, tensor in load(folder)[0].network.state_dict().items())
    as_pickle(folder, {"conv_in.weight": Payload(tmp_path / "ran")})
    message = refusal(UserError, load, folder)
    assert f"{folder}/unet/{PICKLED} is refused" in message and not (tmp_path / "ran").exists()


def test_attention_by_its_old_names_is_the_same(folder):
    def old(name):
        for before, now in OLD_NAMES.items():
            name = name.replace(f".{now}.", f".{before}.")
        return name

    state = network().state_dict()
    renamed = {old(name): tensor for name, tensor in state.items()}
    assert len(renamed.keys() - state.keys()) == 2 * 4 * 4  # of the four attentions
    os.remove(f"{folder}/unet/{SAFE}")
    require_network(load(as_pickle(folder, renamed))[0])


# -- what cannot be mapped is refused by name ------------------------------------------------------------------


@pytest.mark.parametrize(
    "file, values, words",
    [
        (CONFIG, {"in_channels": 1}, "in_channels 1"),
        (CONFIG, {"in_channels": 4, "out_channels": 4}, "in_channels 4"),
        (CONFIG, {"out_channels": 6}, "out_channels 6, which cannot be mapped: a variance_type fixed_small"),
        (CONFIG, {"_class_name": "UNet2DConditionModel"}, "_class_name UNet2DConditionModel"),
        (CONFIG, {"time_embedding_type": "fourier"}, "time_embedding_type fourier"),
        (CONFIG, {"class_embed_type": "timestep"}, "class_embed_type timestep"),
        (CONFIG, {"sample_size": [8, 16]}, "sample_size [8, 16]"),
        (CONFIG, {"sample_size": 0}, "sample_size 0"),
        (SCHEDULE, {"variance_type": "learned"}, "variance_type learned"),
        (SCHEDULE, {"variance_type": "fixed_large_log"}, "variance_type fixed_large_log"),
        (SCHEDULE, {"prediction_type": "flow_prediction"}, "prediction_type flow_prediction"),
        (SCHEDULE, {"thresholding": True}, "thresholding True"),
        (SCHEDULE, {"clip_sample_range": 2.0}, "clip_sample_range 2.0"),
        (SCHEDULE, {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr True"),
        (SCHEDULE, {"_class_name": "ScoreSdeVeScheduler"}, "_class_name ScoreSdeVeScheduler"),
        (SCHEDULE, {"beta_schedule": "quadratic"}, "quadratic"),
        (SCHEDULE, {"trained_betas": [0.1, 0.2]}, "30 (num_train_timesteps)"),
        (SCHEDULE, {"trained_betas": [0.1] * (STEPS - 1) + [1.0]}, "between 0 and 1"),
        (SCHEDULE, {"num_train_timesteps": 0}, "num_train_timesteps 0"),
        (SCHEDULE, {"beta_start": "much"}, "makes no scheduler"),
        ("model_index.json", {"_class_name": "LDMPipeline"}, "_class_name LDMPipeline"),
    ],
)
def test_what_cannot_be_mapped_is_named(folder, file, values, words):
    message = refusal(UserError, find_diffusers_model, change(folder, file, **values))
    assert message.startswith(f"{folder}/{file}") and words in message


def test_a_range_counts_only_where_it_is_used_and_a_learned_variance_needs_outputs(folder):
    assert find_diffusers_model(change(folder, SCHEDULE, clip_sample=False, clip_sample_range=2.0)).clip is False
    message = refusal(UserError, find_diffusers_model, change(folder, SCHEDULE, variance_type="learned_range"))
    assert message.startswith(f"{folder}/{CONFIG} says out_channels 3") and "learned_range needs 6" in message


@pytest.mark.parametrize(
    "missing, words",
    [
        (SCHEDULE, "has no scheduler (scheduler/scheduler_config.json or scheduler_config.json)"),
        (CONFIG, "is a directory without a diffusers network"),
        (f"unet/{SAFE}", f"has no weights ({SAFE} or {PICKLED})"),
    ],
)
def test_a_file_that_is_missing_is_named(folder, missing, words):
    os.remove(f"{folder}/{missing}")
    message = refusal(UserError, find_diffusers_model, folder)
    assert message.startswith(folder) and words in message


@pytest.mark.parametrize("content", ["", "{", "[1]", "\xff"])
@pytest.mark.parametrize("file", [CONFIG, SCHEDULE, "model_index.json"])
def test_a_damaged_configuration_is_named(folder, file, content):
    with open(f"{folder}/{file}", "w", encoding="latin1") as config:
        config.write(content)
    assert refusal(UserError, find_diffusers_model, folder).startswith(f"{folder}/{file}")


@pytest.mark.parametrize("values", [{"block_out_channels": [16, 33]}, {"down_block_types": ["No", "DownBlock2D"]}])
def test_a_configuration_of_no_network_is_named(folder, values):
    message = refusal(UserError, load, change(folder, CONFIG, **values))
    assert message.startswith(f"{folder}/{CONFIG} makes no UNet2DModel")


def test_weights_of_another_configuration_and_a_size_that_cannot_be_halved_are_refused(folder):
    model = find_diffusers_model(folder)
    assert "--image_size 9 cannot be halved 1 times" in refusal(UserError, load_diffusers_network, model, 9)
    message = refusal(UserError, load, change(folder, CONFIG, layers_per_block=2))
    assert message.startswith(f"{folder}/unet/{SAFE} does not fit this UNet2DModel: ") and "missing" in message


def test_a_file_there_or_not_is_no_diffusers_model():
    files = ["model.pt", "models/ddpm.pt", "models/ddpm.safetensors", "/a/b/c", "ddpm", "./runs", "../ddpm"]
    assert [find_diffusers_model(name) for name in files] == [None] * len(files)


def test_without_the_library_a_line_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    remedy = f"{folder} needs diffusers, which is not installed: pip install -r requirements-hub.txt"
    assert refusal(UserError, find_diffusers_model, folder) == remedy


# -- the Hub ---------------------------------------------------------------------------------------------------


def test_a_hub_name_that_cannot_be_had_says_how_to_bring_it(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message = refusal(UserError, find_diffusers_model, "google/ddpm-cat-256")
    assert message.startswith("google/ddpm-cat-256 is no file or folder here, and the Hugging Face Hub did not")
    assert "hf download google/ddpm-cat-256 --local-dir ddpm-cat-256" in message


def test_a_hub_name_in_the_cache_needs_no_network(tmp_path, folder, monkeypatch):
    cache("somebody/ddpm", folder, tmp_path / "cache", monkeypatch)
    model = find_diffusers_model("somebody/ddpm")
    assert model.name == "somebody/ddpm" and model.image_size == 8
    require_network(load_diffusers_network(model, 8))


def test_a_pickle_is_fetched_only_where_the_hub_has_no_safetensors_file(folder, monkeypatch):
    asked = []

    def snapshot_download(name, allow_patterns=None, local_files_only=False):
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("none here")
        asked.append(allow_patterns)
        return folder

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert downloads.hub_folder("some/body", ["config.json"], [f"unet/{SAFE}"], [f"unet/{PICKLED}"]) is not None
    assert asked == [["config.json", f"unet/{SAFE}"]]
    os.remove(f"{folder}/unet/{SAFE}")
    downloads.hub_folder("some/body", ["config.json"], [f"unet/{SAFE}"], [f"unet/{PICKLED}"])
    assert asked[2] == ["config.json", f"unet/{PICKLED}"]


# -- main.py's flags -------------------------------------------------------------------------------------------


def taken(folder, **given):
    """main.py's flags after a command line that gives these, and the files of the folder."""
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    args = module_of("main.py").create_argparser().parse_args(words)
    vars(args).update(flags_of_diffusers(find_diffusers_model(folder), vars(args), set(given)))
    return args


def test_the_files_decide_what_no_flag_says(folder):
    args = taken(folder)
    assert (args.image_size, args.diffusion_steps, args.learn_sigma, args.class_cond) == (8, STEPS, False, False)
    assert args.clip_denoised is True
    change(folder, SCHEDULE, clip_sample=False)
    assert taken(folder).clip_denoised is False
    assert taken(folder, clip_denoised=True).clip_denoised is True
    assert taken(change(folder, CONFIG, sample_size=None), image_size=32).image_size == 32


@pytest.mark.parametrize(
    "given, words",
    [
        ({"image_size": 64}, "--image_size is 64, but {} has image_size 8"),
        ({"diffusion_steps": 1000}, "--diffusion_steps is 1000, but {} has diffusion_steps 30"),
        (
            {"learn_sigma": True, "predict_xstart": True},
            "--learn_sigma is True, --predict_xstart is True, but {} has learn_sigma False, predict_xstart False",
        ),
        ({"rescale_timesteps": True}, "--rescale_timesteps is True"),
        ({"class_cond": True}, "--class_cond is True"),
        ({"noise_schedule": "linear"}, "--noise_schedule is linear, but {} has noise_schedule of its own"),
        ({"noise_schedule": "cosine"}, "--noise_schedule is cosine"),
        ({"num_channels": 128, "dropout": 0.1}, "--dropout, --num_channels: {} is no network of guided-diffusion"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_flag_that_contradicts_the_files_is_named(folder, given, words):
    message = refusal(UserError, lambda: taken(folder, **given))
    assert words.format(folder) in message and "leave" in message


def test_a_flag_that_says_the_same_is_taken(folder):
    DDPMScheduler().save_pretrained(f"{folder}/scheduler")
    same = {"diffusion_steps": 1000, "noise_schedule": "linear", "image_size": 8, "learn_sigma": False}
    assert taken(folder, **same, use_fp16=True, timestep_respacing="25").diffusion_steps == 1000
    change(folder, SCHEDULE, beta_schedule="squaredcos_cap_v2")
    assert "noise_schedule of its own" in refusal(UserError, lambda: taken(folder, noise_schedule="linear"))
    assert taken(folder, noise_schedule="cosine").noise_schedule == "cosine"


def test_the_flags_on_a_command_line_are_told_from_the_defaults(monkeypatch):
    flags = {"seed": Flag(4, ""), "data_dir": Flag(None, ""), "use_fp16": Flag(False, "")}
    monkeypatch.setattr(sys, "argv", ["main.py", "--seed", "4"])
    assert given_flags(FlagParser("A script.", flags, required=("data_dir",))) == {"seed"}


def test_main_explains_with_a_diffusers_folder_and_no_model_flags(toy_files, tmp_path):
    flags = main_flags(toy_files, tmp_path / "out")
    flags = {name: value for name, value in flags.items() if name not in MODEL_FLAGS}
    flags["model_path"] = folder = pipeline_folder(tmp_path / "ddpm", network(sample_size=16))
    records, out = explain(flags | {"use_fp16": True})
    assert "explaining 8 of 8 images" in out and len(records) == 8

    refuse(flags | {"start_step": STEPS}, f"--start_step {STEPS} must be from 1 to {STEPS - 1}")
    refuse(flags | {"num_channels": 32}, "--num_channels", folder)
    change(folder, SCHEDULE, variance_type="fixed_large")
    refuse(flags | {"use_fp16": True}, "--model_path sha256")


def test_a_class_conditional_model_needs_labels_of_its_classes(toy_files, tmp_path):
    flags = main_flags(toy_files, tmp_path / "out")
    flags = {name: value for name, value in flags.items() if name not in MODEL_FLAGS}
    flags["model_path"] = folder = pipeline_folder(tmp_path / "ddpm", network(sample_size=16, num_class_embeds=5))
    refuse(flags, f"{folder} is class-conditional: --num_classes 5 must be 40")
