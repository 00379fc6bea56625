"""The face itself: skin, eyes, brows, nose, mouth, cheeks, and the marks of age."""

import numpy as np

from demo.drawing import ellipse, mix, smooth, symmetric
from demo.look import IRIS, between, choice

EYE = np.array([(-10.5, 1.8), (-5.5, -3.4), (0.5, -5.6), (6.5, -4.2), (11, -0.8), (6.5, 3.0), (0, 4.2), (-6, 3.4)])
EYE_Y, NOSE_Y, MOUTH_Y = 111.0, 133.0, 149.5
LIPSTICK = [(206, 28, 66), (188, 22, 84), (222, 48, 96)]
EYESHADOW = [(112, 72, 150), (64, 104, 148), (150, 62, 104)]


def draw_face(canvas, look):
    """Draws the bare head; returns its mask."""
    canvas.fill(look.face, look.skin)
    head = canvas.mask(look.face)
    side, turn = look.light, look.turn
    canvas.fill(ellipse(-side * 46, 124, 15, 62), look.shade, 0.55, 9, head)
    canvas.fill(ellipse(0, look.chin + 4, 30, 8), look.shade, 0.45, 5, head)
    canvas.fill(ellipse(side * 10 + turn, 84, 22, 10), look.glow, 0.45, 8, head)
    canvas.fill(ellipse(side * 20 + turn, 127, 10, 8), look.glow, 0.30, 5, head)
    canvas.fill(ellipse(turn, look.chin - 7, 8, 4), look.glow, 0.35, 3, head)
    for s in (-1, 1):
        canvas.fill(ellipse(s * 18 + turn, EYE_Y - 3, 14, 8), look.shade, 0.28, 4, head)
    return head


def draw_cheeks(canvas, look, head):
    turn = look.turn
    for s in (-1, 1):
        if "High_Cheekbones" in look:
            hollow = [(43, 126), (34, 135), (25, 143), (28, 147), (38, 143), (43, 136)] * np.array([s, 1])
            hollow = smooth(hollow, closed=True)
            canvas.fill(hollow + [turn, 0], look.deep, 0.48, 2.6, head)
            canvas.fill(ellipse(s * 32 + turn, 123, 8, 3.6), mix(look.glow, (255, 255, 250), 0.3), 0.75, 2.6, head)
        if "Rosy_Cheeks" in look:
            canvas.fill(ellipse(s * 29 + turn, 131, 10.5, 8), mix(look.skin, (232, 62, 84), 0.56), 0.78, 4, head)
        if "Heavy_Makeup" in look:
            canvas.fill(ellipse(s * 33 + turn, 127, 8, 4), mix(look.skin, (206, 74, 104), 0.5), 0.5, 3, head)


def draw_age(canvas, look, head):
    if "Young" in look:
        return
    turn = look.turn
    for y, half in ((78, 17), (84, 20), (90, 16)):
        wrinkle = symmetric([(-half, y + 1), (-half / 2, y - 0.5)], [(0, y + 0.8)])
        wrinkle = smooth(wrinkle + [turn, 0])
        canvas.stroke(wrinkle, 1.7, look.deep, 0.55, clip=head)
    for s in (-1, 1):
        fold = smooth([(s * 11.5, 131), (s * 17, 136), (s * 20.5, 142), (s * 22, 147)])
        canvas.stroke(fold + [turn, 0], 2.2, look.deep, 0.55, clip=head, start=0.3)
        jowl = smooth([(s * 25, 156), (s * 28, 151), (s * 28, 146)])
        canvas.stroke(jowl + [turn, 0], 1.8, look.deep, 0.35, clip=head)
        for dx, y0, y1 in ((41, 105, 102.5), (41.5, 109.5, 109.5), (41, 114, 116.5)):
            crow = smooth([(s * 33 + turn, (y0 + 109.5) / 2), (s * dx + turn, y1)])
            canvas.stroke(crow, 1.3, look.deep, 0.6, clip=head)


