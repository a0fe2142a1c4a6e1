"""EXIF orientation: which way up a photo was stored, and how to turn it upright."""

import struct

import numpy as np
import numpy.typing as npt

AS_STORED = 1
_TAG, _SHORT = 0x0112, 3
_EXIF = b"Exif\x00\x00"
_ENTRY = 12


def exif_orientation(segment: bytes) -> int | None:
    """The orientation, 1 to 8, that an APP1 segment's content holds; None without a valid one."""
    if not segment.startswith(_EXIF):
        return None
    tiff = segment[len(_EXIF) :]
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return None
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return None
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for at in range(start + 2, min(start + 2 + count * _ENTRY, len(tiff) - _ENTRY + 1), _ENTRY):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, at)
        if tag == _TAG:
            return value if kind == _SHORT and 1 <= value <= 8 else None
    return None


def swaps_sides(orientation: int) -> bool:
    """Whether the upright picture is as wide as the stored one is high."""
    return orientation >= 5


def upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Stored pixels (height, width) or (height, width, 3), turned and mirrored upright."""
    import cv2

    if orientation == 2:
        turned = cv2.flip(pixels, 1)
    elif orientation == 3:
        turned = cv2.rotate(pixels, cv2.ROTATE_180)
    elif orientation == 4:
        turned = cv2.flip(pixels, 0)
    elif orientation == 5:
        turned = cv2.transpose(pixels)
    elif orientation == 6:
        turned = cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE)
    elif orientation == 7:
        turned = cv2.rotate(cv2.transpose(pixels), cv2.ROTATE_180)
    elif orientation == 8:
        turned = cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE)
    else:
        return pixels
    return np.asarray(turned, np.uint8)


def upright_slack(right: float, bottom: float, orientation: int) -> tuple[float, float]:
    """What lies beyond the stored right and bottom edge, as slack at the upright left and top."""
    left = {2: right, 3: right, 6: bottom, 7: bottom}.get(orientation, 0.0)
    top = {3: bottom, 4: bottom, 7: right, 8: right}.get(orientation, 0.0)
    return left, top
