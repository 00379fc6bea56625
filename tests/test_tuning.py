"""main.py --tune: which settings are tried, which are chosen, and what is written."""

import re
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from main_runs import explain, refuse
from PIL import Image
from scripts import call_script, contents, output_of

from core.data.image_lists import ImageFiles
from core.running.experiment import image_loader
from core.running.explainer import Settings
from core.running.networks import Networks
from core.running.question import attribute_question
from core.running.run import Run
from core.running.tuning import (
    TOLERATED,
    Trial,
    _Tuner,
    best_of,
    candidates,
    in_turns,
    search,
    with_changes,
)
from guided_diffusion.script_util import create_gaussian_diffusion

DIFFUSION = create_gaussian_diffusion(diffusion_steps=200, timestep_respacing="20")
GIVEN = Settings(method="inversion", tau=14, classifier_scales=(2.0, 4.0), l1_loss=0.1)
LEADS = [float(lead) for lead in range(11)]


def trial(outlasted, l1, **changed):
    return Trial(changed, 1.0, outlasted, l1, 20.0)


# -- which settings ------------------------------------------------------------------------------------------------


def test_candidates_are_multiples_of_what_is_given_and_margins_of_real_leads():
    found = candidates(GIVEN, LEADS, DIFFUSION)
    assert list(found)[0] == "margin" and found["margin"] == [5.0, 9.0, 18.0, 27.0]
    assert found["start_step"] == [7]  # 21 is more than the diffusion has
    assert found["classifier_scales"] == [(0.5, 1.0), (1.0, 2.0), (4.0, 8.0), (8.0, 16.0)]
    assert found["l1_loss"] == [0, 0.05, 0.2, 0.4] and found["growth"] == [1.0, 1.5]


def test_a_method_is_tuned_by_the_flags_that_it_has():
    found = candidates(Settings(method="dime", tau=4, l1_loss=0.0), LEADS, DIFFUSION)
    assert list(found) == ["start_step", "classifier_scales"]
    found = candidates(Settings.of(method="maskdime", tau=1, mask_share=0.1, l1_loss=0.2), LEADS, DIFFUSION)
    assert found["mask_share"] == [0.05, 0.2] and 0 not in found["start_step"]
    assert candidates(Settings(method="inversion", tau=2), LEADS, DIFFUSION)["start_step"] == [3, 4]


@pytest.mark.parametrize(
    "given, depths",
    [
        ({"method": "inversion", "tau": 6, "mask_warm_up": 4}, [9, 12]),  # not 3, of which 4 would have no mask
        ({"method": "dime", "tau": 6, "inner_steps": 4}, [9, 12]),
        ({"method": "ace", "tau": 4, "kept_steps": 3}, [6, 8]),
        ({"method": "dime", "tau": 6}, [3, 9, 12]),
        ({"method": "inversion", "tau": 10}, [5, 15]),  # not 20: of 20 steps the deepest chain has 19
    ],
)
def test_depths_at_which_the_given_flags_are_impossible_are_not_tried(given, depths):
    assert candidates(Settings.of(**given), LEADS, DIFFUSION)["start_step"] == depths


def test_classes_that_stand_one_after_the_other_take_turns():
    assert in_turns([2, 2, 2, 0, 0, 1]) == [0, 3, 5, 1, 4, 2] and in_turns([]) == []


def test_changed_flags_become_settings():
    settings = with_changes(GIVEN, {"start_step": 5, "margin": 3.0, "l1_loss": 0})
    assert (settings.tau, settings.l1_loss, settings.sampler_options) == (5, 0, {"margin": 3.0})
    assert settings.classifier_scales == GIVEN.classifier_scales and GIVEN.sampler_options == {}


# -- which is chosen -----------------------------------------------------------------------------------------------


def test_the_smallest_change_that_outlasts_noise_often_enough_is_chosen():
    small, enough, large = trial(0.5, 0.001), trial(0.82, 0.003), trial(1.0, 0.02)
    assert best_of([small, large, enough], 0.8) is enough
    assert best_of([small, large, enough], 0.9) is large
    assert best_of([small, trial(0.7, 0.01)], 0.9).outlasted == 0.7  # none is good enough
    assert best_of([small, large], 0.4) is small


def test_the_search_goes_on_from_the_best_of_each_flag():
    tried = []

    def try_out(changed):
        tried.append(changed)
        outlasted = 0.4 + 0.4 * (changed.get("a") == 2)
        return trial(outlasted, 0.01 - 0.002 * changed.get("b", 0), **changed)

    best, trials = search({"a": [1, 2], "b": [3, -1]}, try_out, 0.8)
    assert tried == [{}, {"a": 1}, {"a": 2}, {"a": 2, "b": 3}, {"a": 2, "b": -1}]
    assert best.changed == {"a": 2, "b": 3} and best.words == "--a 2 --b 3" and [t.changed for t in trials] == tried
    assert trial(1, 1, classifier_scales=(0.5, 12.0)).words == "--classifier_scales 0.5,12"


# -- one trial, of stand-ins whose answers are known ---------------------------------------------------------------

BRIGHT, DARK = 192, 64  # grey levels of the images
WHOLE = create_gaussian_diffusion(diffusion_steps=200)


class ToBrightness(torch.nn.Module):
    """A denoiser that takes everything for the same grey image, brighter than the middle."""

    def __init__(self):
        super().__init__()
        self.grey = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, z, t):
        abar = torch.tensor(WHOLE.alphas_cumprod)[t].float()[:, None, None, None]
        return (z - abar.sqrt() * self.grey) / (1 - abar).sqrt()


def classify(images):
    return 10 * images.mean((1, 2, 3))


