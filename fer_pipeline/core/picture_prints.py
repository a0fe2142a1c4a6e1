"""Prints of pictures: what tells two encodings of one picture without comparing all with all.

A print is a grey picture of `SIDE` pixels and 64 signs of its cosine transform. Pictures whose
signs nearly agree are compared by correlation; only that decides. How photos become such pictures,
and what follows for groups, stands in `copies_across.py`.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

SIDE = 16
"""Pixels a side of the grey pictures that are compared."""

ALIKE = 0.98
"""Correlation of two such pictures from which they can be one."""

FINE_ALIKE = 0.95
"""The same of their details, which two faces in one pose and light share less of. Both figures
are measured in docs/data.md."""

_LOW = 8
_BANDS, _BITS = 4, 16
_UNSURE = 2
"""Signs of a band that are also looked up the other way round: those nearest to none."""
_MOST_SIGNS = 10
"""Signs in which two pictures may differ that are compared. Of FER2013's faces it were at most
six after a JPEG of quality 30, and sixteen where a brighter copy had lost its highlights."""
_FLAT = 2.0
"""Standard deviation in grey levels below which a picture has nothing to compare."""
_PAIRS_AT_ONCE = 1 << 18
_BLUR = 2
"""Pixels around each one whose mean is not a detail."""


def signs(pictures: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """The signs of the low frequencies of pictures (n, SIDE, SIDE), and which are least sure.

    Both uint16 (n, 4): 64 signs in four bands of 16, and in `_UNSURE` places of each a bit for a
    sign that may be the other one in another encoding. As in perceptual hashes of the cosine
    transform (Zauner, 2010), without their median.
    """
    waves = _COSINES @ pictures.astype(np.float32) @ _COSINES.T
    # The mean isn't a sign; one frequency more makes 64.
    low = waves[:, :_LOW, :_LOW].reshape(len(pictures), -1)
    low[:, 0] = waves[:, 0, _LOW]
    # Neighbouring frequencies go together, and to different bands.
    bands = low.reshape(-1, _BITS, _BANDS).swapaxes(1, 2)
    weights = (1 << np.arange(_BITS)).astype(np.uint16)
    taken = ((bands > 0) * weights).sum(axis=2, dtype=np.uint16)
    nearest = np.argpartition(np.abs(bands), _UNSURE, axis=2)[:, :, :_UNSURE]
    unsure = weights[nearest].sum(axis=2, dtype=np.uint16)
    return taken, unsure


def has_contrast(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which of the pictures (n, SIDE, SIDE) hold anything to compare; bool (n,)."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    return np.asarray(flat.std(axis=1) >= _FLAT)


class Table:
    """The signs of many pictures, uint16 (n, 4), to be asked for those like others."""

    def __init__(self, taken: npt.NDArray[np.uint16]) -> None:
        """Sort them by each band."""
        self._words = _words(taken)
        self._orders = [np.argsort(taken[:, band], kind="stable") for band in range(_BANDS)]
        self._sorted = [taken[order, band] for band, order in enumerate(self._orders)]

    def near(
        self, taken: npt.NDArray[np.uint16], unsure: npt.NDArray[np.uint16]
    ) -> Iterator[npt.NDArray[np.int64]]:
        """Pairs (m, 2) of a row of these signs and a row of the table that may be one picture.

        Some at a time, and some pairs more than once.
        """
        for band in range(_BANDS):
            for flips in _subsets(unsure[:, band]):
                key = taken[:, band] ^ flips
                low = np.searchsorted(self._sorted[band], key, side="left")
                high = np.searchsorted(self._sorted[band], key, side="right")
                yield from self._agreeing(_words(taken), band, low, high - low)

    def _agreeing(
        self,
        words: npt.NDArray[np.uint64],
        band: int,
        low: npt.NDArray[np.int64],
        count: npt.NDArray[np.int64],
    ) -> Iterator[npt.NDArray[np.int64]]:
        """Of the pairs with one band in common, those whose other signs nearly agree too."""
        ends = np.cumsum(count)
        total = int(ends[-1]) if len(ends) else 0
        for start in range(0, total, _PAIRS_AT_ONCE):
            pair = np.arange(start, min(start + _PAIRS_AT_ONCE, total))
            asked = np.searchsorted(ends, pair, side="right")
            place = self._orders[band][low[asked] + pair - (ends[asked] - count[asked])]
            close = np.bitwise_count(words[asked] ^ self._words[place]) <= _MOST_SIGNS
            if close.any():
                yield np.stack([asked[close], place[close]], axis=1)


def are_one(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which pairs of pictures, two arrays (n, SIDE, SIDE), are one picture; bool (n,).

    They are by the correlation of the whole and that of the details, so that neither brightness
    nor contrast nor a resized encoding changes it.
    """
    one, other = first.astype(np.float32), second.astype(np.float32)
    whole = _correlation(one, other) >= ALIKE
    return np.asarray(whole & (_correlation(_details(one), _details(other)) >= FINE_ALIKE))


def _words(taken: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint64]:
    """The four bands of each row as one number."""
    return np.ascontiguousarray(taken).view(np.uint64)[:, 0]


def _subsets(bits: npt.NDArray[np.uint16]) -> Iterator[npt.NDArray[np.uint16]]:
    """Every choice of the bits that are set, in each row the same number of them."""
    single = []
    left = bits.copy()
    for _ in range(_UNSURE):
        lowest = left & (~left + np.uint16(1))
        single.append(lowest)
        left = left ^ lowest
    for chosen in range(1 << _UNSURE):
        flips = np.zeros_like(bits)
        for place, bit in enumerate(single):
            if chosen >> place & 1:
                flips |= bit
        yield flips


def _correlation(
    one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    rows = [picture.reshape(len(picture), -1) for picture in (one, other)]
    rows = [row - row.mean(axis=1, keepdims=True) for row in rows]
    length = np.linalg.norm(rows[0], axis=1) * np.linalg.norm(rows[1], axis=1)
    return np.asarray((rows[0] * rows[1]).sum(axis=1) / np.maximum(length, 1e-6), np.float32)


def _details(pictures: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The pictures less the mean of each pixel's surroundings."""
    return np.asarray(pictures - _AROUND @ pictures @ _AROUND.T, np.float32)


def _cosines() -> npt.NDArray[np.float32]:
    """The matrix of the cosine transform of `SIDE` points."""
    frequency, place = np.mgrid[:SIDE, :SIDE]
    return np.asarray(np.cos(np.pi * frequency * (2 * place + 1) / (2 * SIDE)), np.float32)


def _around() -> npt.NDArray[np.float32]:
    """The matrix of the mean over `_BLUR` pixels on each side, fewer at the edges."""
    near = np.abs(np.subtract.outer(np.arange(SIDE), np.arange(SIDE))) <= _BLUR
    return np.asarray(near / near.sum(axis=1, keepdims=True), np.float32)


_COSINES = _cosines()
_AROUND = _around()
