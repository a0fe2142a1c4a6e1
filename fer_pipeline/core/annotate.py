"""Faces drawn into their picture: box, label, and a bar for each class.

What a face is stands in `recogniser.py`, how letters become pixels in `lettering.py`. Figures of
reports are drawn with matplotlib elsewhere; here a frame of a video has 2 ms.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.lettering import text_mask

if TYPE_CHECKING:
    from fer_pipeline.core.recogniser import Face

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""
Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are the first outside."""

COLOURS: Mapping[str, Colour] = {
    "Neutral": (142, 201, 236),
    "Happiness": (255, 196, 61),
    "Sadness": (82, 139, 255),
    "Surprise": (240, 138, 208),
    "Fear": (176, 132, 245),
    "Disgust": (120, 200, 90),
    "Anger": (244, 84, 70),
    "Contempt": (212, 158, 110),
}
"""A colour for each expression, bright on the dark ground of the bars."""
_OTHERS: Sequence[Colour] = ((80, 214, 190), (222, 222, 110), (255, 150, 110), (190, 190, 255))
_GREY: Colour = (150, 155, 160)
_DARK: Colour = (18, 22, 28)
_LIGHT: Colour = (245, 246, 248)

_LEAST_SIDE = 320
"""A picture whose longer side is shorter than this has no room for letters, and is enlarged."""
_LEAST_TEXT = 10
"""Letters below this size, in pixels, can't be read."""
_SIZES = (0.75, 0.55)
"""Letters beside the bars as a share of those of the label, tried in turn."""
_COVERED = 0.2
"""Share of a face that its own bars may hide."""


def annotated(image: NDArray[np.uint8], faces: Sequence["Face"]) -> NDArray[np.uint8]:
    """A copy of a picture, uint8 RGB (height, width, 3), with its faces drawn in.

    Each has its box in the colour of its label, the label with its probability, and the
    probabilities of all classes as bars, named where there is room for that beside the face. A
    face whose status isn't ok has a grey box and its status. Lines and letters grow with the
    picture, and shrink with small faces. The copy has the picture's size, but for pictures under
    320 pixels: these are enlarged by a whole number so that the letters can be read.
    """
    canvas, factor = _enlarged(image)
    height, width = canvas.shape[:2]
    boxes = [_rectangle(face, factor, width, height) for face in faces]
    layout = _Layout(width, height, list(boxes))
    styles = [
        _Style.of(face, box, math.sqrt(width * height))
        for face, box in zip(faces, boxes, strict=True)
    ]
    for box, style in zip(boxes, styles, strict=True):
        _draw_box(canvas, box, style)
    labels = [
        layout.label(box, _label_size(style)) for box, style in zip(boxes, styles, strict=True)
    ]
    for face, box, style in zip(faces, boxes, styles, strict=True):
        if face.probabilities:
            _draw_bars(canvas, layout, box, face.probabilities, style)
    for place, style in zip(labels, styles, strict=True):
        _draw_label(canvas, place, style)
    return canvas


@dataclass(frozen=True)
class _Style:
    """What is written at a face, in which colour and size; `line` is the width of its box."""

    words: str
    colour: Colour
    size: int
    line: int

    @classmethod
    def of(cls, face: "Face", box: Rectangle, side: float) -> "_Style":
        """`side` is the geometric mean of the picture's sides."""
        largest = max(_LEAST_TEXT, round(0.03 * side))
        least = min(largest, max(_LEAST_TEXT, round(0.014 * side)))
        size = min(max(least, round(0.13 * (box[2] - box[0]))), largest)
        line = max(2, round(size / 7))
        if face.label is None or face.probabilities is None:
            return cls(face.status.value.replace("_", " "), _GREY, size, line)
        share = f"{face.probabilities[face.label]:.0%}"
        names = list(face.probabilities)
        return cls(f"{face.label} {share}", colour_of(face.label, names), size, line)


def colour_of(name: str, names: Sequence[str]) -> Colour:
    """The colour of the class `name` of a model that has the classes `names`."""
    if name in COLOURS:
        return COLOURS[name]
    own = [other for other in names if other not in COLOURS]
    return _OTHERS[own.index(name) % len(_OTHERS)]


@dataclass
class _Layout:
    """The picture's size and what is taken in it: the faces, and what was placed so far."""

    width: int
    height: int
    taken: list[Rectangle] = field(default_factory=list)

    def label(self, box: Rectangle, size: tuple[int, int]) -> Rectangle:
        """A place for the label: above the box or below it, in the box where it fills the frame."""
        places = [self._inside((box[0], top), size) for top in (box[1] - size[1], box[3])]
        return self._take(min(places, key=self._hidden))

    def bars(self, box: Rectangle, size: tuple[int, int], gap: int) -> Rectangle | None:
        """A place for bars with names: beside the box, below, above, in a large one; None: none."""
        left, top, right, bottom = box
        corners = [
            (right + gap, top),
            (left - gap - size[0], top),
            (left, bottom + gap),
            (left, top - gap - size[1]),
        ]
        place = min((self._inside(corner, size) for corner in corners), key=self._hidden)
        if self._hidden(place):
            place = self._inside((left + gap, bottom - gap - size[1]), size)
            if self._hidden(place) > min(_area(size), _COVERED * _area(_size(box))):
                return None
        return self._take(place)

    def strip(self, box: Rectangle, height: int) -> Rectangle:
        """A place as wide as the box: below it, or in it at its lower edge."""
        size = (max(1, box[2] - box[0]), height)
        places = [self._inside((box[0], top), size) for top in (box[3], box[3] - height)]
        return self._take(places[1] if self._hidden(places[0]) else places[0])

    def _inside(self, corner: tuple[int, int], size: tuple[int, int]) -> Rectangle:
        left = max(0, min(corner[0], self.width - size[0]))
        top = max(0, min(corner[1], self.height - size[1]))
        return left, top, min(left + size[0], self.width), min(top + size[1], self.height)

    def _hidden(self, place: Rectangle) -> int:
        """Pixels of what is taken that lie under `place`."""
        return sum(_common(place, other) for other in self.taken)

    def _take(self, place: Rectangle) -> Rectangle:
        self.taken.append(place)
        return place


