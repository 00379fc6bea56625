"""What a portrait depends on: the attributes, and for all else numbers that are drawn from the nuisance seed."""

from collections import namedtuple

import numpy as np

from demo.drawing import colours, mirrored, mix, smooth

SKIN = colours("f7d3b8 f3cbac e8b894 d7a07a b87f5a 8d5d42")
IRIS = colours("5c3e2c 466c8c 587c54 785630 546068")
OTHER_HAIR = colours("9e4026 b65c2e 7a282c 8c4e3c")
CLOTHES = colours("3e547a ba544e 4a7a70 e2ceb2 685278 383c46 ce9650 eeece8 84a6be")
HATS = colours("b24440 34486a d8aa58 4e6e5c 745474 4a4a52")
TIES = colours("aa2830 243e74 226256 782c60")
PALE = colours("d6e2e8 f4e4d2 dce6d6 eadeea ccd8de f6eccc f0dad8 c4c8d0")
DARK = colours("9eb8ca dcb89c a0bca6 bca8c6 7690a4 e2c88e d09c9a 6e7686")
BACKDROPS = list(zip(PALE, DARK, strict=True))
NAMED_HAIR = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
HAIR = dict(zip(NAMED_HAIR, colours("2c262a e6c074 6c462e b8bac0"), strict=True))

NUISANCES = """
    skin skin_hue width jaw roll scale shift_x shift_y yaw gaze iris eye_size brow nose mouth_curve
    mouth_width mouth_opening lip_tint light hair_hue hair_tone hair_volume hair_length hair_part hair_phase
    backdrop backdrop_turn blob_x blob_y blob_size clothes collar shoulders tie hat hat_colour frame
    frame_colour jewel makeup
"""


class Nuisance(namedtuple("Nuisance", NUISANCES)):
    """Uniform numbers in [0, 1), one for each property that no attribute decides."""

    @classmethod
    def from_seed(cls, seed):
        return cls(*np.random.default_rng(seed).random(len(cls._fields)).tolist())


def between(u, low, high):
    return low + (high - low) * u


def choice(u, options):
    return options[int(u * len(options))]


class Look:
    """The attributes and the nuisance of a portrait, and the colours and outlines that several of its parts use.

    Coordinates: x = 0 is the middle of the face, y is CelebA's row; eyes at (±19.5, 111), mouth at y = 150.
    """

    def __init__(self, attributes, nuisance):
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

    def __contains__(self, attribute):
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

    def _face(self):
        """The outline of the head, without the ears."""
        right = [(0, 48), (24, 53), (40, 74), (44, 103), (42, 129), (34, 149), (17, 164), (0, 168.5)]
        right = np.array(right, float)
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
    def chin(self):
        """The lowest row of the face."""
        return float(self.face[:, 1].max())

    def cheek(self, y):
        """Half the width of the face at row y."""
        right = self.face[self.face[:, 0] >= 0]
        right = right[np.argsort(right[:, 1])]
        return float(np.interp(y, right[:, 1], right[:, 0]))
