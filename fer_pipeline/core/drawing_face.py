"""One head as pixels: skin, hair, ears, eyes, brows, nose and mouth, set by traits and muscles.

Paints on a `Canvas`; where the head stands in a photo and what the camera does to it is in
`drawing`.
"""

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.drawing_canvas import Canvas, Points, ellipse, moved, ribbon, spline
from fer_pipeline.core.drawing_hair import draw_beard, draw_hair_behind, draw_hair_front
from fer_pipeline.core.drawing_mouth import draw_mouth, mouth_curves
from fer_pipeline.core.drawing_traits import Colour, Muscles, Traits, shade

_SIDES = (-1, 1)


def draw_head(
    canvas: Canvas, traits: Traits, muscles: Muscles, light: tuple[float, float], seed: int
) -> None:
    """Paint one head.

    `light` is where the light comes from (x and y, -1 to 1); `seed` arranges the hair.
    """
    rng = np.random.default_rng(seed)
    outline = _outline(canvas, traits, muscles)
    draw_hair_behind(canvas, traits, rng)
    _neck_and_ears(canvas, traits, muscles)
    _skin(canvas, traits, muscles, outline, light)
    _folds(canvas, traits, muscles)
    draw_beard(canvas, traits, muscles, outline)
    _nose(canvas, traits, muscles)
    for side in _SIDES:
        _eye(canvas, traits, muscles, side)
    draw_mouth(canvas, traits, muscles)
    draw_hair_front(canvas, traits, outline, rng)
    for side in _SIDES:
        _brow(canvas, traits, muscles, side)
    _glasses(canvas, traits)


def landmarks(canvas: Canvas, traits: Traits, muscles: Muscles) -> NDArray[np.float32]:
    """The 68 points of the iBUG scheme (300-W, Sagonas et al. 2013), (68, 2) float32, pixels."""
    outline = _outline(canvas, traits, muscles)
    # The outline runs from the top over the right side to the chin and back over the left.
    at = np.linspace(0.76, 0.24, 17) * len(outline)
    parts = [outline[np.round(at).astype(int) % len(outline)]]
    for side, order in ((-1, slice(None, None, -1)), (1, slice(None))):
        line = _brow_line(muscles, side)
        parts.append(canvas.project(line[np.linspace(0, len(line) - 1, 5).astype(int)][order]))
    base = 0.34 * traits.nose_length
    width = 0.2 * traits.nose_width
    bridge = np.linspace(-0.2, base - 0.08, 4)
    parts.append(canvas.project(np.stack([np.zeros(4), bridge], axis=1)))
    parts.append(canvas.project([(x * width, base) for x in (-1, -0.5, 0, 0.5, 1)]))
    for side in _SIDES:
        upper, lower = _lids(traits, muscles, side)
        at_third, at_two = len(upper) // 3, 2 * len(upper) // 3
        ring = [upper[0], upper[at_third], upper[at_two], upper[-1], lower[at_two], lower[at_third]]
        # Both eyes are listed from the left of the picture, the lids run from the nose outwards.
        points = np.array(ring if side > 0 else [ring[i] for i in (3, 2, 1, 0, 5, 4)])
        parts.append(canvas.project(points))
    mouth = mouth_curves(traits, muscles)
    for upper, lower, inner in (
        (mouth.upper_out, mouth.lower_out, 4),
        (mouth.upper_in, mouth.lower_in, 2),
    ):
        top = upper[np.linspace(0, 24, inner + 3).astype(int)]
        low = lower[np.linspace(24, 0, inner + 3).astype(int)][1:-1]
        parts.append(canvas.project(np.concatenate([top, low])))
    return canvas.pixels(np.concatenate(parts)).astype(np.float32)


def _outline(canvas: Canvas, traits: Traits, muscles: Muscles) -> Points:
    drop = 0.2 * max(0.0, muscles.jaw)
    jaw, chin = traits.jaw, traits.chin
    right = [
        (0.0, -1.42), (0.52, -1.34), (0.88, -1.04), (1.0, -0.55), (0.99, -0.12),
        (0.95, 0.28), (0.83 * jaw, 0.66 + drop * 0.5), (0.55 * jaw * chin, 0.98 + drop),
        (0.26 * chin, 1.16 + drop), (0.0, 1.2 + drop),
    ]  # fmt: skip
    ring = [*right, *((-x, y) for x, y in right[-2:0:-1])]
    stretched = np.array(ring) * (1.0, traits.length)
    return canvas.project(spline(stretched, closed=True), depth=0.12)


