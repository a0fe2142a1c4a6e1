"""The one value of a small NumPy file, as text; arrays and pickled objects are refused.

The header is matched, not evaluated, and nothing is unpickled: files of a data set come from
anywhere. AffectNet's release of 2021 has some hundred thousand such files.
"""

import re
import struct
from collections.abc import Callable
from functools import lru_cache

_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    rb"\{'descr': '([<>|=][UiufS]\d{1,4})', 'fortran_order': (?:True|False), "
    rb"'shape': \((?:1,? ?)*\),? ?\}\s*"
)
_LENGTHS = {1: ("<H", 10), 2: ("<I", 12), 3: ("<I", 12)}
"""By version of the format: how the header's length is written, and where the header begins."""
_NUMBERS = {
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
    "f2": "e",
    "f4": "f",
    "f8": "d",
}


def npy_scalar(data: bytes) -> str | None:
    """The value of an array of one element (a number or a text); None where there is none.

    `data` are the bytes of the file. A number is written as Python writes it, a text without
    the NULs and blanks at its ends.
    """
    if data[:6] != _MAGIC or len(data) < 12 or data[6] not in _LENGTHS:
        return None
    layout, start = _LENGTHS[data[6]]
    end = start + int(struct.unpack_from(layout, data, 8)[0])
    reader = _reader(data[start:end])
    if reader is None:
        return None
    try:
        return reader(data[end:])
    except (ValueError, struct.error):
        return None


@lru_cache(maxsize=256)
def _reader(header: bytes) -> Callable[[bytes], str] | None:
    """What reads the element behind a header; files of one kind have few headers."""
    match = _HEADER.fullmatch(header)
    if match is None:
        return None
    kind = match[1].decode()
    order, code, size = kind[0].replace("|", "="), kind[1:], int(kind[2:])
    if code in _NUMBERS:
        number = struct.Struct(order + _NUMBERS[code])
        return lambda element: str(number.unpack(element)[0])
    if kind[1] not in "US":
        return None
    wide = kind[1] == "U"
    encoding = ("utf-32-be" if order == ">" else "utf-32-le") if wide else "ascii"
    length = 4 * size if wide else size

    def text(element: bytes) -> str:
        if len(element) != length:
            raise ValueError(f"{len(element)} bytes, not {length}")
        return element.decode(encoding).rstrip("\x00").strip()

    return text
