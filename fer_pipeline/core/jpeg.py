"""JPEG files: what their header says, and decoding at a reduced scale.

A JPEG's blocks can be decoded straight to 1/8, 1/4 or 1/2 of their size, which saves most of the
work after entropy decoding. The scales between have no SIMD code in libjpeg-turbo: 3/8 costs as
much as 1/2, and 5/8 to 7/8 more than the full size. Entropy decoding has to go through everything
above the rows that are wanted, and can stop below them.
"""

import math
import re
import struct
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.orientation import AS_STORED, exif_orientation

JPEG_START = b"\xff\xd8\xff"
JPEG_END = b"\xff\xd9"
_EIGHTHS = (1, 2, 4, 8)
_APP1, _SCAN, _END, _SCAN_MARKER = 0xE1, 0xDA, 0xD9, b"\xff\xda"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
"""Codes without a length: no marker, TEM, the restart markers and start of image."""
_NO_FILL = re.compile(rb"[^\xff]")
_MAX_SEGMENTS = 10_000
_MAX_SCAN_PIXELS = 2_000_000_000
"""Each scan goes over all pixels: a small file of a thousand scans would take minutes."""
_WORTH_STOPPING = 0.9
"""Share of a photo's rows from which on all of them are decoded."""


@dataclass(frozen=True)
class JpegHeader:
    """What a JPEG says before its pixels: sizes as stored, in pixels; `precision` in bits.

    The file holds its rows `block_rows` at a time, one after another; None where it doesn't
    (progressive files and those of several scans). `height_at` is where it says its height.
    """

    width: int
    height: int
    components: int
    precision: int
    progressive: bool
    orientation: int
    block_rows: int | None = None
    height_at: int = 0

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
    header, orientation, at, frame, in_rows = None, None, 2, 0, False
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
            frame, in_rows = at, marker in _SEQUENTIAL
        elif marker == _SCAN:
            break
        elif marker == _END:
            return None
        at += length
    else:
        raise UnreadableError(f"a JPEG of more than {_MAX_SEGMENTS} segments before its pixels")
    if header is None or at + 3 > len(data):
        return None
    one_scan = data[at + 2] >= header[2]
    block_rows = _block_rows(data, frame, header[2]) if in_rows and one_scan else None
    found = JpegHeader(*header, orientation or AS_STORED, block_rows, frame + 3)
    if found.progressive or not one_scan:
        _check_scans(data, at - 2, found)
    return found


def _block_rows(data: bytes, frame: int, components: int) -> int:
    """Rows of a block: 8 for each time that the most finely sampled component is."""
    return 8 * max(1, *(at & 15 for at in data[frame + 9 : frame + 8 + 3 * components : 3]))


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


def upper_part(
    data: bytes, header: JpegHeader, rows: float, *, grey: bool
) -> tuple[bytes, JpegHeader] | None:
    """The same JPEG cut below `rows`: those decode to the same pixels, and the decoder stops there.

    None where that can't be had, isn't worth it, or the file lacks its end, which nobody would see
    any more. The other rows' data are still there, so that it is to be decoded with `strict=False`.
    """
    if header.block_rows is None or not data.endswith(JPEG_END):
        return None
    # Colours are stored for several rows, and take from those of the next block.
    wanted = rows if grey else rows + header.block_rows
    height = math.ceil(wanted / header.block_rows) * header.block_rows
    if not 0 < height < _WORTH_STOPPING * header.height:
        return None
    part = bytearray(data)
    struct.pack_into(">H", part, header.height_at, height)
    return bytes(part), replace(header, height=height)


def decode_scaled(
    data: bytes, header: JpegHeader, eighths: int, *, grey: bool, strict: bool = True
) -> npt.NDArray[np.uint8] | None:
    """The pixels as stored, at n/8: uint8 (height, width) of luma, or (height, width, 3) RGB.

    None when the file is damaged, truncated or of a kind that needs another decoder (CMYK,
    12-bit, arithmetic coding, ...). Unless `strict`, what a decoder can go on after is no damage.
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
        pixels = simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", strict=strict, **least)
    except (ValueError, RuntimeError, MemoryError):
        return None
    if pixels.shape[:2] != (height, width):
        return None
    return np.asarray(pixels[:, :, 0] if grey else pixels, np.uint8)
