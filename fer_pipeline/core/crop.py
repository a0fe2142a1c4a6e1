"""The one preprocessing function: a photo and a box to the pixels a model sees.

Training, evaluation and recognition all call `prepare_face`, with the settings that travel with
the model.
"""

import math
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from fer_pipeline.core.bounds import (
    MAX_DECODED_BYTES,
    MAX_FILE_BYTES,
    MAX_PIXELS,
    Bounds,
    UnreadableError,
)
from fer_pipeline.core.decode import Photo, open_photo, photo_of
from fer_pipeline.core.detect import Box, find_face, iou
from fer_pipeline.core.files import text_digest
from fer_pipeline.core.sample import lowest_read, sample_square

_LEAST_VISIBLE = 0.1
"""Share of a box that must lie in the frame; less is a wrong box, not a face at the edge."""
_LARGEST_BOX = 2.0
"""Longest side of a box in sides of the photo; a square around more would be mostly padding."""
_FRAME_OF_WHOLE = 0.0
_CROP_VERSION = "4"
_PIXELS_PER_PIXEL = 2
"""A crop is made of a decode that has at least as many pixels of the box for each of its own."""


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
    never because the whole picture is the face; boxes under `min_face` pixels are too small;
    `align` turns the crops of detected faces so that the eyes are level (a listed box has no
    eyes, and its crop stays as it is). What a photo may hold at most: `max_pixels` pixels,
    `max_decoded_bytes` bytes of pixels, `max_file_bytes` bytes in its file.
    """

    side: int = 48
    colour: Literal["grey", "rgb"] = "grey"
    margin: float = 0.12
    detect: Literal["missing", "always", "whole"] = "missing"
    min_face: int = 16
    max_pixels: int = MAX_PIXELS
    max_decoded_bytes: int = MAX_DECODED_BYTES
    max_file_bytes: int = MAX_FILE_BYTES
    align: bool = False

    @property
    def bounds(self) -> Bounds:
        """What is refused before it is decoded."""
        return Bounds(self.max_pixels, self.max_decoded_bytes, self.max_file_bytes)

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


def for_photos(settings: CropSettings) -> CropSettings:
    """The settings of a model as they are for faces in photos.

    A model whose pictures were faces already, taken whole, gets faces framed as in FER2013: there
    the longer side of YuNet's box is the side of the picture (a margin of 0.006, the median of
    1,479 of 1,500 training pictures, the box's centre within a hundredth of the picture's).
    """
    if settings.detect != "whole":
        return settings
    return replace(settings, detect="missing", margin=_FRAME_OF_WHOLE)


@dataclass(frozen=True)
class PreparedFace:
    """The outcome for one face: `crop` is uint8 (side, side, channels), None unless ok.

    `box` is the one used, `score` the detector's (None when not asked), `iou` that of the
    detected and the listed box (None unless there are both), `reason` why the photo failed;
    `photo_width` and `photo_height` are those of the upright photo at full resolution, in pixels
    (None for a photo that is missing or unreadable).
    """

    status: Status
    crop: npt.NDArray[np.uint8] | None = None
    box: Box | None = None
    score: float | None = None
    iou: float | None = None
    reason: str | None = None
    photo_width: int | None = None
    photo_height: int | None = None


def prepare_face(
    data: bytes | UnreadableError | None, listed: Box | None, settings: CropSettings
) -> PreparedFace:
    """The stored bytes of a photo and its listed box to a crop, or to the reason there is none.

    `data` is None when the photo is missing, an UnreadableError when its file couldn't be read.
    Never raises for what the bytes or the box hold.
    """
    if data is None:
        return PreparedFace(Status.MISSING, reason="no such photo")
    if isinstance(data, UnreadableError):
        return PreparedFace(Status.UNREADABLE, reason=str(data)[:200])
    try:
        return _prepare(open_photo(data, settings.bounds), listed, settings)
    except UnreadableError as error:
        return PreparedFace(Status.UNREADABLE, reason=str(error)[:200])


def prepare_image(
    image: npt.NDArray[np.uint8], listed: Box | None, settings: CropSettings
) -> PreparedFace:
    """As `prepare_face`, from an upright RGB image uint8 (height, width, 3)."""
    return _prepare(photo_of(image), listed, settings)


def _prepare(photo: Photo, listed: Box | None, settings: CropSettings) -> PreparedFace:
    if settings.detect == "whole":
        return whole_face(photo, settings)
    box, angle = listed, 0.0
    score: float | None = None
    overlap: float | None = None
    if listed is None or settings.detect == "always":
        face = find_face(photo, listed)
        if face is not None:
            box, score = face.box, face.score
            overlap = iou(face.box, listed) if listed is not None else None
            angle = face.eye_line if settings.align else 0.0
    prepared = crop_face(photo, box, settings, angle)
    return replace(prepared, score=score, iou=overlap)


def crop_face(
    photo: Photo, box: Box | None, settings: CropSettings, angle: float = 0.0
) -> PreparedFace:
    """One face of an opened photo, where its box is known; no face without one.

    `angle` is that of the line through the eyes, radians, clockwise as seen: the crop is turned
    so that it is level. Raises UnreadableError when the photo can't be decoded.
    """
    width, height = photo.width, photo.height
    status = _status(box, width, height, settings)
    crop: npt.NDArray[np.uint8] | None = None
    if box is not None and status is Status.OK:
        crop = _square(photo, box, angle, settings)
    else:
        photo.view(0.0)  # a photo that can't be read is unreadable, whatever its box
    return PreparedFace(status, crop, box, photo_width=width, photo_height=height)


def whole_face(photo: Photo, settings: CropSettings) -> PreparedFace:
    """The whole picture as one face, resized; raises UnreadableError when it can't be decoded."""
    width, height = photo.width, photo.height
    frame = (0.0, 0.0, float(width), float(height))
    crop = _whole(photo, settings)
    return PreparedFace(Status.OK, crop, frame, photo_width=width, photo_height=height)


