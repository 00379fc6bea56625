"""Hair, fringe, beard and hat."""

import numpy as np

from demo.drawing import ellipse, mirrored, mix, normals, resampled, smooth, symmetric
from demo.look import HATS, between, choice


def _waved(curve, look, amplitude, wavelength, along=None):
    """The curve with a sine wave added across it, which grows from the crown (row 45) downwards.

    along: each point's position on the sine, in pixels; None: the length along the curve.
    """
    if along is None:
        along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(curve, axis=0).T))])
    swell = np.clip((curve[:, 1] - 45) / 40, 0.45, 1)
    offset = amplitude * swell * np.sin(2 * np.pi * (along / wavelength + look.n.hair_phase))
    return curve + normals(curve) * offset[:, None]


def _outer(look):
    """The outer edge of the hair, from the lower left over the crown to the lower right; wavy hair waves."""
    n = look.n
    lift = 6 * n.hair_volume
    lean = between(n.hair_part, -9, 9)
    if "Male" in look:
        if "Straight_Hair" in look:
            lift -= 1.5
        right = [(30 + lean * 0.3, 49 - lift), (45, 62 - lift * 0.5), (49, 82), (48.5, 98), (45.5, 112)]
        top = [(lean, 41.5 - lift)]
    else:
        end = between(n.hair_length, 172, 214)
        sleek = "Straight_Hair" in look
        out = 0 if sleek else 6
        right = [(32, 48 - lift * 0.6), (48, 68), (52, 96), (53 + out * 0.6, 130), (53 + out, 156)]
        right += [(53 + out * 0.7, end - 8), (50 if sleek else 44, end)]
        top = [(lean * 0.4, 40.5 - lift * 0.8)]
    outer = smooth([(-x, y) for x, y in right[::-1]] + top + right)
    if "Wavy_Hair" in look:
        amplitude, wavelength = (2.8, 13) if "Male" in look else (3.4, 24)
        return _waved(resampled(outer, 150), look, amplitude, wavelength)
    return outer


def _inner(look, receding):
    """The inner edge of the hair, from the lower left over the hairline to the lower right."""
    n = look.n
    part = between(n.hair_part, -12, 12)
    centre, temple = (61.5, 57.5) if receding else (70, 77)
    if "Male" in look:
        tilt = part * 0.27
        crown = [(-27, temple), (-13, centre + 1 + tilt), (0, centre), (13, centre + 1 - tilt), (27, temple)]
        sides = [(41, 112), (41.5, 100), (38.5, 87)]
    else:
        peak = centre + 0.5 if receding else centre - 1.5
        crown = [(-27, temple), (part - 9, centre + 0.5), (part, peak), (part + 9, centre + 0.5), (27, temple)]
        end = between(n.hair_length, 172, 214)
        sides = [(39, end), (41, 160), (43.5, 140), (44, 120), (42, 102), (37.5, 86)]
    return smooth([(-x, y) for x, y in sides] + crown + sides[::-1])


def draw_back_hair(canvas, look):
    if "Male" in look or "Bald" in look:
        return
    canvas.fill(_outer(look), look.hair_dark)


def draw_front_hair(canvas, look, head):
    if "Bald" in look:
        if "Wearing_Hat" not in look:
            canvas.fill(ellipse(look.light * 12, 60, 13, 5), mix(look.glow, (255, 255, 255), 0.4), 0.8, 3, head)
        return
    outer, inner = _outer(look), _inner(look, "Receding_Hairline" in look)
    if "Wavy_Hair" in look and "Male" not in look:
        inner = resampled(inner, 150)
        inner = _waved(inner, look, 1.8, 24, along=inner[:, 1])
    shape = np.concatenate([outer, inner[::-1]])
    canvas.fill(shape + [0, 3.5], look.deep, 0.50, 1.6, head)
    canvas.fill(shape, look.hair)
    hair = canvas.mask(shape)
    canvas.fill(ellipse(-look.light * 54, 100, 16, 70), look.hair_dark, 0.55, 8, hair)
    _draw_strands(canvas, look, outer, _inner(look, receding=False), hair)
    if "Bangs" in look:
        _draw_bangs(canvas, look, head)


