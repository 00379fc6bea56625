"""Where colours go with p: the test, its figures, and what audit.py makes of a mark that no attribute names."""

import numpy as np
import pytest
import torch
from test_audit_script import audited
from test_contrasts import shuffled, write_pictures
from toy_audit import write_experiment

from core.audit.colours import judge_colours, map_colours

N, B = 300, 6


def made_up(seed=0):
    """(coins (N,), attributes (N, 2), colours (N, 3, B, B)): grey noise, and a block that is red for the coins."""
    rng = np.random.default_rng(seed)
    coins, has = rng.random(N) < 0.5, rng.random((N, 2)) < 0.4
    colours = rng.normal(0, 0.1, (N, 3, B, B))
    colours[:, 0, 0, 0] += coins
    return coins, has, colours


def test_a_block_whose_colour_p_goes_with_is_found_with_its_effect_and_no_other():
    coins, has, colours = made_up()
    noise = 0.05 * np.random.default_rng(1).random(N)
    colour_map = map_colours(0.2 + 0.3 * coins + 0.4 * has[:, 0] + noise, has, colours)
    assert colour_map.effect[0, 0] == pytest.approx(0.3, abs=0.02) and colour_map.p[0, 0] < 0.001
    assert [(region.place, region.blocks.sum()) for region in colour_map.regions] == [("top left corner", 1)]


def test_what_an_attribute_tells_is_not_blamed_on_its_colour():
    coins, has, colours = made_up()
    with_it = np.column_stack([has, coins])
    colour_map = map_colours(0.2 + 0.3 * coins + 0.05 * np.random.default_rng(1).random(N), with_it, colours)
    assert colour_map.regions == [] and colour_map.effect[0, 0] < 0.05


@pytest.mark.parametrize("count, uneven", [(3, False), (24, False), (3, True)])
def test_chance_alone_rarely_makes_any_block_stand_out(count, uneven):
    """Neither with many attributes, nor where p and the colours both vary in a few images alone."""
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(100):
        has, colours = rng.random((150, count)) < 0.3, rng.normal(size=(150, 3, 4, 4))
        p = (rng.random(150) < 0.5).astype(float)
        if uneven:
            p, colours = p * has[:, 0], colours * np.where(has[:, 0], 5, 0.2)[:, None, None, None]
        alarms += (map_colours(p, has, colours).p < 0.05).any()
    assert 1 <= alarms <= 12  # 5 % of 100, within three deviations


def test_few_images_colours_that_never_vary_and_places_that_are_known_say_nothing():
    coins, has, colours = made_up()
    assert map_colours(coins[:49].astype(float), has[:49], colours[:49]) is None
    constant = np.zeros_like(colours)
    colour_map = map_colours(coins.astype(float), has, constant)
    assert colour_map.effect.max() == 0 and colour_map.p.min() == 1
    assert judge_colours(None, torch.zeros(1, 6, 6)) == []
    colour_map = map_colours(0.3 * coins.astype(float), has, colours)
    taken = torch.zeros(8, 12, 12, dtype=torch.bool)
    taken[0] = True  # in one of eight images
    (place,) = judge_colours(colour_map, taken)
    assert place.used and place.known == 0 and place.box == (0, 0, 1 / 6, 1 / 6)
    taken[1, :2, :2] = True
    (place,) = judge_colours(colour_map, taken)
    assert not place.used and place.known == 1


def test_a_mark_that_no_counterfactual_shows_is_found_in_images_as_they_are(tmp_path):
    data = write_pictures(tmp_path / "data", shuffled(120, "Smiling", "Eyeglasses", "Young", "Mark"))
    write_experiment(tmp_path, [("Smiling",)] * 12)
    flags = {"classifier_path": "toy_audit:marked", "data_dir": data, "split": "all"}
    out, findings, rows = audited(tmp_path, "exp", **flags)
    assert "its answer goes with the colour of the top left corner (1.6 % of the image; by 0." in out
    assert [(place["place"], place["used"]) for place in findings["colours"]] == [("top left corner", True)]
    assert not any(row["named"] == "True" for row in rows)
    with np.load(tmp_path / "Results/exp/audit/map.npz") as arrays:
        assert arrays["colour_effect"].argmax() in (0, 1, 16, 17) and arrays["colour_p"][8, 8] > 0.05
    assert audited(tmp_path, "exp", **flags | {"classifier_path": "toy_audit:clean"})[1]["colours"] == []
