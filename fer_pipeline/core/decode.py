"""Bytes of a photo to pixels, whatever the bytes are.

The format is decided by content, never by the file's name. Every failure is an UnreadableError
with a reason; nothing a decoder raises goes further than this module.
"""

import io
import struct
import warnings
import zlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 100_000_000
"""Photos with more pixels are refused before they are decoded."""

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PROGRAMS = frozenset({"EPS", "WMF"})
"""Formats that Pillow hands to another program to run; a photo list has no use for them."""
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
    struct.error,
    zlib.error,
)
"""What Pillow and its plug-ins raise on damaged files."""


class UnreadableError(Exception):
    """The bytes are no photo that can be decoded within bounds; the message says why."""


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Decode the first frame to uint8 RGB, shape (height, width, 3), EXIF orientation applied.

    Grey, palette, CMYK and 16-bit pictures become 8-bit RGB; transparency is dropped. Raises
    UnreadableError when the bytes are empty, damaged, truncated, no picture, or larger than
    `max_pixels`.
    """
    import cv2
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise UnreadableError("empty file")
    bound = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None  # the bound below is ours, and raises instead of warning
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as picture:
                if picture.format in _PROGRAMS:
                    raise UnreadableError(f"{picture.format} is a drawing program, no photo")
                width, height = picture.size
                if width < 1 or height < 1:
                    raise UnreadableError("a picture without area")
                if width * height > max_pixels:
                    raise UnreadableError(f"{width}x{height} pixels, more than {max_pixels}")
                if picture.format == "JPEG" and picture.mode != "CMYK" and _is_whole(data):
                    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
                    if pixels is not None:
                        return np.asarray(pixels, np.uint8)
                return _eight_bit_rgb(picture)
        except UnidentifiedImageError as error:
            # Its own message names an object in memory, another one each time.
            raise UnreadableError("no known picture format") from error
        except _REFUSALS as error:
            raise UnreadableError(str(error) or type(error).__name__) from error
        except cv2.error as error:
            raise UnreadableError(error.err) from error
        except Image.DecompressionBombError as error:
            raise UnreadableError(str(error)) from error
        finally:
            Image.MAX_IMAGE_PIXELS = bound


def _is_whole(data: bytes) -> bool:
    """OpenCV fills what a truncated JPEG lacks with grey and says nothing; Pillow refuses it."""
    return data.startswith(_JPEG_START) and data.rstrip(b"\x00\r\n").endswith(_JPEG_END)


def _eight_bit_rgb(picture: "Image.Image") -> npt.NDArray[np.uint8]:
    from PIL import ImageOps

    picture.seek(0)
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, np.float64)
        finite = values[np.isfinite(values)]
        top = 65535.0 if picture.mode.startswith("I") else 255.0
        if finite.size and finite.max() <= 1.0 and picture.mode == "F":
            top = 1.0
        grey = np.clip(np.nan_to_num(values) * (255.0 / top), 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.asarray(picture.convert("RGB"), np.uint8)