def _draw_strands(canvas, look, outer, inner, hair):
    """Draws lines between the outer and the inner edge of the hair, and a sheen across the crown."""
    count = 90
    outer, inner = resampled(outer, count), resampled(inner, count)
    between_them = [outer * (1 - f) + inner * f for f in (0.2, 0.4, 0.6, 0.8)]
    sheen = resampled(smooth([(-34, 70), (-22, 56), (0, 50), (22, 56), (34, 70)]), 40)
    lit = sheen[18:34] if look.light > 0 else sheen[6:22]
    canvas.stroke(lit, 7, look.hair_light, 0.75, 2.0, hair)
    if "Straight_Hair" in look:
        for curve, colour in zip(between_them, (look.hair_dark, look.hair_light) * 2, strict=True):
            canvas.stroke(curve[2:42], 1.6, colour, 0.6, clip=hair, start=0.9, peak=0.3)
            canvas.stroke(curve[48:-2], 1.6, colour, 0.6, clip=hair, end=0.9, peak=0.7)
    elif "Wavy_Hair" in look:
        amplitude, wavelength = (1.9, 13) if "Male" in look else (2.6, 24)
        for curve, colour in zip(between_them[::2], (look.hair_dark, look.hair_light), strict=True):
            wave = _waved(resampled(curve, 150), look, amplitude, wavelength)
            canvas.stroke(wave[4:-4], 2.4, colour, 0.8, clip=hair, start=0.6, end=0.6)
    else:
        canvas.stroke(between_them[1][4:40], 1.8, look.hair_dark, 0.4, clip=hair)
        canvas.stroke(between_them[1][50:-4], 1.8, look.hair_dark, 0.4, clip=hair)


def _draw_bangs(canvas, look, head):
    lean = between(look.n.hair_part, -3, 3)
    hem = symmetric([(38, 97), (30, 95.5), (20, 93), (10, 94.5)], [(0, 92.5)])
    hem[2:7, 0] += lean
    crown = symmetric([(-43, 94), (-42, 76), (-26, 58)], [(0, 52)])
    shape = smooth(np.concatenate([crown, hem]), closed=True)
    canvas.fill(shape + [0, 3], look.deep, 0.5, 1.6, head)
    canvas.fill(shape, look.hair)
    for x in (-30, -17, -5, 7, 19, 31):
        lock = smooth([(x * 0.45, 58), (x * 0.8, 74), (x + lean, 92)])
        canvas.stroke(lock, 2.0, look.hair_light if x * look.light > 6 else look.hair_dark, 0.55, end=0.3, peak=0.6)


def draw_beard(canvas, look, head):
    """Draws all that grows below the nose. The lips are painted over it later."""
    turn, chin = look.turn, look.chin
    beard = mix(look.hair, (30, 20, 22), 0.22)
    if "5_o_Clock_Shadow" in look:
        stubble = mix(mix(look.skin, look.hair_dark, 0.55), (70, 78, 96), 0.35)
        jaw = symmetric([(-41, 128), (-30, 141), (-17, 139)], [(0, 137)])
        jaw = np.concatenate([jaw, symmetric([(44, 150), (26, chin + 3)], [(0, chin + 4)])])
        jaw = smooth(jaw, closed=True)
        canvas.fill(jaw + [turn * 0.5, 0], stubble, 0.58, 3.6, head)
    if "No_Beard" not in look:
        edge = look.face[look.face[:, 1] > 112]
        edge = (edge[np.argsort(edge[:, 0])] - [0, 140]) * [1.02, 1.03] + [0, 140]
        lip = symmetric([(42, 112), (37, 126), (29, 139), (22, 150), (13, 157)], [(0, 158.5)])
        canvas.fill(np.concatenate([edge, smooth(lip) + [turn * 0.7, 0]]), beard, 0.80, 0.9)
    if "Goatee" in look:
        patch = mirrored([(0, 156), (7, 157.5), (13, 155), (14, 163), (9, chin + 3), (0, chin + 6)])
        patch = smooth(patch, closed=True)
        canvas.fill(patch + [turn, 0], beard, 0.97, 0.6)
        canvas.stroke(smooth([(turn - 5, 162), (turn - 3, chin), (turn, chin + 4)]), 1.4, look.hair_light, 0.4)
    if "Mustache" in look:
        half = smooth([(0, 140.5), (7, 139.2), (14, 142.5), (20, 149.5), (12, 148.2), (5, 147), (0, 146.2)])
        shape = np.concatenate([half, (half * [-1, 1])[::-1]])
        canvas.fill(shape + [turn * 1.3, 0], beard, 0.97, 0.5)