def mirror(diffusion, model_fn, x, guidance, *, callback, **_):
    """A sampler: a counterfactual mirrors the brightness, but for images with a black corner, which stay."""
    model_fn(x, torch.zeros(len(x), dtype=torch.long))
    return torch.where(x[:, :, :1, :1] < -0.99, x, -x)


@pytest.fixture
def stand_ins(tmp_path):
    """A _Tuner of five images, with what it is made of: two bright, two dark, and a dark one that never flips."""
    paths = []
    for number, (grey, corner) in enumerate(
        [(BRIGHT, None), (BRIGHT, None), (DARK, None), (DARK, None), (DARK, 0)]
    ):
        pixels = np.full((8, 8, 3), grey, np.uint8)
        pixels[0, 0] = grey if corner is None else corner
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(pixels).save(paths[-1])
    networks = Networks(ToBrightness(), WHOLE, None, classify, None, None, None, {}, torch.device("cpu"))
    settings, data = Settings(method=mirror, tau=6, classifier_scales=(1.0, 2.0)), ImageFiles(paths, 8)
    load = image_loader(Run(None, {}, attribute_question("Bright")), data, networks)
    return SimpleNamespace(data=data, networks=networks, tuner=_Tuner(settings, networks, load, [*range(5)], 2))


def test_a_trial_is_the_means_over_all_images_of_what_is_known(stand_ins):
    found = stand_ins.tuner.trial({"l1_loss": 0.5}, mock.Mock())
    assert found.reached == pytest.approx(4 / 5)  # all but the one that stays
    assert found.outlasted == pytest.approx(2 / 5)  # noise makes all bright: it keeps those that became so
    change = np.mean([2 * abs(grey - 127.5) / 255 for grey in (BRIGHT, BRIGHT, DARK, DARK)]) * 4 / 5
    assert found.l1 == pytest.approx(change, abs=0.005)  # in 8 bits
    assert found.evaluations == pytest.approx((4 + 2) / 5)  # the one that stays is tried twice
    assert found.changed == {"l1_loss": 0.5}


@pytest.mark.parametrize("grey, share", [(0.5, 2 / 5), (-0.5, 3 / 5)])
def test_real_images_outlast_noise_as_often_as_it_leaves_their_class(stand_ins, grey, share):
    stand_ins.networks.unet.grey.data.fill_(grey)  # everything is taken for a bright image, or for a dark one
    assert stand_ins.tuner.real_images_outlast() == pytest.approx(share)


def test_leads_are_the_logits_of_the_predictions(stand_ins):
    bright, dark = (abs(10 * (grey / 127.5 - 1)) for grey in (BRIGHT, DARK))
    assert stand_ins.tuner.leads()[:4] == pytest.approx([bright, bright, dark, dark], abs=1e-4)


# -- main.py -------------------------------------------------------------------------------------------------------


@pytest.fixture
def flags(flags):
    return flags | {"method": "inversion", "classifier_scales": "5,100", "tune": 2}


def test_it_says_what_it_costs_writes_flags_for_the_command_and_explains_nothing(flags):
    out = output_of(call_script("main.py", flags))
    experiment = flags["output_path"] / "Results/exp"
    settings, most = re.search(
        r"tuning on 2 images of val: (\d+) settings of margin.* at most ([\d,]+)", out
    ).groups()
    trials = pd.read_csv(experiment / "tuned.csv").fillna({"changed": ""})
    assert len(trials) == int(settings) and trials["changed"][0] == ""
    noise = 2 * flags["start_step"] * 2 * (len(trials) + 1)
    assert trials["evaluations"].sum() * 2 + noise <= int(most.replace(",", ""))
    assert {path.name for path in experiment.iterdir()} == {"tuned.txt", "tuned.csv"}
    assert not (flags["output_path"] / "Original").exists()

    words = (experiment / "tuned.txt").read_text()
    (best,) = trials[trials["changed"] == words.strip()].drop_duplicates().itertuples()
    kept = float(re.search(r"real images keep their prediction through noise: ([\d.]+)", out)[1])
    enough = trials[trials["outlasted"] >= kept - TOLERATED - 0.005]
    if enough.empty:
        assert best.outlasted == trials["outlasted"].max()
    else:
        assert best.l1 == enough["l1"].min()
    found = dict(word.split() for word in words.split("--")[1:])
    records, _ = explain({name: value for name, value in flags.items() if name != "tune"} | found)
    assert len(records) == 8


@pytest.mark.slow
def test_the_same_settings_are_found_with_any_batch_size(flags):
    tables = []
    for batch_size in (1, 3):
        own = flags | {"batch_size": batch_size, "exp_name": f"exp{batch_size}", "method": "dime", "tune": 4}
        assert call_script("main.py", own)[0] == 0
        table = pd.read_csv(flags["output_path"] / f"Results/exp{batch_size}/tuned.csv")
        tables.append(table.drop(columns="of"))
    pd.testing.assert_frame_equal(*tables, atol=1e-4)
    assert len(tables[0]) > 8 and tables[0]["outlasted"].nunique() > 1


def test_what_cannot_be_tuned_is_one_line_and_leaves_nothing(flags, tmp_path):
    before = contents(tmp_path)
    for split in ("test", "all"):
        refuse(flags | {"split": split}, f"--tune 2 on --split {split}")
    refuse(flags | {"num_chunks": 2}, "--tune 2", "leave out --num_chunks 2")
    refuse(flags | {"tune": -1}, "--tune -1")
    (tmp_path / "file").write_text("")
    refuse(flags | {"output_path": tmp_path / "file"}, "--output_path", "file")
    (tmp_path / "file").unlink()
    assert contents(tmp_path) == before
