"""The one preprocessing function: a photo and a box to the pixels a model sees.

Training, evaluation and recognition all call `prepare_face`, with the settings that travel with
the model.
"""

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from fer_pipeline.core.decode import MAX_PIXELS, UnreadableError, decode
from fer_pipeline.core.detect import Box, best_face, detect_faces, iou
from fer_pipeline.core.files import text_digest

_LEAST_VISIBLE = 0.1
"""Share of a box that must lie in the frame; less is a wrong box, not a face at the edge."""
_LARGEST_BOX = 2.0
"""Longest side of a box in sides of the photo; a square around more would be mostly padding."""
_CROP_VERSION = "1"


class Status(StrEnum):
    """What became of one face."""

    OK = "ok"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    NO_FACE = "no_face"
    TOO_SMALL = "too_small"
    BAD_BOX = "bad_box"


@dataclass(frozen=True)
class CropSettings:
    """How a face becomes a crop; stored with every shard and every model.

    `side` is the crop's height and width in pixels; `margin` is added on each side as a share of
    the box's longer side; `detect` says when YuNet is asked: for faces without a box, always, or
    never because the whole picture is the face; boxes under `min_face` pixels are too small.
    """

    side: int = 48
    colour: Literal["grey", "rgb"] = "grey"
    margin: float = 0.12
    detect: Literal["missing", "always", "whole"] = "missing"
    min_face: int = 16
    max_pixels: int = MAX_PIXELS

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return 1 if self.colour == "grey" else 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels of a crop."""
        return self.side, self.side, self.channels

    @property
    def hash(self) -> str:
        """12 hex digits that change with any setting and with the method."""
        items = sorted(asdict(self).items())
        return text_digest(_CROP_VERSION, *(f"{name}={value}" for name, value in items))[:12]


@dataclass(frozen=True)
class PreparedFace:
    """The outcome for one face: `crop` is uint8 (side, side, channels), None unless ok.

    `box` is the one used, `score` the detector's (None when not asked), `iou` that of the
    detected and the listed box (None unless there are both), `reason` why the photo failed.
    """

    status: Status
    crop: npt.NDArray[np.uint8] | None = None
    box: Box | None = None
    score: float | None = None
    iou: float | None = None
    reason: str | None = None


def prepare_face(data: bytes | None, listed: Box | None, settings: CropSettings) -> PreparedFace:
    """The stored bytes of a photo and its listed box to a crop, or to the reason there is none.

    `data` is None when the photo is missing. Never raises for what the bytes or the box hold.
    """
    if data is None:
        return PreparedFace(Status.MISSING, reason="no such photo")
    try:
        image = decode(data, settings.max_pixels)
    except UnreadableError as error:
        return PreparedFace(Status.UNREADABLE, reason=str(error)[:200])
    return prepare_image(image, listed, settings)


def prepare_image(
    image: npt.NDArray[np.uint8], listed: Box | None, settings: CropSettings
) -> PreparedFace:
    """As `prepare_face`, from an RGB image uint8 (height, width, 3)."""
    height, width = image.shape[:2]
    if settings.detect == "whole":
        return PreparedFace(
            Status.OK, _resized(image, settings), (0.0, 0.0, float(width), float(height))
        )
    box, score, overlap = listed, None, None
    if listed is None or settings.detect == "always":
        face = best_face(detect_faces(image), listed)
        if face is not None:
            box, score = face.box, face.score
            overlap = iou(face.box, listed) if listed is not None else None
    if box is None:
        return PreparedFace(Status.NO_FACE)
    too_large = max(box[2], box[3]) > _LARGEST_BOX * max(width, height)
    if too_large or _visible_share(box, width, height) < _LEAST_VISIBLE:
        return PreparedFace(Status.BAD_BOX, box=box, score=score, iou=overlap)
    if min(box[2], box[3]) < settings.min_face:
        return PreparedFace(Status.TOO_SMALL, box=box, score=score, iou=overlap)
    crop = _resized(_square(image, box, settings.margin), settings)
    return PreparedFace(Status.OK, crop, box, score, overlap)


def _visible_share(box: Box, width: int, height: int) -> float:
    x, y, box_width, box_height = box
    if box_width <= 0 or box_height <= 0 or not all(map(math.isfinite, box)):
        return 0.0
    inside_x = max(0.0, min(x + box_width, width) - max(x, 0.0))
    inside_y = max(0.0, min(y + box_height, height) - max(y, 0.0))
    return (inside_x / box_width) * (inside_y / box_height)


def _square(image: npt.NDArray[np.uint8], box: Box, margin: float) -> npt.NDArray[np.uint8]:
    """The square around the box with its margin; what lies outside the frame is reflected."""
    import cv2

    height, width = image.shape[:2]
    x, y, box_width, box_height = box
    side = max(1, round(max(box_width, box_height) * (1 + 2 * margin)))
    left, top = round(x + box_width / 2 - side / 2), round(y + box_height / 2 - side / 2)
    right, bottom = left + side, top + side
    inner = image[max(0, top) : min(height, bottom), max(0, left) : min(width, right)]
    pads = (max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width))
    if not any(pads):
        return inner
    # REFLECT_101 needs two pixels to reflect; a sliver of one is repeated instead.
    mode = cv2.BORDER_REFLECT_101 if min(inner.shape[:2]) > 1 else cv2.BORDER_REPLICATE
    return np.asarray(cv2.copyMakeBorder(inner, *pads, mode), np.uint8)


def _resized(image: npt.NDArray[np.uint8], settings: CropSettings) -> npt.NDArray[np.uint8]:
    import cv2

    if settings.colour == "grey":
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    side = settings.side
    if image.shape[:2] != (side, side):
        shrinks = min(image.shape[:2]) > side
        how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        image = np.asarray(cv2.resize(image, (side, side), interpolation=how), np.uint8)
    return np.ascontiguousarray(image.reshape(settings.shape))
