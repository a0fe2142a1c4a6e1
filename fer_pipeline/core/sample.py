"""A square of a picture, at fractional and turned coordinates, sampled to a crop of fixed size."""

import math

import numpy as np
import numpy.typing as npt

_REACH = 3
"""Pixels around the square that interpolation may read."""


def lowest_read(middle: float, extent: float, angle: float, scale: float) -> float:
    """The lowest row, in pixels at full resolution, that a square around row `middle` is made of.

    `extent` is in those pixels too, `scale` that of the decode which is sampled, or a lower one.
    """
    far = _reach(extent, angle) + _REACH / scale
    return max(middle + far, far - middle)  # what lies above the picture is reflected into it


def sample_square(
    pixels: npt.NDArray[np.uint8],
    centre: tuple[float, float],
    extent: float,
    side: int,
    *,
    angle: float = 0.0,
    grey: bool = False,
) -> npt.NDArray[np.uint8]:
    """The square of `extent` pixels around `centre` (x, y), as uint8 (side, side[, 3]).

    `pixels` are uint8 (height, width) or RGB (height, width, 3), converted to luma with `grey`;
    coordinates count from the outer edge of the first pixel. The square's upper edge is turned
    by `angle` (radians, clockwise as seen). What lies outside the picture is reflected. Shrinking
    averages areas, enlarging is cubic. The square must meet the picture.
    """
    import cv2

    far = _reach(extent, angle) + _REACH
    (left, right), (top, bottom) = (
        _span(middle, far, size) for middle, size in zip(centre, pixels.shape[1::-1], strict=True)
    )
    part = pixels[top:bottom, left:right]
    if grey and part.ndim == 3:
        part = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
    # Whole pixels are averaged first where there are many; four or more of them are left for a
    # pixel of the crop, so that interpolation at fractions of them blurs nothing that is seen.
    whole = max(1, int(extent / side / 4))
    if whole > 1:
        part = _reduced(part, whole)
    ratio = extent / whole / side
    times = 1 if ratio <= 1 else max(2, round(ratio))
    step = ratio / times
    across, down = step * math.cos(angle), step * math.sin(angle)
    x, y = (centre[0] - left) / whole, (centre[1] - top) / whole
    middle = (times * side - 1) / 2
    matrix = np.array(
        [
            [across, -down, x - 0.5 - middle * (across - down)],
            [down, across, y - 0.5 - middle * (across + down)],
        ]
    )
    sampled = cv2.warpAffine(
        part,
        matrix,
        (times * side, times * side),
        flags=cv2.WARP_INVERSE_MAP | (cv2.INTER_CUBIC if times == 1 else cv2.INTER_LINEAR),
        # Reflected at the outer edge, which lies in the same place at every scale.
        borderMode=cv2.BORDER_REFLECT,
    )
    if times > 1:
        sampled = cv2.resize(sampled, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(sampled, np.uint8)


def _reach(extent: float, angle: float) -> float:
    return extent / 2 * (abs(math.cos(angle)) + abs(math.sin(angle)))


def _span(middle: float, reach: float, size: int) -> tuple[int, int]:
    """The pixels within `reach`, and those whose reflection at an edge of the picture is."""
    first, last = middle - reach, middle + reach
    first, last = min(first, 2 * size - last), max(last, -first)
    start = min(max(0, math.floor(first)), size - 1)
    return start, max(start + 1, min(size, math.ceil(last)))


def _reduced(pixels: npt.NDArray[np.uint8], times: int) -> npt.NDArray[np.uint8]:
    import cv2

    height, width = pixels.shape[:2]
    below, beside = -height % times, -width % times
    if below or beside:
        pixels = cv2.copyMakeBorder(pixels, 0, below, 0, beside, cv2.BORDER_REFLECT)
    size = ((width + beside) // times, (height + below) // times)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
