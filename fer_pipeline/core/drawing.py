"""A photo with drawn people in it: background, body, light, camera. Needs no data.

The head itself is in `drawing_face`; a whole data set of such photos is in `synthetic`. The
drawings test a pipeline and show it at work; they say nothing about people.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.drawing_canvas import Canvas, ellipse, spline
from fer_pipeline.core.drawing_face import draw_head, landmarks
from fer_pipeline.core.drawing_traits import (
    Muscles,
    Traits,
    expression_muscles,
    random_traits,
    shade,
)
from fer_pipeline.core.labels import NAMES

Box = tuple[int, int, int, int]
"""Left, top, width, height in pixels."""

_WORKING_UNIT = 62.0


@dataclass(frozen=True)
class DrawnPhoto:
    """A photo of one person, or of none.

    `image` is uint8, (height, width, 3), RGB; `box` the face box as a detector would list it,
    roughly square and a little off; `landmarks` float32, (68, 2), pixels, in the iBUG order.
    Box and landmarks are None where there is no face.
    """

    image: NDArray[np.uint8]
    box: Box | None
    landmarks: NDArray[np.float32] | None


@dataclass(frozen=True)
class DrawnFace:
    """One face of a group photo: its box and its 68 landmarks (float32, (68, 2), pixels)."""

    box: Box
    landmarks: NDArray[np.float32]


def draw_photo(
    rng: np.random.Generator, expression: str, *, size: tuple[int, int] | None = None
) -> DrawnPhoto:
    """Draw one photo that shows `expression`, a name of `labels.NAMES`.

    Without `size` (width, height in pixels; at least 96 each) the photo is 200 to 520 wide.
    The same state of `rng` gives the same photo. "No-Face" gives a scene without a person,
    "None" an odd face, "Uncertain" an ambiguous one. Raises ValueError for an unknown name.
    """
    if expression not in NAMES:
        raise ValueError(f"{expression!r} is none of {', '.join(NAMES)}")
    if expression == "No-Face":
        image = _background(rng, *(size or _photo_size(rng)))
        _still_life(rng, image)
        return DrawnPhoto(_camera(rng, image, 40.0), None, None)
    image, faces = draw_group(rng, (expression,), size=size)
    return DrawnPhoto(image, faces[0].box, faces[0].landmarks)


def draw_group(
    rng: np.random.Generator, expressions: Sequence[str], *, size: tuple[int, int] | None = None
) -> tuple[NDArray[np.uint8], tuple[DrawnFace, ...]]:
    """Draw people side by side, one an expression, left to right, as `draw_photo` does one."""
    width, height = size or _photo_size(rng)
    image = _background(rng, width, height)
    light = (float(rng.uniform(-1, 1)), float(rng.uniform(-0.9, 0.2)))
    slot = width / len(expressions)
    faces = []
    smallest = math.inf
    for place, expression in enumerate(expressions):
        traits = random_traits(rng)
        muscles = expression_muscles(rng, expression)
        # A box side is about 2.5 units: 60 to 300 pixels.
        largest = min(slot / 2.6, height / 3.2, 118.0)
        unit = float(rng.uniform(min(25.0, largest), largest))
        smallest = min(smallest, unit)
        x = place * slot + rng.uniform(1.25 * unit, max(1.3 * unit, slot - 1.25 * unit))
        y = rng.uniform(1.55 * unit, max(1.6 * unit, height - 1.45 * unit))
        turn = {
            "roll": float(np.clip(rng.normal(0, 0.12), -0.32, 0.32)),
            "yaw": float(np.clip(rng.normal(0, 0.17), -0.38, 0.38)),
            "pitch": float(np.clip(rng.normal(0, 0.08), -0.2, 0.2)),
        }
        canvas = Canvas(image, (float(x), float(y)), unit, **turn)
        _body(canvas, traits)
        _head(canvas, traits, muscles, light, int(rng.integers(2**31)))
        faces.append(DrawnFace(_listed_box(rng, canvas), landmarks(canvas, traits, muscles)))
    return _camera(rng, image, smallest), tuple(faces)


def listed_without_face(
    rng: np.random.Generator, image: NDArray[np.uint8]
) -> tuple[Box, NDArray[np.float32]]:
    """A box and landmarks where `image` has no face, as a mistaken detector lists them."""
    height, width = image.shape[:2]
    unit = float(rng.uniform(0.1, 0.3)) * min(height, width)
    origin = (
        float(rng.uniform(1.5 * unit, width - 1.5 * unit)),
        float(rng.uniform(1.5 * unit, height - 1.5 * unit)),
    )
    canvas = Canvas(image, origin, unit)
    return _listed_box(rng, canvas), landmarks(canvas, random_traits(rng), Muscles())


def _photo_size(rng: np.random.Generator) -> tuple[int, int]:
    width = int(rng.integers(200, 521))
    return width, int(np.clip(width * rng.uniform(0.7, 1.3), 200, 520))


def _head(
    canvas: Canvas, traits: Traits, muscles: Muscles, light: tuple[float, float], seed: int
) -> None:
    """Draw the head at no less than the working size, so that small faces keep their detail."""
    import cv2

    corners = np.array([(-1.9, -2.2), (1.9, -2.2), (1.9, 2.3), (-1.9, 2.3)])
    window = canvas.window(corners)
    if window is None:
        return
    left, top, right, bottom = window
    part = canvas.image[top:bottom, left:right]
    factor = max(1.0, _WORKING_UNIT / canvas.unit)
    if factor < 1.1:
        draw_head(canvas, traits, muscles, light, seed)
        return
    wide, high = round((right - left) * factor), round((bottom - top) * factor)
    large = cv2.resize(part, (wide, high), interpolation=cv2.INTER_LINEAR)
    draw_head(canvas.magnified(large, (left, top), factor), traits, muscles, light, seed)
    part[:] = cv2.resize(large, (right - left, bottom - top), interpolation=cv2.INTER_AREA)


def _body(canvas: Canvas, traits: Traits) -> None:
    chest = spline(
        [
            (0.0, 1.75), (0.62, 1.55), (1.2, 1.85), (1.95, 2.15), (2.4, 3.2), (2.6, 12.0),
            (-2.6, 12.0), (-2.4, 3.2), (-1.95, 2.15), (-1.2, 1.85), (-0.62, 1.55),
        ],
        closed=True,
    )  # fmt: skip
    canvas.fill(chest, traits.clothes, lower=shade(traits.clothes, 0.6))
    collar = spline([(-0.85, 1.6), (0.0, 2.25), (0.85, 1.6), (0.0, 1.9)], closed=True)
    canvas.fill(collar, shade(traits.clothes, 0.55), alpha=0.7, soft=0.03)


def _listed_box(rng: np.random.Generator, canvas: Canvas) -> Box:
    """A box as face detectors of AffectNet's time gave it: square, loose, not quite centred."""
    centre = canvas.pixels(canvas.project([(0.0, 0.12)], depth=0.45))[0]
    side = 2.5 * canvas.unit * rng.uniform(0.92, 1.12)
    centre = centre + rng.normal(0, 0.05, 2) * canvas.unit
    left, top = np.round(centre - side / 2).astype(int).tolist()
    height, width = canvas.image.shape[:2]
    side = round(side)
    left, top = max(0, left), max(0, top)
    return left, top, min(side, width - left), min(side, height - top)


