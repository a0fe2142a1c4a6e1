"""Which photos of the data sets of a mixture are one picture in two encodings.

The same bytes are found by `photo_copies.py`. A picture that another data set holds as raw pixels,
encoded anew or resized has other bytes; it is found here by what it shows, in the photos
themselves. Within one data set nothing is looked for.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fer_pipeline.core.bounds import Bounds, UnreadableError
from fer_pipeline.core.datasets.base import DataSet, Photo
from fer_pipeline.core.decode import open_photo
from fer_pipeline.core.picture_prints import SIDE, Table, are_one, has_contrast, signs
from fer_pipeline.core.read_ahead import Stored

_AT_ONCE = 256
"""Photos that are held, encoded, while some of them are decoded."""
_ASKED_AT_ONCE = 16_384
_THREADS = 8
_OVERSAMPLED = 2
"""Pixels of the decode for each one of the small picture, whatever scale the file allows."""


def pairs_across(
    dataset: DataSet,
    photos: Sequence[Photo],
    bounds: Bounds,
    on_compared: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.int64]:
    """Pairs of `photos`, of two data sets of the mixture, that show one picture; (m, 2).

    Photos that are missing or can't be read are like no other, and so are those without contrast.
    `on_compared` is told photos looked at and photos to look at. Memory grows by about 30 bytes a
    photo, a file in the folder for temporary files by 256.
    """
    names = [part.name for part in dataset.parts()]
    number = {name: place for place, name in enumerate(names)}
    of_list = {name: number[dataset.part_of(name).name] for name in {photo[0] for photo in photos}}
    source = np.fromiter((of_list[photo[0]] for photo in photos), np.int16, len(photos))
    with tempfile.TemporaryFile() as file:
        file.truncate(max(1, len(photos)) * SIDE * SIDE)
        small = np.memmap(file, np.uint8, "r+", shape=(len(photos), SIDE, SIDE))
        taken = np.zeros((len(photos), 4), np.uint16)
        unsure = np.zeros_like(taken)
        shown = np.zeros(len(photos), bool)
        done = 0
        for pictures, seen in _small_pictures(dataset, photos, bounds):
            here = slice(done, done + len(pictures))
            small[here], shown[here] = pictures, seen & has_contrast(pictures)
            taken[here], unsure[here] = signs(pictures)
            done += len(pictures)
            if on_compared:
                on_compared(done, len(photos))
        found = [np.empty((0, 2), np.int64)]
        # The largest data set is asked, the smaller ones ask.
        sizes = np.bincount(source[shown], minlength=len(names))
        ranked = np.argsort(-sizes, kind="stable")
        for place, asked in enumerate(ranked[:-1]):
            there = np.flatnonzero(shown & (source == asked))
            asking = np.flatnonzero(shown & np.isin(source, ranked[place + 1 :]))
            found += _same_pictures(small, taken, unsure, there, asking)
        return np.unique(np.concatenate(found), axis=0)


def small_picture(data: Stored, bounds: Bounds) -> npt.NDArray[np.uint8] | None:
    """A photo as a grey picture of `SIDE` pixels, upright, from the smallest decode that will do.

    None for what can't be read.
    """
    import cv2

    if not isinstance(data, bytes):
        return None
    try:
        photo = open_photo(data, bounds)
        view = photo.view(_OVERSAMPLED * SIDE / min(photo.width, photo.height), grey=True)
    except UnreadableError:
        return None
    pixels = view.pixels
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels
    rows = _cells(grey.shape[0], view.top, photo.height * view.scale)
    columns = _cells(grey.shape[1], view.left, photo.width * view.scale)
    # Products this small are not worth the threads that NumPy's would start.
    means = cv2.gemm(rows, grey.astype(np.float32), 1, None, 0)
    return np.asarray(np.rint(cv2.gemm(means, columns, 1, None, 0, flags=cv2.GEMM_2_T)), np.uint8)


@lru_cache(maxsize=1024)
def _cells(count: int, first: float, length: float) -> npt.NDArray[np.float32]:
    """Shares of `count` pixels in the means of `SIDE` cells, (SIDE, count).

    The cells lie from `first` on over `length` pixels: a scaled JPEG's last ones are wider than
    what they show of the photo, and of small pictures a shift of a part of a pixel is seen.
    """
    edges = first + length * np.arange(SIDE + 1) / SIDE
    pixel = np.arange(count)
    upper = np.minimum(edges[1:, None], pixel + 1)
    shares = np.clip(upper - np.maximum(edges[:-1, None], pixel), 0, None)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)


def _small_pictures(
    dataset: DataSet, photos: Sequence[Photo], bounds: Bounds
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]]:
    """Small pictures of the photos in turn, (k, SIDE, SIDE), and which of them could be read."""
    reading = dataset.read_photos(photos, bounds.max_file_bytes)
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        for start in range(0, len(photos), _AT_ONCE):
            stored = [next(reading) for _ in photos[start : start + _AT_ONCE]]
            made = list(pool.map(lambda data: small_picture(data, bounds), stored))
            pictures = np.zeros((len(made), SIDE, SIDE), np.uint8)
            for place, picture in enumerate(made):
                if picture is not None:
                    pictures[place] = picture
            yield pictures, np.array([picture is not None for picture in made], bool)


def _same_pictures(
    small: npt.NDArray[np.uint8],
    taken: npt.NDArray[np.uint16],
    unsure: npt.NDArray[np.uint16],
    there: npt.NDArray[np.int64],
    asking: npt.NDArray[np.int64],
) -> list[npt.NDArray[np.int64]]:
    """Pairs of an asking photo and one of those `there` that are one picture."""
    found: list[npt.NDArray[np.int64]] = []
    table = Table(taken[there])
    for start in range(0, len(asking), _ASKED_AT_ONCE):
        rows = asking[start : start + _ASKED_AT_ONCE]
        for pairs in table.near(taken[rows], unsure[rows]):
            first, second = rows[pairs[:, 0]], there[pairs[:, 1]]
            alike = are_one(small[first], small[second])
            found.append(np.unique(np.stack([first[alike], second[alike]], axis=1), axis=0))
    return found
