"""A portrait from 40 attributes and a nuisance.

Flipping an attribute and keeping the nuisance gives the true counterfactual of a face: nothing changes that does
not belong to the attribute.
"""

import numpy as np
from PIL import Image

from demo.drawing import Canvas, ellipse, mix, smooth, symmetric
from demo.features import draw_age, draw_brows, draw_cheeks, draw_eye, draw_face, draw_mouth, draw_nose
from demo.hair import draw_back_hair, draw_beard, draw_front_hair, draw_hat, draw_sideburns
from demo.look import BACKDROPS, CLOTHES, TIES, Look, between, choice

SIZE = (178, 218)
PIVOT = np.array([0.0, 120.0])
FRAMES = [(38, 34, 40), (92, 50, 36), (120, 30, 48), (34, 54, 92)]
JEWELS = [(250, 206, 84), (244, 246, 250), (72, 196, 200)]


def draw_portrait(attributes, nuisance):
    """The attributes that are true, and all else that a portrait depends on -> an RGB image of 178 × 218."""
    look = Look(attributes, nuisance)
    image = _backdrop(look)
    canvas = _posed(image, look)
    draw_back_hair(canvas, look)
    _draw_body(canvas, look)
    _draw_ears(canvas, look)
    head = draw_face(canvas, look)
    draw_cheeks(canvas, look, head)
    draw_age(canvas, look, head)
    draw_sideburns(canvas, look)
    draw_beard(canvas, look, head)
    draw_nose(canvas, look)
    draw_mouth(canvas, look)
    for side in (-1, 1):
        draw_eye(canvas, look, side)
    draw_brows(canvas, look)
    draw_front_hair(canvas, look, head)
    _draw_earrings(canvas, look)
    draw_hat(canvas, look, head)
    _draw_glasses(canvas, look)
    return image


def _backdrop(look):
    """An image with a smooth gradient between two colours, and one soft disc."""
    n = look.n
    pale, dark = choice(n.backdrop, BACKDROPS)
    angle = np.pi * between(n.backdrop_turn, 0.15, 0.85)
    x, y = np.meshgrid([-0.5, 0.5], [-0.5, 0.5])
    share = np.clip(0.5 + 0.7 * (x * np.cos(angle) + y * np.sin(angle)), 0, 1)[..., None]
    corners = (np.array(pale) * (1 - share) + np.array(dark) * share).round().astype(np.uint8)
    image = Image.fromarray(corners).resize(SIZE, Image.Resampling.BILINEAR, box=(0.5, 0.5, 1.5, 1.5))
    radius = between(n.blob_size, 26, 52)
    disc = ellipse(between(n.blob_x, 0, SIZE[0]), between(n.blob_y, 10, 120), radius, radius, n=48)
    Canvas(image, np.eye(2), (0, 0)).fill(disc, mix(pale, (255, 255, 255), 0.5), 0.42, 1.0)
    return image


def _posed(image, look):
    n = look.n
    angle = np.deg2rad(between(n.roll, -3.5, 3.5))
    scale = between(n.scale, 0.96, 1.03)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array([88.5 + between(n.shift_x, -2.5, 2.5), PIVOT[1] + between(n.shift_y, -2.5, 2.5)])
    return Canvas(image, matrix, centre - matrix @ PIVOT)


def _draw_body(canvas, look):
    n = look.n
    male = "Male" in look
    neck_half = 22.0 if male else 17.0
    left = [(-neck_half, 140), (-neck_half, 170), (-neck_half - 4, 182), (-neck_half - 16, 194)]
    neck = smooth(symmetric(left, [(0, 215)]))
    canvas.fill(neck, look.skin)
    skin = canvas.mask(neck)
    canvas.fill(look.face + [-look.light * 3, 9], look.deep, 0.50, 2.2, skin)
    if "Double_Chin" in look:
        low = look.chin
        wide = look.cheek(low - 14) - 1.5
        right = [(13, low + 8.5), (wide - 5, low + 1), (wide, low - 14)]
        fold = smooth([(-x, y) for x, y in right[::-1]] + [(0, low + 10)] + right)
        canvas.fill(fold, mix(look.skin, look.shade, 0.25))
        canvas.stroke(fold, 2.2, look.deep, 0.9)

    cloth = choice(n.clothes, CLOTHES)
    dark, pale = mix(cloth, (24, 18, 40), 0.24), mix(cloth, (255, 255, 255), 0.35)
    wide = between(n.shoulders, 66, 74) + (10 if male else 0)
    side = [(wide + 14, 240), (wide + 6, 214), (wide - 8, 200), (wide - 32, 191)]
    kind = int(n.collar * 3)
    edge = [[(7, 182), (0, 188)], [(6, 182), (-4, 190)], [(5, 180), (-6, 188)]][kind]
    opening = symmetric([(neck_half + x, y) for x, y in edge], [(0, (194, 208, 198)[kind])])
    outline = np.concatenate([smooth(side), smooth(opening), smooth([(-x, y) for x, y in side[::-1]])])
    canvas.fill(outline, cloth)
    body = canvas.mask(outline)
    canvas.fill(ellipse(-look.light * (wide + 6), 216, 26, 34), dark, 0.6, 10, body)
    if kind == 2:
        _draw_collar(canvas, neck_half, pale, dark)
    else:
        canvas.stroke(smooth(opening), 3.2, dark, 0.8, start=0.6, end=0.6)
    if "Wearing_Necktie" in look:
        _draw_tie(canvas, look, neck_half)
    if "Wearing_Necklace" in look:
        _draw_necklace(canvas, look, neck_half)


