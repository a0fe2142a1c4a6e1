"""JPEG files: what their header says, and decoding at a reduced scale.

A JPEG's blocks can be decoded straight to 1/8, 1/4 or 1/2 of their size, which saves most of the
work after entropy decoding. The scales between have no SIMD code in libjpeg-turbo: 3/8 costs as
much as 1/2, and 5/8 to 7/8 more than the full size.
"""

import re
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.orientation import AS_STORED, exif_orientation

JPEG_START = b"\xff\xd8\xff"
_EIGHTHS = (1, 2, 4, 8)
_APP1, _SCAN, _END, _SCAN_MARKER = 0xE1, 0xDA, 0xD9, b"\xff\xda"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
"""Codes without a length: no marker, TEM, the restart markers and start of image."""
_NO_FILL = re.compile(rb"[^\xff]")
_MAX_SEGMENTS = 10_000
_MAX_SCAN_PIXELS = 2_000_000_000
"""Each scan goes over all pixels: a small file of a thousand scans would take minutes."""


@dataclass(frozen=True)
class JpegHeader:
    """What a JPEG says before its pixels: sizes as stored, in pixels; `precision` in bits."""

    width: int
    height: int
    components: int
    precision: int
    progressive: bool
    orientation: int

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one decoded pixel."""
        return self.components * (1 if self.precision <= 8 else 2)


def read_header(data: bytes) -> JpegHeader | None:
    """The header of a JPEG without decoding it; None when it is damaged or the data no JPEG.

    Raises UnreadableError for one of so many segments or scans that it would take minutes.
    """
    if not data.startswith(JPEG_START):
        return None
    header, orientation, at = None, None, 2
    for _ in range(_MAX_SEGMENTS):
        fill = data.find(b"\xff", at)
        code = _NO_FILL.search(data, fill) if fill >= 0 else None
        if code is None or code.start() + 3 > len(data):
            return None
        at = code.start() + 1
        marker = data[at - 1]
        if marker in _ALONE:
            continue
        length = (data[at] << 8) | data[at + 1]
        if marker == _APP1 and orientation is None:
            orientation = exif_orientation(data[at + 2 : at + length])
        elif marker in _FRAMES:
            if header is not None or at + 8 > len(data):
                return None
            precision, height, width, components = struct.unpack_from(">BHHB", data, at + 2)
            if not (height and width and components):
                return None
            header = width, height, components, precision, marker in _PROGRESSIVE
        elif marker == _SCAN:
            break
        elif marker == _END:
            return None
        at += length
    else:
        raise UnreadableError(f"a JPEG of more than {_MAX_SEGMENTS} segments before its pixels")
    if header is None or at + 3 > len(data):
        return None
    found = JpegHeader(*header, orientation or AS_STORED)
    if found.progressive or data[at + 2] < found.components:
        _check_scans(data, at - 2, found)
    return found


def _check_scans(data: bytes, start: int, header: JpegHeader) -> None:
    scans = data.count(_SCAN_MARKER, start)
    if scans * header.width * header.height > _MAX_SCAN_PIXELS:
        raise UnreadableError(
            f"{header.width}x{header.height} pixels in {scans} scans, which takes too long"
        )


def eighths_for(least: float) -> int:
    """The smallest n of the scales n/8 that are worth it which is at least `least`, else 8."""
    return next((n for n in _EIGHTHS if n / 8 >= least), 8)


def scaled_size(header: JpegHeader, eighths: int) -> tuple[int, int]:
    """Width and height in pixels, as stored, of a decode at n/8."""
    return -(-header.width * eighths // 8), -(-header.height * eighths // 8)


def decode_scaled(
    data: bytes, header: JpegHeader, eighths: int, *, grey: bool
) -> npt.NDArray[np.uint8] | None:
    """The pixels as stored, at n/8: uint8 (height, width) of luma, or (height, width, 3) RGB.

    None when the file is damaged, truncated or of a kind that needs another decoder (CMYK,
    12-bit, arithmetic coding, ...).
    """
    import simplejpeg

    if header.components > 3 or header.precision != 8:
        return None
    width, height = scaled_size(header, eighths)
    least = {} if eighths == 8 else {"min_width": width, "min_height": height}
    try:
        # The size that was checked against the bounds must be the one that is decoded.
        if simplejpeg.decode_jpeg_header(data)[:2] != (header.height, header.width):
            return None
        pixels = simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", **least)
    except (ValueError, RuntimeError, MemoryError):
        return None
    if pixels.shape[:2] != (height, width):
        return None
    return np.asarray(pixels[:, :, 0] if grey else pixels, np.uint8)
