"""Smooth curves, colours and an antialiased canvas, for drawing the portraits.

Points are float arrays (n, 2) of x, y; colours are RGB triples in 0..255; lengths are image pixels.
"""

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SUPERSAMPLING = 4

_T = np.linspace(0, 1, 7)[:-1, None]
_WEIGHTS = [-_T + 2 * _T**2 - _T**3, 2 - 5 * _T**2 + 3 * _T**3, _T + 4 * _T**2 - 3 * _T**3, -(_T**2) + _T**3]
_CATMULL_ROM = 0.5 * np.hstack(_WEIGHTS)


def colours(codes):
    """The RGB triples of hexadecimal codes, separated by spaces."""
    return [tuple(bytes.fromhex(code)) for code in codes.split()]


def mix(a, b, share):
    """The colour `share` of the way from a to b."""
    return tuple((1 - share) * x + share * y for x, y in zip(a, b, strict=True))


def smooth(points, closed=False):
    """A polyline along the Catmull-Rom spline through the points, six samples to a segment."""
    points = np.asarray(points, float)
    around = (points[-1:], points[:2]) if closed else (points[:1], points[-1:])
    padded = np.concatenate([around[0], points, around[1]])
    windows = np.stack([padded[i : len(padded) - 3 + i] for i in range(4)])
    curve = np.einsum("sk,knd->nsd", _CATMULL_ROM, windows).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


def mirrored(right_half):
    """A closed outline, symmetric about x = 0, from its right half, which starts and ends on the axis."""
    right_half = np.asarray(right_half, float)
    return np.concatenate([right_half, (right_half * [-1, 1])[-2:0:-1]])


def symmetric(side, middle=()):
    """An outline, symmetric about x = 0: the points of one side, those on the axis, and the side mirrored back."""
    return np.array([*side, *middle, *((-x, y) for x, y in side[::-1])], float)


def ellipse(x, y, rx, ry, n=28):
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1)


def resampled(curve, n):
    """n points equally spaced along a polyline."""
    curve = np.asarray(curve, float)
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(curve, axis=0).T))])
    at = np.linspace(0, length[-1], n)
    return np.stack([np.interp(at, length, curve[:, 0]), np.interp(at, length, curve[:, 1])], 1)


def normals(curve):
    tangent = np.gradient(curve, axis=0)
    tangent /= np.maximum(np.hypot(tangent[:, 0], tangent[:, 1]), 1e-6)[:, None]
    return np.stack([-tangent[:, 1], tangent[:, 0]], 1)


def ribbon(curve, width, start=0.0, end=0.0, peak=0.5):
    """The outline of a pen stroke along the curve. It is `width` wide at the share `peak` of its length,
    start · width at the first point, and end · width at the last."""
    curve = np.asarray(curve, float)
    t = np.linspace(0, 1, len(curve))
    rise = np.interp(t, [0, peak, 1], [0, 1, 0])
    ends = np.where(t < peak, start, end)
    half = width / 2 * (ends + (1 - ends) * np.sin(rise * np.pi / 2))
    offset = normals(curve) * half[:, None]
    return np.concatenate([curve + offset, (curve - offset)[::-1]])


class Canvas:
    """An RGB image to fill outlines in. matrix (2, 2), offset (2,): pixel = matrix · point + offset."""

    def __init__(self, image, matrix, offset):
        self.image = image
        self.matrix = np.asarray(matrix, float)
        self.offset = np.asarray(offset, float)

    def fill(self, points, colour, alpha=1.0, soft=0.0, clip=None):
        """Paint the inside of a closed outline. soft: radius of the blur of its edge; clip: a mask() to stay in."""
        coverage, box = self._coverage(points, alpha, soft)
        if coverage is None:
            return
        if clip is not None:
            coverage = ImageChops.multiply(coverage, clip.crop(box))
        self.image.paste(tuple(round(c) for c in colour), box, coverage)

    def stroke(self, curve, width, colour, alpha=1.0, soft=0.0, clip=None, start=0.0, end=0.0, peak=0.5):
        """Paint a tapered pen stroke along a curve; start, end, peak as in `ribbon`."""
        self.fill(ribbon(curve, width, start, end, peak), colour, alpha, soft, clip)

    def mask(self, points):
        """The coverage of a closed outline, as a grey (L) image of the canvas' size."""
        mask = Image.new("L", self.image.size)
        coverage, box = self._coverage(points, 1.0, 0.0)
        if coverage is not None:
            mask.paste(coverage, box)
        return mask

    def _coverage(self, points, alpha, soft):
        points = np.asarray(points, float) @ self.matrix.T + self.offset
        return _coverage(points.tobytes(), alpha, soft, self.image.size)


# Cached, because the renderings of one face share most of their outlines.
@lru_cache(maxsize=1024)
def _coverage(points, alpha, soft, size):
    """(share of each pixel that lies inside the outline, times alpha, as a grey image; the box that it covers).

    points: the bytes of an outline in pixels, float (n, 2). (None, None) where it lies outside the image.
    """
    points = np.frombuffer(points).reshape(-1, 2)
    margin = 1 + 2.5 * soft
    left, top = (max(0, math.floor(v - margin)) for v in points.min(0))
    right, bottom = np.minimum(np.ceil(points.max(0) + margin).astype(int), size).tolist()
    if right <= left or bottom <= top:
        return None, None
    scale = 1 if soft > 1.5 else SUPERSAMPLING
    big = Image.new("L", ((right - left) * scale, (bottom - top) * scale))
    local = (points - (left, top)) * scale - 0.5
    ImageDraw.Draw(big).polygon(local.ravel().tolist(), fill=round(255 * alpha))
    coverage = big.reduce(scale) if scale > 1 else big
    if soft:
        coverage = coverage.filter(ImageFilter.GaussianBlur(soft))
    return coverage, (left, top, right, bottom)
