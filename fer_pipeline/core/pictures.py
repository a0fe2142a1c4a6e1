"""Every picture that the JPEG decoder doesn't read, through Pillow: to 8-bit RGB, upright.

The format is decided by content, never by the file's name. Memory stays near what Pillow itself
holds: pixels are converted strip by strip.
"""

import io
import logging
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_pipeline.core.bounds import Bounds, UnreadableError
from fer_pipeline.core.orientation import AS_STORED, upright

if TYPE_CHECKING:
    from PIL import Image

_ORIENTATION = 0x0112
_STRIP_PIXELS = 4_000_000
_PROGRAMS = frozenset({"EPS", "WMF"})
"""Formats that Pillow hands to another program to run; a photo list has no use for them."""
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "LA": 2, "PA": 2, "RGB": 3, "YCbCr": 3, "LAB": 3, "HSV": 3}
"""Bytes of a decoded pixel by Pillow's mode; what is not listed has 2 (I;16...) or 4."""
_HELD_BYTES = {"JPEG2000": 12, "WEBP": 12, "AVIF": 12}
"""Bytes a pixel takes, whatever its mode, where the decoder holds whole copies of its own."""
_REFUSALS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,
    AttributeError,
    NotImplementedError,
    struct.error,
    zlib.error,
)
"""What Pillow and its plug-ins raise on damaged files."""
_log = logging.getLogger("PIL.TiffImagePlugin")
"""Says on standard error what it then raises."""
_lock = threading.Lock()
"""Pillow's bound, the warnings filter and standard error belong to the whole process."""


def read_picture(
    data: bytes, bounds: Bounds, orientation: int | None = None
) -> npt.NDArray[np.uint8]:
    """Decode the first frame to uint8 RGB, shape (height, width, 3), upright.

    `orientation` is that of EXIF, 1 to 8, where the caller knows it already.

    Raises UnreadableError when the bytes are damaged, truncated, no picture, or beyond the
    bounds, which are checked before anything is decoded.
    """
    from PIL import Image, UnidentifiedImageError

    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bound, silent = Image.MAX_IMAGE_PIXELS, _log.disabled
        Image.MAX_IMAGE_PIXELS = None  # the bounds are ours, and raise instead of warning
        _log.disabled = True
        try:
            with Image.open(io.BytesIO(data)) as picture:
                if picture.format in _PROGRAMS:
                    raise UnreadableError(f"{picture.format} is a drawing program, no photo")
                bounds.check_size(*picture.size, _pixel_bytes(picture))
                with _hushed() if picture.format == "TIFF" else nullcontext():
                    picture.seek(0)
                    picture.load()
                if orientation is None:
                    orientation = picture.getexif().get(_ORIENTATION, AS_STORED)
                return upright(_eight_bit_rgb(picture), orientation)
        except UnidentifiedImageError as error:
            # Its own message names an object in memory, another one each time.
            raise UnreadableError("no known picture format") from error
        except _REFUSALS as error:
            raise UnreadableError(str(error) or type(error).__name__) from error
        finally:
            Image.MAX_IMAGE_PIXELS, _log.disabled = bound, silent


def read_jpeg_with_opencv(data: bytes) -> npt.NDArray[np.uint8] | None:
    """A JPEG's pixels, uint8 RGB, as stored, as far as OpenCV reads them; None if it can't.

    It fills what a truncated file lacks with grey, so the caller makes sure that there is an end.
    """
    import cv2

    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    with _lock, _hushed():
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            return None
    return None if pixels is None else np.asarray(pixels, np.uint8)


def _pixel_bytes(picture: "Image.Image") -> int:
    if picture.format in _HELD_BYTES:
        return _HELD_BYTES[picture.format]
    return _PIXEL_BYTES.get(picture.mode, 2 if picture.mode.startswith("I;16") else 4)


def _eight_bit_rgb(picture: "Image.Image") -> npt.NDArray[np.uint8]:
    width, height = picture.size
    rows = max(1, _STRIP_PIXELS // width)
    strips = [(top, min(height, top + rows)) for top in range(0, height, rows)]
    pixels = np.empty((height, width, 3), np.uint8)
    deep = picture.mode.startswith(("I", "F"))
    white = _white(picture, strips) if deep else 255.0
    for top, bottom in strips:
        strip = picture.crop((0, top, width, bottom))
        if deep:
            values = np.nan_to_num(np.asarray(strip, np.float64)) * (255.0 / white)
            pixels[top:bottom] = np.clip(values, 0, 255).astype(np.uint8)[:, :, None]
        else:
            pixels[top:bottom] = np.asarray(strip.convert("RGB"), np.uint8)
    return pixels


def _white(picture: "Image.Image", strips: list[tuple[int, int]]) -> float:
    """The value of white: 65535 in integers; 1 or 255 in floats, which have no rule."""
    if picture.mode.startswith("I"):
        return 65535.0
    largest = -np.inf
    for top, bottom in strips:
        values = np.asarray(picture.crop((0, top, picture.width, bottom)), np.float32)
        finite = values[np.isfinite(values)]
        largest = max(largest, float(finite.max(initial=-np.inf)))
    return 1.0 if -np.inf < largest <= 1.0 else 255.0


@contextmanager
def _hushed() -> Iterator[None]:
    """Standard error goes nowhere: libtiff and libjpeg write there, hundreds of lines a file."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