def _neck_and_ears(canvas: Canvas, traits: Traits, muscles: Muscles) -> None:
    drop = 0.15 * max(0.0, muscles.jaw)
    neck = spline(
        [
            (-0.6, 0.5),
            (-0.56, 1.2),
            (-0.66, 1.75),
            (0.0, 2.0),
            (0.66, 1.75),
            (0.56, 1.2),
            (0.6, 0.5),
        ],
        closed=True,
    )
    canvas.fill(
        canvas.project(neck, depth=-0.2), shade(traits.skin, 0.82), lower=shade(traits.skin, 0.95)
    )
    shadow = ellipse(0.05, 1.2 + drop, 0.55, 0.3)
    canvas.fill(
        canvas.project(shadow, depth=-0.1), shade(traits.skin, 0.45), alpha=0.6, soft=0.1,
        clip=canvas.project(neck, depth=-0.2),
    )  # fmt: skip
    for side in _SIDES:
        ear = spline(
            [
                (side * x, y)
                for x, y in (
                    (0.95, -0.24),
                    (1.1, -0.3),
                    (1.17, -0.15),
                    (1.1, 0.14),
                    (1.0, 0.27),
                    (0.93, 0.2),
                )
            ],
            closed=True,
        )
        canvas.fill(canvas.project(ear, depth=-0.3), shade(traits.skin, 0.9))
        inner = ellipse(side * 1.05, -0.04, 0.045, 0.14, 16)
        canvas.fill(
            canvas.project(inner, depth=-0.3), shade(traits.skin, 0.6), alpha=0.7, soft=0.02
        )


def _skin(
    canvas: Canvas, traits: Traits, muscles: Muscles, outline: Points, light: tuple[float, float]
) -> None:
    """The head's surface: limb darkening, light from one side, and soft hollows and bulges."""
    import cv2

    window = canvas.window(outline)
    if window is None:
        return
    left, top, right, bottom = window
    x, y = canvas.grid(left, top, right - left, bottom - top)
    radius = x**2 / 1.05 + (y + 0.1) ** 2 / 1.8
    tone = 0.3 * (light[0] * x + light[1] * y) - 0.34 * np.clip(radius, 0, 1.4) ** 3
    red = np.zeros_like(tone)
    drop = 0.2 * max(0.0, muscles.jaw)
    cheek = max(0.0, muscles.cheek)
    squeeze = max(0.0, muscles.brow_knit)
    bulges = [
        (0.25 * light[0], -0.85, 0.55, 0.28, 0.16), (0.0, -0.02, 0.07, 0.34, 0.2),
        (0.0, 0.26, 0.1, 0.09, 0.24), (0.0, 1.03 + drop, 0.17, 0.11, 0.12 - 0.2 * muscles.pout),
        (0.0, 0.44, 0.17, 0.06, -0.18), (0.0, 0.9 + drop, 0.2, 0.055, -0.24),
        (0.0, -0.4, 0.12, 0.1, -0.12 - 0.15 * squeeze),
    ]  # fmt: skip
    for side in _SIDES:
        lit = 0.5 * side * light[0]
        bulges += [
            (side * 0.4 * traits.eye_gap, -0.22, 0.28, 0.15, -0.2 - 0.04 * traits.age),
            (side * 0.56, 0.2 - 0.06 * cheek, 0.24, 0.17, 0.12 + 0.14 * cheek),
            (side * 0.19 * traits.nose_width, 0.14, 0.07, 0.24, -0.13 + 0.12 * lit),
            (side * 0.72, 0.55, 0.18, 0.3, -0.1),
        ]
        red += _bulge(canvas, x, y, (side * 0.58, 0.22, 0.26, 0.18, 0.6 + 0.5 * cheek))
    for bulge in bulges:
        tone += _bulge(canvas, x, y, bulge)
    red += _bulge(canvas, x, y, (0.0, 0.28, 0.14, 0.1, 0.5))
    base, dark, bright = (np.array(shade(traits.skin, f)) for f in (1.0, 0.42, 1.5))
    tone = np.clip(tone, -1, 1)[..., None]
    field = base + np.where(tone < 0, -tone * (dark - base), tone * (bright - base))
    field += red[..., None] * np.array((10.0, -12.0, -9.0))
    paint = np.clip(field, 0, 255).astype(np.uint8)
    paint = cv2.resize(paint, (right - left, bottom - top), interpolation=cv2.INTER_CUBIC)
    canvas.blend(paint, canvas.mask(outline, window), window)


