"""Where in the image the audit sees change: the map, its test, the places, and kinds of change."""

import numpy as np
import pytest
import torch
from toy_audit import NAMES, PATCHES, marked, oracle, write_experiment
from toy_results import write_pair

from core.audit.change_map import box_of, find_regions, map_change, max_t_test, pixels_of, place_of
from core.audit.clusters import cluster_changes
from core.audit.evidence import AuditNetworks, no_pixels
from core.audit.places import judge_places
from core.metrics.batches import Batching
from core.results.layout import Layout
from core.results.reading import read_pairs


def batches(size):
    return Batching(torch.device("cpu"), size)


# -- the test ------------------------------------------------------------------------------------------------------


def test_chance_alone_rarely_makes_any_block_stand_out():
    rng = np.random.default_rng(0)
    alarms = sum((max_t_test(rng.laplace(size=(12, 40))) < 0.05).any() for _ in range(200))
    assert 2 <= alarms <= 20  # 5 % of 200, within three deviations


def test_a_block_that_changes_in_every_image_stands_out_and_one_that_changes_less_does_not():
    rng = np.random.default_rng(1)
    differences = rng.normal(size=(20, 30))
    differences[:, 3] += 2
    differences[:, 4] -= 2
    assert np.flatnonzero(max_t_test(differences) < 0.05).tolist() == [3]
    assert max_t_test(differences[:1]).min() == 1


# -- places in words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows, columns, words",
    [
        ((0, 2), (0, 2), "top left corner"),
        ((14, 16), (13, 16), "bottom right corner"),
        ((2, 4), (2, 4), "top left"),
        ((0, 3), (6, 10), "top"),
        ((7, 9), (0, 3), "left"),
        ((6, 10), (6, 10), "centre"),
        ((12, 16), (0, 16), "bottom"),
        ((0, 16), (0, 3), "left"),
        ((0, 16), (0, 16), "nearly everywhere"),
    ],
)
def test_a_place_has_the_name_that_one_would_give_it(rows, columns, words):
    blocks = np.zeros((16, 16), bool)
    blocks[slice(*rows), slice(*columns)] = True
    assert place_of(blocks) == words
    assert box_of(blocks) == (columns[0] / 16, rows[0] / 16, columns[1] / 16, rows[1] / 16)


def test_adjoining_blocks_are_one_region_and_the_largest_change_comes_first():
    blocks = np.zeros((8, 8), bool)
    blocks[0, 0] = blocks[1, 1] = blocks[6, 6] = blocks[1, 6] = blocks[3, 6] = True
    change = np.ones((8, 8))
    change[6, 6] = 5
    regions = find_regions(blocks, change)
    assert [region.place for region in regions] == ["bottom right", "top left corner", "top right", "right"]
    assert regions[1].share == 2 / 64 and regions[0].change == 5
    assert np.array_equal(pixels_of(regions[0].blocks, 16, 24)[12:14, 18:21], np.ones((2, 3)))
    assert pixels_of(regions[0].blocks, 16, 24).sum() == 6


# -- the map of an experiment --------------------------------------------------------------------------------------


def test_the_map_is_the_mean_of_what_changed_and_the_mark_in_the_corner_shows(tmp_path):
    write_experiment(tmp_path, [("Smiling", "Mark")] * 6 + [("Smiling",)] * 6)
    pairs = read_pairs(Layout(tmp_path, "exp"))
    change_map = map_change(pairs, None, batches(5))
    images = [np.stack([part.numpy().astype(float) for part in pair.pixels()]) for pair in pairs]
    changes = np.stack([cf - x for x, cf in images])
    assert change_map.change == pytest.approx(np.abs(changes).mean((0, 1)))
    assert change_map.signed == pytest.approx(changes.mean((0, 1)))
    assert change_map.change[:2, :2] == pytest.approx(127 / 2) and change_map.images.shape == (12, 16, 16)
    assert [region.place for region in change_map.regions] == ["bottom", "top left corner"]
    for name, region in zip(("Smiling", "Mark"), change_map.regions, strict=True):
        rows, columns = PATCHES[name]
        expected = np.zeros((16, 16), bool)
        expected[rows, columns] = True
        assert np.array_equal(region.blocks, expected)


def test_against_a_control_that_changes_alike_nothing_stands_out(tmp_path):
    write_experiment(tmp_path, [("Smiling", "Mark")] * 12)
    write_experiment(tmp_path, [("Smiling",)] * 12, "control")
    pairs, control = (read_pairs(Layout(tmp_path, name)) for name in ("exp", "control"))
    assert [region.place for region in map_change(pairs, control, batches(4)).regions] == ["top left corner"]
    assert map_change(pairs, pairs, batches(4)).regions == []


def test_p_hangs_on_a_place_that_no_attribute_names(tmp_path):
    write_experiment(tmp_path, [("Smiling", "Mark")] * 12)
    pairs = read_pairs(Layout(tmp_path, "exp"))
    networks = AuditNetworks(lambda x: marked()(x)[:, 0], oracle(), NAMES, 0, batches(5))
    smile = no_pixels(pairs)
    rows, columns = PATCHES["Smiling"]
    smile[:, rows, columns] = True
    (mouth, *_), (corner, *_) = judge_places(map_change(pairs, None, batches(5)), pairs, smile, networks)
    assert mouth.known == 1 and mouth.effect == 0 and not mouth.used
    assert corner.known == 0 and corner.used and corner.effect > 0.5
    assert corner.effect_low <= corner.effect <= corner.effect_high
    assert judge_places(map_change(pairs, pairs, batches(5)), pairs, smile, networks) == []


# -- kinds of change -----------------------------------------------------------------------------------------------


def blobs(*kinds, each=15):
    """Images (n, 8, 8) of change, some of each kind: rows and columns of a square that changes by more or less."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 0.2, (len(kinds) * each, 8, 8))
    for k, (rows, columns) in enumerate(kinds):
        images[k * each : (k + 1) * each, slice(*rows), slice(*columns)] += rng.uniform(5, 50, (each, 1, 1))
    return images


def clusters_of(images):
    return cluster_changes(images, range(len(images)))


def test_images_that_change_in_the_same_places_are_one_cluster():
    clusters = clusters_of(blobs(((0, 2), (0, 2)), ((6, 8), (3, 5)), ((3, 5), (3, 5))))
    assert [cluster.n for cluster in clusters] == [15, 15, 15]
    assert {cluster.place for cluster in clusters} == {"top left corner", "bottom", "centre"}
    assert all(len({row // 15 for row in cluster.examples}) == 1 for cluster in clusters)
    assert [cluster.n for cluster in clusters_of(blobs(((0, 2), (0, 2)), each=40))] == [40]


def test_images_without_a_change_are_in_no_cluster():
    images = blobs(((0, 2), (0, 2)), each=5)
    images[2] = 0
    (cluster,) = clusters_of(images)
    assert cluster.n == 4 and 2 not in cluster.examples and clusters_of(images[2:3]) == []


def test_identical_pairs_change_nowhere(tmp_path):
    for i in range(12):
        write_pair(tmp_path, i, np.full((3, 16, 16), 90), np.full((3, 16, 16), 90))
    change_map = map_change(read_pairs(Layout(tmp_path, "exp")), None, batches(5))
    assert change_map.regions == [] and change_map.change.max() == 0 and clusters_of(change_map.images) == []