def _status(box: Box | None, width: int, height: int, settings: CropSettings) -> Status:
    if box is None:
        return Status.NO_FACE
    too_large = max(box[2], box[3]) > _LARGEST_BOX * max(width, height)
    if too_large or _visible_share(box, width, height) < _LEAST_VISIBLE:
        return Status.BAD_BOX
    return Status.TOO_SMALL if min(box[2], box[3]) < settings.min_face else Status.OK


def _visible_share(box: Box, width: int, height: int) -> float:
    x, y, box_width, box_height = box
    if box_width <= 0 or box_height <= 0 or not all(map(math.isfinite, box)):
        return 0.0
    inside_x = max(0.0, min(x + box_width, width) - max(x, 0.0))
    inside_y = max(0.0, min(y + box_height, height) - max(y, 0.0))
    return (inside_x / box_width) * (inside_y / box_height)


def _square(photo: Photo, box: Box, angle: float, settings: CropSettings) -> npt.NDArray[np.uint8]:
    """The square around the box with its margin, from the smallest decode that is good enough."""
    x, y, width, height = box
    longer, grey = max(width, height), settings.channels == 1
    extent = longer * (1 + 2 * settings.margin)
    least = _PIXELS_PER_PIXEL * settings.side / longer
    centre_x, centre_y = x + width / 2, y + height / 2
    view = photo.view(
        least, grey=grey, bottom=lowest_read(centre_y, extent, angle, min(least, 1.0))
    )
    centre = view.left + centre_x * view.scale, view.top + centre_y * view.scale
    crop = sample_square(
        view.pixels, centre, extent * view.scale, settings.side, angle=angle, grey=grey
    )
    return crop.reshape(settings.shape)


def _whole(photo: Photo, settings: CropSettings) -> npt.NDArray[np.uint8]:
    import cv2

    image = photo.view(1.0, grey=settings.channels == 1).pixels
    if settings.channels == 1 and image.ndim == 3:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    side = settings.side
    if image.shape[:2] != (side, side):
        shrinks = min(image.shape[:2]) > side
        how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        image = np.asarray(cv2.resize(image, (side, side), interpolation=how), np.uint8)
    return np.ascontiguousarray(image.reshape(settings.shape))
