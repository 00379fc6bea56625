"""What a portrait depends on: the attributes, and for all else numbers that are drawn from the nuisance seed."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from demo.drawing import mirrored, mix, smooth

SKIN = [(247, 211, 184), (243, 203, 172), (232, 184, 148), (215, 160, 122), (184, 127, 90), (141, 93, 66)]
IRIS = [(92, 62, 44), (70, 108, 140), (88, 124, 84), (120, 86, 48), (84, 96, 104)]
OTHER_HAIR = [(158, 64, 38), (182, 92, 46), (122, 40, 44), (140, 78, 60)]
CLOTHES = [
    (62, 84, 122),
    (186, 84, 78),
    (74, 122, 112),
    (226, 206, 178),
    (104, 82, 120),
    (56, 60, 70),
    (206, 150, 80),
    (238, 236, 232),
    (132, 166, 190),
]
HATS = [(178, 68, 64), (52, 72, 106), (216, 170, 88), (78, 110, 92), (116, 84, 116), (74, 74, 82)]
TIES = [(170, 40, 48), (36, 62, 116), (34, 98, 86), (120, 44, 96)]
BACKDROPS = [
    ((214, 226, 232), (158, 184, 202)),
    ((244, 228, 210), (220, 184, 156)),
    ((220, 230, 214), (160, 188, 166)),
    ((234, 222, 234), (188, 168, 198)),
    ((204, 216, 222), (118, 144, 164)),
    ((246, 236, 204), (226, 200, 142)),
    ((240, 218, 216), (208, 156, 154)),
    ((196, 200, 208), (110, 118, 134)),
]
HAIR = {
    "Black_Hair": (44, 38, 42),
    "Blond_Hair": (230, 192, 116),
    "Brown_Hair": (108, 70, 46),
    "Gray_Hair": (184, 186, 192),
}


@dataclass(frozen=True)
class Nuisance:
    """Uniform numbers in [0, 1), one for each property that no attribute decides."""

    skin: float
    skin_hue: float
    width: float
    jaw: float
    roll: float
    scale: float
    shift_x: float
    shift_y: float
    yaw: float
    gaze: float
    iris: float
    eye_size: float
    brow: float
    nose: float
    mouth_curve: float
    mouth_width: float
    mouth_opening: float
    lip_tint: float
    light: float
    hair_hue: float
    hair_tone: float
    hair_volume: float
    hair_length: float
    hair_part: float
    hair_phase: float
    backdrop: float
    backdrop_turn: float
    blob_x: float
    blob_y: float
    blob_size: float
    clothes: float
    collar: float
    shoulders: float
    tie: float
    hat: float
    hat_colour: float
    frame: float
    frame_colour: float
    jewel: float
    makeup: float

    @classmethod
    def from_seed(cls, seed: int) -> Nuisance:
        return cls(*np.random.default_rng(seed).random(len(fields(cls))).tolist())


def between(u: float, low: float, high: float) -> float:
    return low + (high - low) * u


def choice(u: float, options):
    return options[int(u * len(options))]


class Look:
    """The attributes and the nuisance of a portrait, and the colours and outlines that several of its parts use.

    Coordinates: x = 0 is the middle of the face, y is CelebA's row; eyes at (±19.5, 111), mouth at y = 150.
    """

    def __init__(self, attributes: frozenset[str], nuisance: Nuisance):
        self.attributes = attributes
        self.n = nuisance
        self.turn = between(nuisance.yaw, -3.0, 3.0)
        self.light = 1 if nuisance.light < 0.5 else -1
        self.skin = self._skin()
        self.shade = mix(self.skin, (120, 48, 40), 0.30)
        self.deep = mix(self.skin, (84, 30, 30), 0.52)
        self.glow = mix(self.skin, (255, 250, 238), 0.45)
        self.hair = self._hair()
        self.hair_dark = mix(self.hair, (48, 18, 20), 0.34)
        self.hair_light = mix(self.hair, (255, 240, 222), 0.26)
        self.face = self._face()

    def __contains__(self, attribute: str) -> bool:
        return attribute in self.attributes

    def _skin(self):
        at = self.n.skin * (len(SKIN) - 1)
        skin = mix(SKIN[int(at)], SKIN[int(at) + 1], at % 1)
        skin = mix(skin, (236, 170, 140) if self.n.skin_hue < 0.5 else (226, 186, 130), 0.10)
        if "Pale_Skin" in self:
            skin = mix(skin, (255, 239, 229), 0.70)
        return skin if "Young" in self else mix(skin, (196, 160, 140), 0.14)

    def _hair(self):
        named = [HAIR[name] for name in HAIR if name in self]
        colour = named[0] if named else choice(self.n.hair_hue, OTHER_HAIR)
        tone = between(self.n.hair_tone, -0.10, 0.10)
        return mix(colour, (255, 236, 214) if tone > 0 else (20, 10, 20), abs(tone))

    def _face(self) -> np.ndarray:
        """The outline of the head, without the ears."""
        right = np.array(
            [(0, 48), (24, 53), (40, 74), (44, 103), (42, 129), (34, 149), (17, 164), (0, 168.5)], float
        )
        if "Male" in self:
            right[4:] += [(0.5, 2), (3, 3), (4, 2), (0, 1.5)]
        right[5:7, 0] *= between(self.n.jaw, 0.95, 1.05)
        if "Oval_Face" in self:
            right[3:] += [(-2.5, 0), (-4, -1), (-5.5, -1), (-4, 3), (0, 6)]
        if "Chubby" in self:
            right[3:] += [(2, 0), (6, 3), (6.5, 2.5), (6, 3.5), (0, 3)]
        if "Young" not in self:
            right[5:7] += [(1.5, 1.5), (1, 0.5)]
        right[:, 0] *= between(self.n.width, 0.97, 1.03)
        return smooth(mirrored(right), closed=True)

    @property
    def chin(self) -> float:
        """The lowest row of the face."""
        return float(self.face[:, 1].max())

    def cheek(self, y: float) -> float:
        """Half the width of the face at row y."""
        right = self.face[self.face[:, 0] >= 0]
        right = right[np.argsort(right[:, 1])]
        return float(np.interp(y, right[:, 1], right[:, 0]))
