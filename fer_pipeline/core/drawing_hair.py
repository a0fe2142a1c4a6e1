"""Hair, beards and headscarves of a drawn head, in two layers: behind the face and over it."""

import numpy as np

from fer_pipeline.core.drawing_canvas import Canvas, Points, ellipse, moved, ribbon, spline
from fer_pipeline.core.drawing_traits import Colour, Muscles, Traits, shade

_HAIRLINES = {
    "short": [
        (0.97, -0.3), (0.86, -0.66), (0.62, -0.9), (0.25, -0.98), (-0.25, -0.97), (-0.62, -0.9),
        (-0.86, -0.66), (-0.97, -0.3),
    ],
    "side": [
        (0.98, -0.25), (0.88, -0.55), (0.74, -0.72), (0.35, -0.8), (-0.1, -0.94), (-0.45, -1.05),
        (-0.84, -0.78), (-0.97, -0.3),
    ],
    "fringe": [
        (0.99, -0.1), (0.86, -0.5), (0.55, -0.66), (0.2, -0.7), (-0.2, -0.69), (-0.55, -0.66),
        (-0.86, -0.5), (-0.99, -0.1),
    ],
    "parted": [
        (1.0, 0.15), (0.9, -0.35), (0.66, -0.72), (0.3, -0.95), (0.0, -1.12), (-0.3, -0.95),
        (-0.66, -0.72), (-0.9, -0.35), (-1.0, 0.15),
    ],
    "back": [
        (0.98, -0.28), (0.86, -0.72), (0.55, -0.99), (0.2, -1.07), (-0.2, -1.07), (-0.55, -0.99),
        (-0.86, -0.72), (-0.98, -0.28),
    ],
    "wrapped": [
        (0.9, 0.75), (0.97, 0.2), (0.92, -0.4), (0.7, -0.78), (0.3, -0.93), (-0.3, -0.93),
        (-0.7, -0.78), (-0.92, -0.4), (-0.97, 0.2), (-0.9, 0.75),
    ],
}  # fmt: skip
"""Lower edge of the hair over the forehead, from the right side of the picture to the left."""

_LINE_OF_STYLE = {
    "short": "short", "side": "side", "fringe": "fringe", "bob": "fringe", "long": "parted",
    "bun": "back", "curly": "back", "scarf": "wrapped",
}  # fmt: skip

_LONG = [
    (0.0, -1.62), (0.8, -1.45), (1.22, -0.75), (1.26, 0.3), (1.3, 1.3), (1.05, 2.0), (0.0, 1.7),
    (-1.05, 2.0), (-1.3, 1.3), (-1.26, 0.3), (-1.22, -0.75), (-0.8, -1.45),
]  # fmt: skip
_BOB = [
    (0.0, -1.62), (0.82, -1.45), (1.24, -0.7), (1.3, 0.3), (1.2, 0.95), (0.7, 0.9), (0.0, 0.7),
    (-0.7, 0.9), (-1.2, 0.95), (-1.3, 0.3), (-1.24, -0.7), (-0.82, -1.45),
]  # fmt: skip
_SCARF = [
    (0.0, -1.64), (0.82, -1.45), (1.2, -0.7), (1.2, 0.3), (1.05, 1.05), (1.3, 1.9), (0.0, 2.2),
    (-1.3, 1.9), (-1.05, 1.05), (-1.2, 0.3), (-1.2, -0.7), (-0.82, -1.45),
]  # fmt: skip


def _cloth(traits: Traits) -> Colour:
    """Colour of what is on the head: hair, or a scarf that goes with the clothes."""
    if traits.hair_style == "scarf":
        red, green, blue = traits.clothes
        return 0.7 * blue + 50, 0.7 * red + 40, 0.7 * green + 40
    return traits.hair


def draw_hair_behind(canvas: Canvas, traits: Traits, rng: np.random.Generator) -> None:
    """Everything of the hair that neck, ears and face cover."""
    colour = _cloth(traits)
    dark = shade(colour, 0.6)
    if traits.hair_style in ("long", "bob", "scarf"):
        shape = {"long": _LONG, "bob": _BOB, "scarf": _SCARF}[traits.hair_style]
        moved = spline(np.array(shape) + rng.normal(0, 0.025, (len(shape), 2)), closed=True)
        seen = canvas.project(moved, depth=-0.25)
        canvas.fill(seen, colour, lower=dark)
        if traits.hair_style != "scarf":
            _strands(canvas, seen, colour, rng)
    elif traits.hair_style == "bun":
        bun = canvas.project(ellipse(float(rng.uniform(-0.2, 0.2)), -1.72, 0.4, 0.34), depth=-0.3)
        canvas.fill(bun, shade(colour, 1.1), lower=dark, soft=0.01)
    elif traits.hair_style == "curly":
        angle = rng.uniform(-0.25, np.pi + 0.25, 30)
        reach = rng.uniform(1.0, 1.2, 30)
        curls = [
            canvas.project(
                ellipse(1.02 * r * np.cos(a), -0.35 - 1.12 * r * np.sin(a), 0.24, 0.24, 16),
                depth=-0.1,
            )
            for a, r in zip(angle, reach, strict=True)
        ]
        canvas.fill(curls, colour, lower=dark, soft=0.015)


