"""Drawn faces with a planted shortcut: another property that goes with the smile in a given share of the images.

A property is one of CelebA's 40 attributes, or one that none of them names: the colour of the backdrop, or a small
mark in a corner. Each can be switched with all else left alone, because the renderer draws the face again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from tqdm.contrib.concurrent import process_map

from core.data.datasets import CELEBA_ATTRIBUTES, SPLITS
from core.data.images import centre_crop
from demo.faces import VISIBLE_ATTRIBUTES, face_of
from demo.layout import write_layout
from demo.look import BACKDROPS, HAIR, Nuisance
from demo.portrait import draw_portrait
from guided_diffusion.script.storage import write_file, write_folder, write_text

ASKED = "Smiling"
BACKDROP, MARK = "Backdrop", "Mark"
SHORTCUTS = ("Eyeglasses", "Wearing_Hat", "Wearing_Lipstick", "Blond_Hair", BACKDROP, MARK)
PROPERTIES = (*VISIBLE_ATTRIBUTES, BACKDROP, MARK)
SIZE = 64
CLEAN = 50  # percent of the faces in which a shortcut goes with the smile by chance alone
BLUE, YELLOW = 0, 5  # of BACKDROPS: off and on
MARK_COLOUR, MARK_PLACE = (200, 30, 60), slice(1, 7)  # rows and columns of a square in the upper left corner
POOL_SEED, HELD_OUT_SEED, COIN_SEED = 1, 0, 2  # the demo's networks have seen the training split of seed 0 alone
VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class PlantedFace:
    """A drawn face. properties: name -> whether it has it; a backdrop that is not named is one of all colours."""

    properties: Mapping[str, bool]
    nuisance: int

    def switched(self, name, on):
        """The face with one property on or off. A hair colour that is on replaces another, and baldness."""
        replaced = dict.fromkeys((*HAIR, "Bald"), False) if on and name in HAIR else {}
        return replace(self, properties={**self.properties, **replaced, name: on})

    def toggled(self, name):
        return self.switched(name, not self.properties[name])

    def draw(self):
        """An RGB image of SIZE × SIZE."""
        nuisance = Nuisance.from_seed(self.nuisance)
        if BACKDROP in self.properties:
            colour = YELLOW if self.properties[BACKDROP] else BLUE
            nuisance = nuisance._replace(backdrop=(colour + 0.5) / len(BACKDROPS))
        has = frozenset(name for name in CELEBA_ATTRIBUTES if self.properties[name])
        image = centre_crop(draw_portrait(has, nuisance), SIZE)
        if self.properties.get(MARK):
            image.paste(MARK_COLOUR, (MARK_PLACE.start, MARK_PLACE.start, MARK_PLACE.stop, MARK_PLACE.stop))
        return image


def pool_face(k):
    """Face k to train on. Whether it smiles is drawn anew, so that no other attribute goes with it."""
    attributes, nuisance = face_of(POOL_SEED, "train", k)
    smiles = np.random.default_rng([COIN_SEED, k]).random() < 0.5
    return PlantedFace(attributes | {ASKED: bool(smiles)}, nuisance)


def held_out_face(k):
    """Face k to explain: that of the demo's test split, but a coin decides on each of the SHORTCUTS."""
    face = PlantedFace(*face_of(HELD_OUT_SEED, "test", k))
    coins = np.random.default_rng([COIN_SEED, SPLITS["test"], k]).random(len(SHORTCUTS))
    for name, coin in zip(SHORTCUTS, coins, strict=True):
        face = face.switched(name, bool(coin < 0.5))
    return face


# -- to train on -------------------------------------------------------------------------------------------------


def draw_pool(folder, shortcut, count, workers):
    """Draws `count` faces with the shortcut on and off, on/<k>.png and off/<k>.png, unless the folder is there."""
    if folder.exists():
        return
    with write_folder(folder, "on") as part:
        for state in ("on", "off"):
            (part / state).mkdir()
        draw_both, desc = partial(_draw_both, part, shortcut), f"faces for {shortcut}"
        process_map(draw_both, range(count), max_workers=workers, chunksize=8, desc=desc)


def _draw_both(folder, shortcut, k):
    face = pool_face(k)
    for state in ("on", "off"):
        face.switched(shortcut, state == "on").draw().save(folder / state / f"{k:05d}.png")


def choose_from_pool(folder, count, level, seed):
    """Writes the csv of a training set, each face of the pool once -> its path.

    The shortcut is on in `level` percent of the faces that smile, and off in as many of those that do not. A higher
    level of the same seed changes only faces that are still the other way round.
    """
    rng = np.random.default_rng([COIN_SEED, seed])
    smiles = np.array([pool_face(k).properties[ASKED] for k in range(count)])
    agrees = np.empty(count, bool)
    for group in (np.flatnonzero(smiles), np.flatnonzero(~smiles)):
        order = rng.permutation(group)
        agrees[order] = np.arange(len(group)) < round(level / 100 * len(group))
    on = agrees == smiles
    held_back = np.arange(count) >= round((1 - VALIDATION_SHARE) * count)
    names = [f"{'on' if state else 'off'}/{k:05d}.png" for k, state in enumerate(on)]
    partition = np.where(held_back, SPLITS["val"], SPLITS["train"])
    table = pd.DataFrame({"path": names, ASKED: smiles.astype(int), "partition": partition})
    path = folder / f"level-{level}_seed-{seed}.csv"
    write_text(path, table.to_csv(index=False))
    return path


# -- to explain --------------------------------------------------------------------------------------------------


def write_held_out(data_dir, count, workers):
    """Writes the held-out faces in CelebA's layout, as a test split, unless they are there."""
    faces = [held_out_face(k) for k in range(count)]
    rows = ((_name(k), "test", [face.properties[a] for a in CELEBA_ATTRIBUTES]) for k, face in enumerate(faces))

    def write_images(images):
        draw = partial(_draw_held_out, images)
        process_map(draw, range(count), max_workers=workers, chunksize=8, desc="held-out faces")

    write_layout(data_dir, CELEBA_ATTRIBUTES, rows, write_images)


def _draw_held_out(images, k):
    held_out_face(k).draw().save(images / _name(k))


def _name(k):
    return f"{k:05d}.png"


@dataclass(frozen=True)
class Renderings:
    """Held-out faces, and the same with each of the PROPERTIES alone toggled.

    originals: uint8 (N, S, S, 3); toggled: uint8 (N, P, S, S, 3); has: (N, P) booleans of the originals.
    """

    originals: np.ndarray
    toggled: np.ndarray
    has: np.ndarray


def render_held_out(path, count, workers):
    """The Renderings of the first `count` held-out faces, from the npz file where they are there already."""
    if not path.exists():
        rendering = {"max_workers": workers, "chunksize": 8, "desc": "rendered counterfactuals"}
        drawn = np.stack(process_map(_draw_toggled, range(count), **rendering))
        has = [[held_out_face(k).properties[name] for name in PROPERTIES] for k in range(count)]
        arrays = {"originals": drawn[:, 0], "toggled": drawn[:, 1:], "has": np.array(has)}
        write_file(path, lambda file: np.savez(file, **arrays))
    with np.load(path) as arrays:
        return Renderings(**arrays)


def _draw_toggled(k):
    face = held_out_face(k)
    return np.stack([np.asarray(each.draw()) for each in (face, *map(face.toggled, PROPERTIES))])