def draw_eye(canvas, look, s):
    """Draws the eye on the side s, -1 or 1."""
    n = look.n
    shape = EYE * between(n.eye_size, 0.95, 1.06)
    if "Narrow_Eyes" in look:
        shape = shape * [1.0, 0.52]
    if "Smiling" in look:
        shape = np.where(shape[:, 1:] > 0, shape * [1, 0.68], shape * [1, 0.95])
    centre = np.array([s * 19.5 + look.turn, EYE_Y])
    place = np.array([s, 1.0])
    outline = smooth(shape * place + centre, closed=True)
    upper = smooth(shape[:5] * place + centre)
    lower = smooth(shape[[4, 5, 6, 7, 0]] * place + centre)

    if "Heavy_Makeup" in look:
        shadow = [(-11, 0), (-8, -8), (0, -12), (9, -10.5), (15, -5), (11, -0.5), (0, -4)] * place + centre
        canvas.fill(smooth(shadow, closed=True), choice(n.makeup, EYESHADOW), 0.78, 1.2)
    if "Bags_Under_Eyes" in look:
        bag = [(-9.5, 6), (-4, 5.8), (3, 6.2), (9, 4.6), (7, 9.6), (1, 12.2), (-5, 11)] * place + centre
        canvas.fill(smooth(bag, closed=True), mix(look.deep, (96, 66, 110), 0.4), 0.50, 1.3)
        rim = smooth([(-8, 10), (-3, 12.8), (3, 12.6), (9, 8.6)] * place + centre)
        canvas.stroke(rim, 1.5, look.deep, 0.65)

    eye = canvas.mask(outline)
    canvas.fill(outline, (250, 248, 244))
    iris = choice(n.iris, IRIS)
    at = centre + [between(n.gaze, -1.8, 1.8), -0.7]
    canvas.fill(ellipse(*at, 5.3, 5.3), mix(iris, (10, 8, 12), 0.45), clip=eye)
    canvas.fill(ellipse(*at, 4.4, 4.4), iris, clip=eye)
    canvas.fill(ellipse(*(at + [0, 1.4]), 3.0, 2.4), mix(iris, (255, 240, 210), 0.35), 0.7, 0.8, eye)
    canvas.fill(ellipse(*at, 2.3, 2.3), (18, 14, 18), clip=eye)
    canvas.stroke(upper + [0, 1.2], 3.0, (60, 40, 50), 0.35, 0.8, eye, 0.6, 0.6)
    canvas.fill(ellipse(at[0] + look.light * 1.7, at[1] - 1.8, 1.35, 1.35), (255, 255, 255), clip=eye)

    crease = smooth((shape[1:5] * [1.02, 1.0] + [0, -3.4]) * place + centre)
    canvas.stroke(crease, 1.3, look.deep, 0.65)
    canvas.stroke(lower, 1.0, look.deep, 0.55, start=0.4)
    lash = (36, 24, 28)
    feminine, made_up = "Male" not in look, "Heavy_Makeup" in look
    flick = [(12.8, -3.0)] if feminine else [(11.8, 0.2)]
    lid = smooth(np.concatenate([shape[:5], flick]) * place + centre)
    canvas.stroke(lid, (2.7 if feminine else 1.9) + 1.0 * made_up, lash, start=0.35, peak=0.65)
    if made_up:
        canvas.stroke(lower, 1.5, lash, 0.75, start=0.8)
        wing = smooth([(8, -3.6), (12, -2.6), (16, -5.6)] * place + centre)
        canvas.stroke(wing, 2.2, lash, start=0.9)
    if "Smiling" in look:
        pouch = smooth([(-8, 6.2), (-2, 7.4), (4, 6.8), (9.5, 3.6)] * place + centre)
        canvas.stroke(pouch, 1.3, look.deep, 0.5)


def draw_brows(canvas, look):
    n = look.n
    colour = mix(look.hair, (40, 26, 24), 0.35 if "Gray_Hair" in look else 0.5)
    width = (3.6 if "Male" in look else 2.6) * between(n.brow, 0.92, 1.1)
    if "Bushy_Eyebrows" in look:
        width = width * 1.35 + 2.1
    shape = np.array([(-10, -12.4), (-4, -14.2), (3, -15.2), (9, -14.2), (13.5, -11.6)])
    if "Arched_Eyebrows" in look:
        shape = np.array([(-10, -14.6), (-3.5, -17.2), (4, -20.0), (9.5, -17.8), (15, -11.6)])
    if "Male" in look:
        shape = shape + [0, 1.0]
    for s in (-1, 1):
        curve = smooth(shape * [s, 1] + [s * 19.5 + look.turn, EYE_Y])
        canvas.stroke(curve, width, colour, 0.95, 0.4, start=0.55, end=0.05, peak=0.35)