def _bulge(
    canvas: Canvas, x: Points, y: Points, bulge: tuple[float, float, float, float, float]
) -> Points:
    centre_x, centre_y, radius_x, radius_y, amount = bulge
    at_x, at_y = canvas.project([(centre_x, centre_y)])[0]
    return np.asarray(
        amount * np.exp(-(((x - at_x) / radius_x) ** 2) - ((y - at_y) / radius_y) ** 2)
    )


def _folds(canvas: Canvas, traits: Traits, muscles: Muscles) -> None:
    """Lines of age and of movement, and the crease from nose to mouth."""
    faint: list[Points] = []
    strong: list[Points] = []
    corner, lift = max(0.0, muscles.corner), max(0.0, muscles.lip_upper, muscles.nose)
    crease = 0.02 + 0.03 * max(corner, lift) + 0.015 * traits.age
    out = 0.1 * corner + 0.05 * muscles.stretch
    for side in _SIDES:
        one_sided = 0.04 * max(0.0, muscles.skew) if side > 0 else 0.0
        line = spline(
            [(side * 0.23, 0.24), (side * (0.38 + out), 0.42), (side * (0.46 + out), 0.68)],
            closed=False,
        )
        shape = canvas.project(ribbon(line, 0.01, 0.01, crease + one_sided))
        (strong if corner + lift + one_sided > 0.3 else faint).append(shape)
        if muscles.brow_knit > 0.3:
            frown = spline(
                [(side * 0.06, -0.56), (side * 0.05, -0.45), (side * 0.07, -0.36)], closed=False
            )
            strong.append(canvas.project(ribbon(frown, 0.005, 0.005, 0.03 * muscles.brow_knit)))
        if muscles.nose > 0.4:
            for y in (-0.16, -0.06):
                wrinkle = spline(
                    [(side * 0.03, y), (side * 0.1, y + 0.02), (side * 0.16, y + 0.1)], closed=False
                )
                strong.append(canvas.project(ribbon(wrinkle, 0.004, 0.004, 0.028 * muscles.nose)))
        if muscles.cheek > 0.5 or traits.age > 0.65:
            for y in (-0.2, -0.12):
                foot = spline(
                    [(side * 0.68, y), (side * 0.76, y - 0.01 + (y + 0.16))], closed=False
                )
                faint.append(canvas.project(ribbon(foot, 0.02, 0.004)))
        if traits.age > 0.45:
            bag = spline(
                [(side * 0.24, -0.06), (side * 0.4, 0.02), (side * 0.56, -0.04)], closed=False
            )
            faint.append(canvas.project(ribbon(bag, 0.004, 0.004, 0.03 * traits.age)))
    raised = (muscles.brow_inner + muscles.brow_outer) / 2
    if raised > 0.45 or traits.age > 0.6:
        for y in (-0.72, -0.84):
            lift_y = y - 0.05 * raised
            line = spline([(-0.45, lift_y), (0.0, lift_y - 0.04), (0.45, lift_y)], closed=False)
            faint.append(canvas.project(ribbon(line, 0.004, 0.004, 0.024)))
    if muscles.pout > 0.4:
        faint.append(canvas.project(ellipse(0.0, 1.0, 0.12, 0.05, 14)))
    for shapes, alpha in ((faint, 0.35), (strong, 0.6)):
        if shapes:
            canvas.fill(shapes, shade(traits.skin, 0.45), alpha=alpha, soft=0.014)


