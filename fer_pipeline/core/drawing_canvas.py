"""Anti-aliased, soft-edged shapes on a picture, in the coordinates of a turned head.

Knows projection and paint, nothing of anatomy (`drawing_face`) or of photos (`drawing`).

Head coordinates: origin between nose root and nose tip, x to the right of the picture, y down,
the unit is half the width of the face, z comes out of the picture.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.drawing_traits import Colour

Points = NDArray[np.float64]
"""(n, 2) float64, x and y."""

Window = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom lie outside."""

_FRACTION_BITS = 4


class Canvas:
    """A picture with a head's place in it: where, how large (pixels a unit), how turned.

    `image` is uint8, (height, width, 3), RGB, and is painted in place. Angles are in radians:
    roll turns in the plane of the picture, yaw and pitch tilt the head out of it.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        origin: tuple[float, float],
        unit: float,
        *,
        roll: float = 0.0,
        yaw: float = 0.0,
        pitch: float = 0.0,
    ) -> None:
        """See the class."""
        self.image = image
        self.unit = unit
        self._origin = np.array(origin)
        self._turn = unit * np.array(
            [[math.cos(roll), math.sin(roll)], [-math.sin(roll), math.cos(roll)]]
        )
        self._angles = {"roll": roll, "yaw": yaw, "pitch": pitch}
        self._yaw = (math.cos(yaw), math.sin(yaw))
        self._pitch = (math.cos(pitch), math.sin(pitch))

    def magnified(
        self, image: NDArray[np.uint8], corner: tuple[int, int], factor: float
    ) -> "Canvas":
        """The same head on `image`, the part of this picture from `corner` on, enlarged."""
        x, y = (self._origin - corner) * factor
        return Canvas(image, (float(x), float(y)), self.unit * factor, **self._angles)

    def project(
        self, points: Sequence[Sequence[float]] | Points, depth: float | None = None
    ) -> Points:
        """Head coordinates as seen from the front, (n, 2), still in units.

        Without `depth` (z of all points) the points lie on the surface of the face.
        """
        points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        x, y = points[:, 0], points[:, 1]
        z: NDArray[np.float64] | float
        if depth is None:
            z = 0.9 * np.sqrt(np.clip(1.0 - x**2 / 1.15 - y**2 / 3.4, 0.0, None))
        else:
            z = depth
        turned_x = x * self._yaw[0] + z * self._yaw[1]
        turned_y = y * self._pitch[0] + (z - 0.45) * self._pitch[1]
        return np.column_stack((turned_x, turned_y))

    def pixels(self, seen: Points) -> Points:
        """Projected points, (n, 2) in units, as pixels of the picture."""
        return np.asarray(seen @ self._turn + self._origin)

    def grid(self, left: int, top: int, width: int, height: int) -> tuple[Points, Points]:
        """Projected x and y, (rows, columns) each, of a coarse grid over a part of the picture."""
        step = max(1.0, 0.045 * self.unit)
        columns, rows = max(2, round(width / step)), max(2, round(height / step))
        xs = left + (np.arange(columns) + 0.5) * width / columns
        ys = top + (np.arange(rows) + 0.5) * height / rows
        inverse = np.linalg.inv(self._turn)
        dx, dy = xs[None, :] - self._origin[0], ys[:, None] - self._origin[1]
        return dx * inverse[0, 0] + dy * inverse[1, 0], dx * inverse[0, 1] + dy * inverse[1, 1]

    def window(self, seen: Points, margin: float = 0.0) -> Window | None:
        """Left, top, right and bottom pixel around projected points; None outside the picture."""
        return self._around(self.pixels(seen), margin)

    def _around(self, pixels: Points, margin: float) -> Window | None:
        height, width = self.image.shape[:2]
        (low_x, low_y), (high_x, high_y) = pixels.min(axis=0).tolist(), pixels.max(axis=0).tolist()
        left, right = max(0, int(low_x - margin) - 2), min(width, int(high_x + margin) + 3)
        top, bottom = max(0, int(low_y - margin) - 2), min(height, int(high_y + margin) + 3)
        return (left, top, right, bottom) if left < right and top < bottom else None

    def mask(self, shape: Points, window: Window) -> NDArray[np.uint8]:
        """Coverage of a projected polygon within a window, uint8, anti-aliased."""
        return _coverage([self.pixels(shape)], window)

    def fill(
        self,
        shapes: Points | Sequence[Points],
        colour: Colour,
        *,
        lower: Colour | None = None,
        alpha: float = 1.0,
        soft: float = 0.0,
        clip: Points | None = None,
    ) -> None:
        """Paint projected polygons: `colour`, or from it at the top to `lower` at the bottom.

        `alpha` is opacity, `soft` the blur of the edge in units, `clip` a polygon to stay in.
        """
        import cv2

        shapes = [shapes] if isinstance(shapes, np.ndarray) else shapes
        pixels = [self.pixels(shape) for shape in shapes]
        sigma = soft * self.unit
        window = self._around(np.concatenate(pixels), 2.5 * sigma)
        if window is None:
            return
        mask = _coverage(pixels, window)
        if sigma > 0.3:
            mask = cv2.GaussianBlur(mask, (0, 0), sigma)
        if clip is not None:
            mask = cv2.min(mask, self.mask(clip, window))
        colours = [colour] if lower is None else np.linspace(colour, lower, 16)
        ramp = np.asarray(colours).astype(np.uint8)[:, None, :]
        # A resize spreads the few colours over the window faster than numpy's broadcasting.
        paint = cv2.resize(ramp, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
        self.blend(paint, mask, window, alpha)

    def blend(
        self,
        paint: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        window: Window,
        alpha: float = 1.0,
    ) -> None:
        """Lay `paint` (rows, columns, 3) over a window, weighted by `mask` (0 to 255) x `alpha`."""
        import cv2

        left, top, right, bottom = window
        below = self.image[top:bottom, left:right]
        weight = mask.astype(np.float32)
        weight *= alpha / 255
        cv2.blendLinear(paint, below, weight, 1 - weight, below)


def spline(points: Sequence[Sequence[float]] | Points, *, closed: bool, steps: int = 6) -> Points:
    """A smooth curve through points (Catmull-Rom), `steps` points for each given one, (m, 2)."""
    knots = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if closed:
        padded = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    pieces = np.stack([padded[:-3], padded[1:-2], padded[2:-1], padded[3:]], axis=1)
    curve = (_spline_weights(steps) @ pieces).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, knots[-1:]])


@lru_cache
def _spline_weights(steps: int) -> NDArray[np.float64]:
    t = np.arange(steps) / steps
    weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
    return 0.5 * np.stack(weights, axis=1)


def _coverage(pixels: Sequence[Points], window: Window) -> NDArray[np.uint8]:
    import cv2

    left, top, right, bottom = window
    mask = np.zeros((bottom - top, right - left), np.uint8)
    for shape in pixels:
        corners = ((shape - (left, top)) * (1 << _FRACTION_BITS) + 0.5).astype(np.int32)
        cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, _FRACTION_BITS)
    return mask


def moved(points: Points, x: float, y: float) -> Points:
    """The points shifted by (x, y)."""
    return np.asarray(points + np.array((x, y)))


def ellipse(x: float, y: float, radius_x: float, radius_y: float, count: int = 28) -> Points:
    """A closed ellipse about (x, y), (count, 2)."""
    angle = np.linspace(0, 2 * math.pi, count, endpoint=False)
    return np.stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)], axis=1)


def ribbon(line: Points, start: float, end: float, middle: float | None = None) -> Points:
    """A stroke along a line as a polygon; widths in units at its start, end and middle."""
    normal = np.empty_like(line)
    normal[1:-1] = line[2:] - line[:-2]
    normal[0], normal[-1] = line[1] - line[0], line[-1] - line[-2]
    normal = normal[:, ::-1] * (-1.0, 1.0)
    middle = (start + end) / 2 if middle is None else middle
    width = np.interp(np.arange(len(line)) / (len(line) - 1), [0, 0.5, 1], [start, middle, end])
    length = np.sqrt((normal * normal).sum(axis=1))
    offset = normal * (width / 2 / np.maximum(length, 1e-9))[:, None]
    return np.concatenate([line + offset, (line - offset)[::-1]])