def draw_nose(canvas, look):
    n, side = look.n, look.light
    x = look.turn * 1.7
    half = between(n.nose, 6.4, 7.6)
    tip = NOSE_Y
    if "Big_Nose" in look:
        half, tip = half + 4.6, tip + 2.2
    if "Pointy_Nose" in look:
        half, tip = half - 1.8, tip + 0.6
    flank = [(4, 108), (3.6, 118), (half - 1, tip - 4), (half + 1.5, tip + 1), (1, tip - 1), (0.5, 118)]
    flank = smooth(flank * np.array([-side, 1]) + [x, 0], closed=True)
    canvas.fill(flank, look.shade, 0.62, 1.2)
    under = np.array([*symmetric([(-half, 0.5), (-half / 2, 3)], [(0, 4.4)]), (0, 1)])
    under = smooth(under + [x, tip], closed=True)
    canvas.fill(under, look.deep, 0.55, 0.8)
    canvas.stroke(smooth([(x, 107), (x + side * 0.8, 118), (x + side, tip - 5)]), 3.4, look.glow, 0.75, 1.0)
    for s in (-1, 1):
        wing = [(half - 1, tip - 4.6), (half + 0.6, tip - 1), (half - 1, tip + 1.6)] * np.array([s, 1])
        wing = smooth(wing + [x, 0])
        canvas.stroke(wing, 1.5, look.deep, 0.75)
        nostril = ellipse(x + s * half * 0.5, tip + 1.2, 1.5 + 0.12 * half, 1.0)
        canvas.fill(nostril, mix(look.deep, (40, 12, 16), 0.5), 0.85)
    if "Big_Nose" in look:
        canvas.fill(ellipse(x + side * 1.2, tip - 3.2, 5.0, 3.8), look.glow, 0.75, 1.4)
    elif "Pointy_Nose" in look:
        edge = smooth([(x - side * 2.4, 112), (x - side * 2.2, tip - 8), (x - side * 1.6, tip - 1), (x, tip + 4)])
        canvas.stroke(edge, 2.1, look.deep, 0.9)
        tip_shape = smooth([(x - half * 0.8, tip + 0.6), (x, tip + 5.2), (x + half * 0.8, tip + 0.6)])
        canvas.stroke(tip_shape, 1.7, look.deep, 0.8)
        canvas.fill(ellipse(x + side * 1.0, tip - 1.6, 1.6, 2.4), mix(look.glow, (255, 255, 255), 0.6), 0.95, 0.6)
    else:
        canvas.fill(ellipse(x + side, tip - 2.2, 2.8, 2.2), look.glow, 0.8, 1.0)


def draw_mouth(canvas, look):
    """Draws a parabola between two corners: clearly up when smiling, level or a little down when not."""
    n, x0 = look.n, look.turn * 1.2
    smiling, parted, big = (name in look for name in ("Smiling", "Mouth_Slightly_Open", "Big_Lips"))
    half = between(n.mouth_width, 18.5, 20.5) if smiling else between(n.mouth_width, 13.5, 15.5)
    corner = between(n.mouth_curve, -5.2, -4.0) if smiling else between(n.mouth_curve, -0.5, 1.3)
    middle = 2.6 if smiling else 0.0
    gap = (between(n.mouth_opening, 7.2, 8.6) if smiling else between(n.mouth_opening, 5.4, 6.6)) if parted else 0.0
    top, bottom = (5.8, 8.0) if big else (3.2, 4.9)
    if smiling:
        top, bottom = top * 0.82, bottom * 0.86

    t = np.linspace(-1, 1, 41)
    bow = 1 - t**2
    x = x0 + half * t
    line = MOUTH_Y + corner * t**2 + middle * bow
    above, below = line - 0.25 * gap * bow**0.7, line + 0.75 * gap * bow**0.7
    cupid = (1 - np.abs(t) ** 1.8) * (1 - 0.30 * np.exp(-((t / 0.14) ** 2)))
    upper, lower = above - top * cupid, below + bottom * bow**0.8

    def band(first, second):
        return np.concatenate([np.stack([x, first], 1), np.stack([x, second], 1)[::-1]])

    tint = mix(look.skin, (172, 72, 70), between(n.lip_tint, 0.38, 0.48) - 0.12 * ("Male" in look))
    if "Wearing_Lipstick" in look:
        tint = choice(n.makeup, LIPSTICK)
    canvas.fill(ellipse(x0, lower.max() + 3.2, half * 0.55, 1.8), look.shade, 0.75, 1.4)
    canvas.fill(band(upper, above), mix(tint, (70, 16, 28), 0.22))
    canvas.fill(band(below, lower), tint)
    glint = ellipse(x0 + look.light * 3, below[20] + bottom * 0.45, half * 0.32, bottom * 0.18)
    canvas.fill(glint, mix(tint, (255, 240, 236), 0.6), 0.7, 0.7)
    if parted:
        inside = canvas.mask(band(above, below))
        canvas.fill(band(above, below), (88, 24, 32))
        canvas.fill(ellipse(x0, below[20] + 0.5, half * 0.5, gap * 0.32), (196, 92, 94), clip=inside)
        teeth = above + 0.55 * gap * bow**0.5
        canvas.fill(band(above, np.minimum(teeth, below)), (252, 250, 244), clip=inside)
    seam = mix(look.deep, (70, 16, 26), 0.65)
    canvas.stroke(np.stack([x, above], 1), 1.5, seam, 0.9, start=0.7, end=0.7)
    for s in (-1, 1):
        end = np.array([x0 + s * half, MOUTH_Y + corner])
        if smiling:
            dimple = smooth(end + np.array([(s * 0.5, -4.0), (s * 3.2, -1.0), (s * 2.6, 3.4)]))
            canvas.stroke(dimple, 1.8, look.deep, 0.6)
            canvas.fill(ellipse(x0 + s * 27, 131, 8, 5.0), look.glow, 0.42, 3.4)
            apple = smooth([(x0 + s * 18, 137), (x0 + s * 23, 139.5), (x0 + s * 30, 139), (x0 + s * 36, 134)])
            canvas.stroke(apple, 2.2, look.shade, 0.55, 0.8)
        else:
            canvas.fill(ellipse(*end, 1.5, 1.0, 12), seam, 0.7, 0.4)