def draw_hair_front(
    canvas: Canvas, traits: Traits, outline: Points, rng: np.random.Generator
) -> None:
    """The hair over the forehead and around the face. `outline` is the projected head."""
    if traits.hair_style == "bald":
        return
    colour = _cloth(traits)
    if traits.hair_style == "buzz":
        cap = np.array([*_HAIRLINES["short"], (-1.1, -0.9), (0.0, -1.7), (1.1, -0.9)])
        canvas.fill(
            canvas.project(spline(cap, closed=True)), colour, alpha=0.72, soft=0.05, clip=outline
        )
        return
    edge = np.array(_HAIRLINES[_LINE_OF_STYLE[traits.hair_style]])
    edge = edge + rng.normal(0, 0.02, edge.shape)
    if traits.hair_style == "side" and rng.random() < 0.5:
        edge = (edge * (-1.0, 1.0))[::-1]
    height = 1.58 if traits.hair_style != "short" else 1.54
    crown = np.array(
        [
            (-1.04, -0.55),
            (-0.95, -1.05),
            (-0.56, -1.42),
            (0.0, -height),
            (0.56, -1.42),
            (0.95, -1.05),
            (1.04, -0.55),
        ]
    )
    crown[:, 1] *= traits.length
    over = canvas.project(spline(edge, closed=False, steps=6))
    around = canvas.project(spline(crown, closed=False, steps=6), depth=0.1)
    shape = np.concatenate([over, around])
    shadow = moved(over, 0.0, 0.05)
    canvas.fill(
        ribbon(shadow, 0.02, 0.02, 0.1),
        shade(traits.skin, 0.4),
        alpha=0.4,
        soft=0.035,
        clip=outline,
    )
    canvas.fill(shape, shade(colour, 1.08), lower=shade(colour, 0.8))
    if traits.hair_style == "scarf":
        folds = [
            ribbon(moved(over * (1 + step, 1.0), 0.0, -step), 0.02, 0.02, 0.04)
            for step in (0.1, 0.22)
        ]
        canvas.fill(folds, shade(colour, 0.6), alpha=0.45, soft=0.02, clip=shape)
        return
    if traits.hair_style == "curly":
        curls = [ellipse(x, y, 0.13, 0.12, 12) for x, y in moved(over[::3], 0.0, -0.02)]
        canvas.fill(curls, shade(colour, 0.92), soft=0.012)
    _strands(canvas, shape, colour, rng)


def _strands(canvas: Canvas, shape: Points, colour: Colour, rng: np.random.Generator) -> None:
    """Light and dark locks that fall from the crown, and a sheen across them."""
    low, high = shape.min(axis=0), shape.max(axis=0)
    middle = (low[0] + high[0]) / 2
    for factor, alpha, count in ((0.55, 0.4, 9), (1.22, 0.3, 8)):
        locks = []
        for x, lean in zip(
            rng.uniform(low[0], high[0], count), rng.uniform(0.5, 1.1, count), strict=True
        ):
            top = (middle + (x - middle) * 0.55, low[1])
            bottom = (middle + (x - middle) * (0.75 + 0.4 * lean), high[1])
            bend = ((top[0] + bottom[0]) / 2 + 0.12 * (x - middle), (top[1] + bottom[1]) / 2)
            locks.append(ribbon(spline([top, bend, bottom], closed=False), 0.01, 0.02, 0.05 * lean))
        canvas.fill(locks, shade(colour, factor), alpha=alpha, soft=0.015, clip=shape)
    sheen = ellipse(middle + 0.15 * (high[0] - low[0]), low[1] + 0.17, 0.42, 0.09)
    canvas.fill(sheen, shade(colour, 1.4), alpha=0.35, soft=0.07, clip=shape)


def draw_beard(canvas: Canvas, traits: Traits, muscles: Muscles, outline: Points) -> None:
    """Moustache, stubble or full beard, within the projected head `outline`."""
    if not traits.beard:
        return
    drop = 0.2 * max(0.0, muscles.jaw)
    shapes = [
        [
            (-0.42, 0.64), (-0.22, 0.51), (0.0, 0.54), (0.22, 0.51), (0.42, 0.64), (0.2, 0.61),
            (0.0, 0.61), (-0.2, 0.61),
        ]
    ]  # fmt: skip
    if traits.beard != "moustache":
        shapes.append([
            (-1.0, 0.1), (-0.86, 0.34), (-0.62, 0.54), (-0.47, 0.66), (-0.42, 0.86 + drop),
            (0.0, 0.96 + drop), (0.42, 0.86 + drop), (0.47, 0.66), (0.62, 0.54), (0.86, 0.34),
            (1.0, 0.1), (1.1, 0.9), (0.5, 1.35 + drop), (0.0, 1.45 + drop), (-0.5, 1.35 + drop),
            (-1.1, 0.9),
        ])  # fmt: skip
    alpha = 0.35 if traits.beard == "stubble" else 0.86
    for shape in shapes:
        seen = canvas.project(spline(shape, closed=True))
        canvas.fill(seen, shade(traits.hair, 0.9), alpha=alpha, soft=0.035, clip=outline)