def draw_sideburns(canvas, look):
    if "Sideburns" not in look:
        return
    colour = mix(look.hair, (30, 20, 22), 0.22)
    for s in (-1, 1):
        x = look.cheek(126)
        edge = [(x + 3, 98), (x + 2, 126), (x - 1, 139), (x - 7.5, 137), (x - 6.5, 122), (x - 5, 98)]
        shape = smooth(edge * np.array([s, 1]), closed=True)
        canvas.fill(shape, colour, 0.97, 0.6)


def draw_hat(canvas, look, head):
    if "Wearing_Hat" not in look:
        return
    colour = choice(look.n.hat_colour, HATS)
    dark, pale = mix(colour, (20, 14, 30), 0.32), mix(colour, (255, 250, 240), 0.22)
    canvas.fill(ellipse(0, 88, 42, 7), look.deep, 0.5, 2.5, head)
    if look.n.hat < 0.5:
        _draw_beanie(canvas, look, colour, dark, pale)
    else:
        _draw_brimmed_hat(canvas, look, colour, dark, pale)


def _draw_beanie(canvas, look, colour, dark, pale):
    dome = smooth([(-53, 82), (-54, 62), (-42, 40), (-18, 27), (0, 25), (18, 27), (42, 40), (54, 62), (53, 82)])
    canvas.fill(dome, colour)
    crown = canvas.mask(dome)
    canvas.fill(ellipse(-look.light * 50, 56, 18, 40), dark, 0.6, 8, crown)
    for x in (-34, -12, 12, 34):
        canvas.stroke(smooth([(x * 0.35, 27), (x * 0.9, 45), (x * 1.1, 72)]), 1.8, dark, 0.5, end=1, peak=0.9)
    cuff = smooth([(-55, 68), (0, 64), (55, 68), (56, 76), (54, 87), (0, 83), (-54, 87), (-56, 76)], closed=True)
    canvas.fill(cuff, pale)
    for x in range(-48, 49, 8):
        canvas.stroke(smooth([(x, 68), (x * 1.01, 84)]), 1.4, dark, 0.35, start=0.5, end=0.5)
    canvas.stroke(smooth([(-54, 87), (0, 83.5), (54, 87)]), 1.8, dark, 0.6)


def _draw_brimmed_hat(canvas, look, colour, dark, pale):
    dome = smooth(symmetric([(-52, 80), (-51, 60), (-45, 36), (-26, 25), (-8, 28)]))
    canvas.fill(dome, colour)
    crown = canvas.mask(dome)
    canvas.fill(ellipse(-look.light * 48, 54, 17, 42), dark, 0.6, 8, crown)
    canvas.fill(ellipse(look.light * 22, 40, 10, 9), pale, 0.6, 5, crown)
    band = smooth([(-52, 62), (0, 67), (52, 62), (53, 76), (0, 81), (-53, 76)], closed=True)
    canvas.fill(band, dark, clip=crown)
    top = symmetric([(-78, 78), (-60, 75), (-30, 77)], [(0, 78)])
    brim = smooth(np.concatenate([top, symmetric([(66, 86), (34, 88.5)], [(0, 89)])]), closed=True)
    canvas.fill(brim, mix(colour, pale, 0.5))
    canvas.stroke(smooth([(-74, 82), (-34, 88), (0, 88.5), (34, 88), (74, 82)]), 2.4, dark, 0.7)