def _draw_collar(canvas, neck_half, pale, dark):
    x = neck_half
    right = np.array([(x + 4, 177), (x + 12, 188), (x - 2, 203), (1.5, 196.5), (x - 6, 187)])
    for s in (-1, 1):
        flap = right * [s, 1]
        canvas.fill(flap, pale)
        canvas.stroke(flap[1:4], 1.5, dark, 0.6, start=0.7, end=0.7)


def _draw_tie(canvas, look, neck_half):
    """Draws a white shirt front with its collar, and the tie."""
    x = neck_half
    front = [(-x - 6, 178), (0, 186), (x + 6, 178), (x + 4, 240), (-x - 4, 240)]
    canvas.fill(front, (246, 246, 248))
    colour = choice(look.n.tie, TIES)
    canvas.fill([(-4.5, 193), (4.5, 193), (10, 236), (-10, 236)], colour)
    knot = smooth([(-7.5, 182.5), (0, 181.5), (7.5, 182.5), (4.8, 194), (0, 195), (-4.8, 194)], closed=True)
    canvas.fill(knot, mix(colour, (10, 8, 20), 0.18))
    stripe = [(-5.6, 212), (0, 206), (6.5, 200)]
    canvas.stroke(stripe, 2.6, mix(colour, (255, 255, 255), 0.45), start=1, end=1)
    _draw_collar(canvas, neck_half, (250, 250, 252), (150, 156, 172))


def _draw_necklace(canvas, look, neck_half):
    colour = choice(look.n.jewel, JEWELS)
    edge = mix(colour, (70, 40, 20), 0.55)
    for x in np.linspace(-neck_half - 2, neck_half + 2, 11):
        y = 191.5 - 13.5 * (x / (neck_half + 2)) ** 2
        canvas.fill(ellipse(x, y, 2.9, 2.9, 14), edge)
        canvas.fill(ellipse(x - 0.3, y - 0.4, 2.3, 2.3, 14), colour)


def _draw_ears(canvas, look):
    for s in (-1, 1):
        x = s * (look.cheek(116) + 1.5)
        ear = [(0, 103), (5, 102), (7, 108), (5, 120), (2.5, 127), (-2, 126)] * np.array([s, 1]) + [x, 0]
        canvas.fill(smooth(ear, closed=True), mix(look.skin, look.shade, 0.35))
        inner = smooth([(x + s * 1, 107), (x + s * 4.4, 108), (x + s * 3.4, 116), (x + s * 1.2, 120)])
        canvas.stroke(inner, 1.7, look.deep, 0.6)


def _draw_earrings(canvas, look):
    if "Wearing_Earrings" not in look:
        return
    colour = choice(look.n.jewel, JEWELS)
    edge = mix(colour, (60, 34, 20), 0.6)
    for s in (-1, 1):
        x = s * (look.cheek(116) + 4)
        canvas.fill(ellipse(x, 128.5, 2.4, 2.4, 14), edge)
        canvas.fill(ellipse(x, 128.5, 1.7, 1.7, 14), colour)
        canvas.fill(smooth([(x, 130), (x + 5, 140), (x, 146), (x - 5, 140)], closed=True), edge)
        canvas.fill(smooth([(x, 132), (x + 3.9, 140), (x, 144.8), (x - 3.9, 140)], closed=True), colour)
        canvas.fill(ellipse(x - 1.2, 139.5, 1.1, 1.8, 12), mix(colour, (255, 255, 255), 0.75))


def _draw_glasses(canvas, look):
    if "Eyeglasses" not in look:
        return
    n, turn = look.n, look.turn
    colour = choice(n.frame_colour, FRAMES)
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    unit = np.sign(circle) * np.abs(circle) ** (1.0 if n.frame < 0.5 else 0.55)
    for s in (-1, 1):
        x, y = s * 20 + turn, 112.0
        rim = unit * ([15.2, 13.4] if n.frame < 0.5 else [15.4, 11.2]) + [x, y]
        canvas.fill(rim, (226, 238, 248), 0.16)
        glint = np.array([(x - 9, y + 4), (x - 1, y - 8), (x + 3, y - 8), (x - 6, y + 6)])
        canvas.fill(glint, (255, 255, 255), 0.22, 0.5)
        loop = np.concatenate([rim, rim[:2]])
        canvas.stroke(loop, 2.9, colour, start=1, end=1)
        arm = smooth([(x + s * 14.6, 109), (s * (look.cheek(110) + 2), 107.5)])
        canvas.stroke(arm, 2.6, colour, start=1, end=1)
    canvas.stroke(smooth([(turn - 5.4, 110.5), (turn, 108), (turn + 5.4, 110.5)]), 2.7, colour, start=1, end=1)