def _nose(canvas: Canvas, traits: Traits, muscles: Muscles) -> None:
    base = 0.34 * traits.nose_length - 0.04 * max(0.0, muscles.nose)
    width = 0.19 * traits.nose_width * (1 + 0.15 * max(0.0, muscles.nose))
    dark = shade(traits.skin, 0.38)
    under = spline(
        [
            (-width, base - 0.05),
            (-0.6 * width, base + 0.025),
            (0.0, base + 0.05),
            (0.6 * width, base + 0.025),
            (width, base - 0.05),
        ],
        closed=False,
    )
    canvas.fill(canvas.project(ribbon(under, 0.01, 0.01, 0.035)), dark, alpha=0.5, soft=0.015)
    for side in _SIDES:
        wing = spline(
            [
                (side * width * 0.85, base - 0.15),
                (side * width * 1.1, base - 0.07),
                (side * width * 0.95, base),
            ],
            closed=False,
        )
        canvas.fill(canvas.project(ribbon(wing, 0.008, 0.015, 0.035)), dark, alpha=0.5, soft=0.012)
        hole = ellipse(side * width * 0.5, base, width * 0.28, 0.026, 14)
        canvas.fill(canvas.project(hole), shade(traits.skin, 0.2), alpha=0.85, soft=0.01)


def _lids(traits: Traits, muscles: Muscles, side: int) -> tuple[Points, Points]:
    """Upper and lower lid from the inner to the outer corner, (13, 2) each."""
    closed = muscles.wink if side > 0 else 0.0
    size = traits.eye_size
    along = np.linspace(-1.0, 1.0, 13)
    arch = (1 - along**2) ** 0.75
    high = 0.112 * size * max(0.0, 1 + 0.75 * muscles.lid_upper - 1.2 * closed)
    low = 0.072 * size * (1 - 0.7 * muscles.lid_lower)
    if high < 0.02:
        high, low = -0.035, 0.04
    half = 0.215 * size
    x = 0.41 * traits.eye_gap + half * along
    y = -0.2 - (traits.eye_tilt - 0.025 * min(0.0, muscles.brow_outer)) * along
    slant = muscles.brow_outer - muscles.brow_inner
    angry, sad = max(0.0, slant - 0.4) * 0.8, max(0.0, -slant - 0.3)
    upper = y - high * arch * (1 + 0.35 * (angry - 0.8 * sad) * along)
    lower = y + max(-0.6 * high, low) * arch
    return np.stack([side * x, upper], axis=1), np.stack([side * x, lower], axis=1)


def _eye(canvas: Canvas, traits: Traits, muscles: Muscles, side: int) -> None:
    upper, lower = _lids(traits, muscles, side)
    seen_upper = canvas.project(upper)
    ink = (30.0, 20.0, 18.0)
    lift = np.array((0.0, 0.05 + 0.02 * max(0.0, muscles.lid_upper)))
    crease = canvas.project(ribbon(upper - lift, 0.008, 0.012, 0.028))
    canvas.fill(crease, shade(traits.skin, 0.4), alpha=0.5, soft=0.01)
    is_open = float(np.max(lower[:, 1] - upper[:, 1])) > 0.03 and upper[6, 1] < lower[6, 1]
    if is_open:
        ball = np.concatenate([seen_upper, canvas.project(lower)[::-1]])
        canvas.fill(ball, (196.0, 190.0, 186.0), lower=(246.0, 242.0, 238.0))
        reach = 0.09 * traits.eye_size
        centre = (
            side * 0.41 * traits.eye_gap + reach * float(np.clip(muscles.gaze_x, -1, 1)),
            -0.215 + 0.06 * float(np.clip(muscles.gaze_y, -1, 1)),
        )
        x, y = canvas.project([centre])[0]
        radius = 0.108 * traits.eye_size**0.5
        canvas.fill(
            ellipse(x, y, radius, radius),
            shade(traits.iris, 0.6),
            lower=shade(traits.iris, 1.25),
            clip=ball,
        )
        canvas.fill(ellipse(x, y, radius * 0.5, radius * 0.5, 18), (12.0, 10.0, 10.0), clip=ball)
        glint = ellipse(x - 0.035, y - 0.04, 0.026, 0.026, 12)
        canvas.fill(glint, (255.0, 255.0, 255.0), clip=ball)
        canvas.fill(
            canvas.project(ribbon(moved(upper, 0.0, 0.022), 0.01, 0.01, 0.05)),
            ink,
            alpha=0.35,
            soft=0.012,
            clip=ball,
        )
        canvas.fill(
            canvas.project(ribbon(lower, 0.01, 0.014, 0.016)), shade(traits.skin, 0.35), alpha=0.7
        )
    lash = 0.04 if traits.hair_style in ("bob", "long", "bun", "scarf") else 0.03
    canvas.fill(canvas.project(ribbon(upper, 0.02, lash + 0.012, lash + 0.006)), ink, alpha=0.92)


