"""How long an MP4 or QuickTime file says that it plays, read from its boxes.

OpenCV tells the number of frames that are stored, of which an edit list may leave some out.
Everything else about videos is the business of `video.py`.
"""

import os
import struct
from typing import BinaryIO

_SMALLEST = 8
_MOST_BOXES = 10_000
"""Boxes that are looked at; a file could hold many millions of empty ones."""


def mp4_seconds(opened: BinaryIO) -> float | None:
    """Seconds that the file plays, by its movie header; None where it has none.

    `opened` may be any file that can be searched. The format: ISO/IEC 14496-12, 4.2 and 8.2.2.
    """
    end = opened.seek(0, os.SEEK_END)
    movie = _box(opened, b"moov", 0, end)
    header = movie and _box(opened, b"mvhd", *movie)
    if not header:
        return None
    opened.seek(header[0])
    data = opened.read(32)
    # After the version (1 byte) and flags: times of creation and change, then what we look for.
    layout, start = (">IQ", 20) if data[:1] == b"\x01" else (">II", 12)
    if len(data) < start + struct.calcsize(layout):
        return None
    ticks_a_second, ticks = struct.unpack_from(layout, data, start)
    return ticks / ticks_a_second if ticks_a_second and ticks else None


def _box(opened: BinaryIO, kind: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Where the content of the first box of a kind begins and ends, between two places."""
    place = start
    for _ in range(_MOST_BOXES):
        if place + _SMALLEST > end:
            break
        opened.seek(place)
        head = opened.read(16)
        if len(head) < _SMALLEST:
            return None
        size, length = int.from_bytes(head[:4]), 8
        if size == 1 and len(head) == 16:
            size, length = int.from_bytes(head[8:]), 16
        elif size == 0:
            size = end - place
        if size < length:
            return None
        if head[4:8] == kind:
            return place + length, min(place + size, end)
        place += size
    return None