def _background(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    """A wall, a field under the sky, a room or lights out of focus; (height, width, 3) uint8."""
    import cv2

    # Out of focus anyway, so it is painted at half the size.
    columns, rows = (width + 1) // 2, (height + 1) // 2
    first, second = _muted(rng), _muted(rng)
    down, across = np.linspace(0, 1, rows)[:, None, None], np.linspace(0, 1, columns)[None, :, None]
    slant = rng.uniform(0, 1)
    ramp = slant * down + (1 - slant) * across
    if rng.random() < 0.35:
        ramp = 1 / (1 + np.exp(-(down - rng.uniform(0.35, 0.8)) * 60)) + 0 * across
    image = (first + (second - first) * ramp).astype(np.float32)
    cells = rng.integers(3, 16, 2).tolist()
    grain = rng.normal(0, rng.uniform(4, 20), (*cells, 1)) + rng.normal(0, 3, (*cells, 3))
    image += cv2.resize(grain.astype(np.float32), (columns, rows), interpolation=cv2.INTER_CUBIC)
    painted = np.clip(image, 0, 255).astype(np.uint8)
    canvas = Canvas(painted, (0.0, 0.0), 1.0)
    bokeh = rng.random() < 0.4
    for _ in range(int(rng.integers(2, 9))):
        red, green, blue = _muted(rng).tolist()
        x, y = rng.uniform(0, columns), rng.uniform(0, rows)
        size = rng.uniform(0.04, 0.2) * columns
        tall = size * rng.uniform(0.5, 5)
        corners = np.array([(x, y), (x + size, y), (x + size, y + tall), (x, y + tall)])
        canvas.fill(
            ellipse(x, y, size, size) if bokeh else corners,
            (red, green, blue),
            alpha=float(rng.uniform(0.2, 0.7)),
            soft=float(rng.uniform(0, 3)),
        )
    painted = cv2.resize(painted, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(painted)


def _muted(rng: np.random.Generator) -> NDArray[np.float64]:
    """A colour as rooms, streets and fields have them: mostly far from pure, (3,)."""
    grey = rng.uniform(30, 225)
    return np.clip(grey + rng.normal(0, 1, 3) * rng.uniform(4, 42), 8, 248)


def _still_life(rng: np.random.Generator, image: NDArray[np.uint8]) -> None:
    """Trees, houses, balls and fruit: things a careless face detector takes for a face."""
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(1, 5))):
        size = float(rng.uniform(0.08, 0.25) * width)
        canvas = Canvas(
            image, (float(rng.uniform(0, width)), float(rng.uniform(0.3, 1) * height)), size
        )
        red, green, blue = rng.uniform(40, 220, 3).tolist()
        colour, dark = (red, green, blue), shade((red, green, blue), 0.45)
        kind = int(rng.integers(3))
        if kind == 0:
            canvas.fill(
                np.array([(-0.12, 0), (0.12, 0), (0.16, 1.4), (-0.16, 1.4)]),
                (92.0, 62.0, 40.0),
                lower=(60.0, 40.0, 26.0),
            )
            leaves = [
                ellipse(x, y, 0.5, 0.45) for x, y in rng.uniform(-0.5, 0.5, (7, 2)) - (0, 0.4)
            ]
            canvas.fill(leaves, (90.0, 150.0, 70.0), lower=(40.0, 84.0, 40.0), soft=0.03)
        elif kind == 1:
            canvas.fill(
                np.array([(-0.8, -0.3), (0.8, -0.3), (0.8, 1.2), (-0.8, 1.2)]), colour, lower=dark
            )
            canvas.fill(np.array([(-1.0, -0.3), (0.0, -1.1), (1.0, -0.3)]), (150.0, 62.0, 46.0))
            panes = [
                np.array([(x, 0), (x + 0.35, 0), (x + 0.35, 0.4), (x, 0.4)]) for x in (-0.55, 0.2)
            ]
            canvas.fill(panes, (210.0, 220.0, 190.0), lower=(120.0, 140.0, 150.0))
        else:
            canvas.fill(ellipse(0, 0, 0.8, 0.8, 40), shade(colour, 1.15), lower=dark)
            canvas.fill(
                ellipse(-0.25, -0.3, 0.22, 0.18), (255.0, 255.0, 255.0), alpha=0.5, soft=0.08
            )