def _brow_line(muscles: Muscles, side: int) -> Points:
    uneven = 0.13 * muscles.brow_uneven * (1 if side > 0 else -0.3)
    inner, outer = muscles.brow_inner, muscles.brow_outer
    squeeze = 0.075 * muscles.brow_knit
    points = [
        (0.19 - squeeze, -0.47 - 0.15 * inner - 0.5 * uneven),
        (0.36 - squeeze * 0.7, -0.51 - 0.1 * inner - 0.04 * outer - uneven),
        (0.54, -0.51 - 0.01 * inner - 0.12 * outer - uneven),
        (0.7, -0.42 - 0.11 * outer - 0.7 * uneven),
    ]
    curve = moved(spline(points, closed=False), 0.0, 0.03 * max(0.0, muscles.brow_knit))
    return np.asarray(curve * (side, 1.0))


def _brow(canvas: Canvas, traits: Traits, muscles: Muscles, side: int) -> None:
    line = _brow_line(muscles, side)
    thick = 0.082 * traits.brow
    colour = traits.hair if traits.hair_style != "scarf" else (50.0, 36.0, 28.0)
    # Fair and grey heads have darker brows than hair, or the brows would vanish.
    colour = shade(colour, 0.62 if sum(colour) > 240 else 0.9)
    canvas.fill(
        canvas.project(ribbon(line, thick * 0.85, thick * 0.25, thick)),
        colour,
        alpha=0.9,
        soft=0.012,
    )


def _glasses(canvas: Canvas, traits: Traits) -> None:
    if not traits.glasses:
        return
    frame: Colour = (34.0, 30.0, 32.0)
    for side in _SIDES:
        rim = spline(
            [
                (side * x, y)
                for x, y in (
                    (0.13, -0.34),
                    (0.42, -0.38),
                    (0.7, -0.33),
                    (0.66, -0.06),
                    (0.42, 0.02),
                    (0.18, -0.06),
                )
            ],
            closed=True,
        )
        seen = canvas.project(rim)
        if traits.glasses == "dark":
            canvas.fill(seen, (22.0, 22.0, 26.0), lower=(70.0, 66.0, 70.0), alpha=0.96)
        else:
            canvas.fill(seen, (220.0, 232.0, 240.0), alpha=0.1)
        closed_rim = np.concatenate([rim, rim[:1]])
        canvas.fill(_ring(canvas, closed_rim, 0.035), frame)
        arm = canvas.project([(side * 0.7, -0.26), (side * 1.0, -0.22)], depth=0.4)
        canvas.fill(ribbon(arm, 0.035, 0.03), frame)
    bridge = spline([(-0.14, -0.24), (0.0, -0.28), (0.14, -0.24)], closed=False)
    canvas.fill(canvas.project(ribbon(bridge, 0.035, 0.035)), frame)


def _ring(canvas: Canvas, line: Points, width: float) -> list[Points]:
    """A closed stroke in quarters, because one polygon around a hole would fill the hole."""
    quarter = (len(line) - 1) // 4
    pieces = [line[i * quarter : (i + 1) * quarter + 1] for i in range(3)] + [line[3 * quarter :]]
    return [canvas.project(ribbon(piece, width, width)) for piece in pieces]