def _enlarged(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """A copy to draw into, and by what whole number it is larger than `image`."""
    side = max(image.shape[:2])
    factor = math.ceil(_LEAST_SIDE / side)
    if factor == 1:
        return np.array(image, order="C"), 1
    import cv2

    size = (image.shape[1] * factor, image.shape[0] * factor)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8), factor


def _rectangle(face: "Face", factor: int, width: int, height: int) -> Rectangle:
    """The face's box in whole pixels of the canvas, no part of it out of the frame."""
    x, y, across, down = (side * factor for side in face.box)
    left, right = (min(max(round(side), 0), width) for side in (x, x + across))
    top, bottom = (min(max(round(side), 0), height) for side in (y, y + down))
    return left, top, right, bottom


def _draw_box(canvas: NDArray[np.uint8], box: Rectangle, style: _Style) -> None:
    """The outline, inside the box, with a thin dark line on both sides: seen on any ground."""
    left, top, right, bottom = box
    edge = max(1, style.line // 2)
    for inset, line, colour in (
        (0, style.line + 2 * edge, _DARK),
        (edge, style.line, style.colour),
    ):
        x0, y0, x1, y1 = left + inset, top + inset, right - inset, bottom - inset
        if x1 - x0 < 2 * line or y1 - y0 < 2 * line:
            canvas[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = colour
            continue
        canvas[y0 : y0 + line, x0:x1] = colour
        canvas[y1 - line : y1, x0:x1] = colour
        canvas[y0:y1, x0 : x0 + line] = colour
        canvas[y0:y1, x1 - line : x1] = colour


def _label_size(style: _Style) -> tuple[int, int]:
    mask = text_mask(style.words, style.size, bold=True)
    return mask.shape[1] + style.size, mask.shape[0]


def _draw_label(canvas: NDArray[np.uint8], place: Rectangle, style: _Style) -> None:
    left, top, right, bottom = place
    canvas[top:bottom, left:right] = style.colour
    mask = text_mask(style.words, style.size, bold=True)
    _ink(canvas, mask, left + style.size // 2, top, _DARK)


def _draw_bars(
    canvas: NDArray[np.uint8],
    layout: _Layout,
    box: Rectangle,
    probabilities: Mapping[str, float],
    style: _Style,
) -> None:
    """A row for each class, on a dark ground: its name and its bar, or the bar alone."""
    names = list(probabilities)
    for share in _SIZES:
        size = max(_LEAST_TEXT - 1, round(share * style.size))
        masks = [text_mask(name, size) for name in names]
        row, gap, length = masks[0].shape[0], max(2, size // 3), 4 * size
        written = max(mask.shape[1] for mask in masks)
        whole = (written + length + 3 * gap, row * len(names) + 2 * gap)
        place = layout.bars(box, whole, style.line)
        if place is not None:
            break
    else:
        row, gap, written = max(2, style.size // 5), 1, 0
        place = layout.strip(box, row * len(names) + 2 * gap)
        length = place[2] - place[0] - 2 * gap
    left, top, right, bottom = place
    ground = canvas[top:bottom, left:right]
    ground[:] = (ground.astype(np.uint16) * 70 + np.array(_DARK, np.uint16) * 186) >> 8
    inset = row // 4 if written else 0
    start = left + gap + (written + gap if written else 0)
    for number, (name, mask) in enumerate(zip(names, masks, strict=True)):
        y = top + gap + number * row
        if written:
            _ink(canvas, mask, left + gap + written - mask.shape[1], y, _LIGHT)
        stop = min(start + max(1, round(length * probabilities[name])), right)
        # Rows below the frame, where it is lower than the bars are, end at its edge.
        canvas[y + inset : min(y + max(row - inset, inset + 1), bottom), start:stop] = colour_of(
            name, names
        )


def _ink(
    canvas: NDArray[np.uint8], mask: NDArray[np.uint8], left: int, top: int, colour: Colour
) -> None:
    """Lay letters on the canvas; what would be out of the frame is left out."""
    part = canvas[top : top + mask.shape[0], left : left + mask.shape[1]]
    share = mask[: part.shape[0], : part.shape[1], None].astype(np.uint16)
    part[:] = (part * (255 - share) + np.array(colour, np.uint16) * share) // 255


def _size(place: Rectangle) -> tuple[int, int]:
    return place[2] - place[0], place[3] - place[1]


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _common(first: Rectangle, second: Rectangle) -> int:
    """Pixels that two rectangles share."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(0, width) * max(0, height)