def _camera(rng: np.random.Generator, image: NDArray[np.uint8], unit: float) -> NDArray[np.uint8]:
    """Exposure, colour cast, blur in proportion to the face, sensor noise; now and then grey."""
    import cv2

    levels = np.arange(256) / 255
    cast = 1 + rng.normal(0, 0.035, 3)
    gain, gamma = rng.uniform(0.72, 1.18), rng.uniform(0.8, 1.3)
    table = np.clip(255 * np.clip(gain * levels[:, None] * cast, 0, None) ** gamma, 0, 255)
    image = cv2.LUT(image, table.astype(np.uint8).reshape(1, 256, 3))
    sigma = unit * (
        rng.uniform(0, 0.012) + (rng.uniform(0.01, 0.035) if rng.random() < 0.25 else 0)
    )
    if sigma > 0.35:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    height, width = image.shape[:2]
    # One tile of noise repeated: a fresh number for each pixel would cost more than the drawing.
    tile = rng.normal(0, rng.uniform(0.5, 6), (67, 83, 1)) + rng.normal(0, 1, (67, 83, 3))
    repeats = (math.ceil(height / 67), math.ceil(width / 83), 1)
    noise = np.tile(np.round(tile).astype(np.int16), repeats)[:height, :width]
    image = cv2.add(image, noise, dtype=cv2.CV_8U)
    if rng.random() < 0.08:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(image)
