"""Leaks that the manifest can't see: crops of test faces that training or dev nearly has too.

The manifest keeps photos of the same bytes on one side. A copy that was encoded anew or resized
has other bytes; it is found here among all crops, whatever the stream. What such copies do to the
scores of one model is told by `near_copies.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fer_pipeline.core.crop import Status
from fer_pipeline.core.crop_set import CropSet
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.near_copies import ALIKE, SIDE, both_ways, small_directions
from fer_pipeline.core.storage import parquet_source

MOST_PAIRS = 10_000_000_000
"""Pairs of a test and a training face that are compared at most, some minutes of one core: 5,000
test faces and a million training faces with their mirror images. Of more test faces a sample is
drawn."""

_TEST_AT_ONCE = 4096


@dataclass(frozen=True)
class Leaks:
    """Test faces with nearly the same crop in train or dev.

    All arrays are (k,): `test` and `training` rows of the manifest, the latter of the nearest
    face, and the `correlation` of the two. `test_faces` and `training_faces` were compared.
    """

    test: NDArray[np.int64]
    training: NDArray[np.int64]
    correlation: NDArray[np.float32]
    test_faces: int
    training_faces: int


def find_leaks(
    crop_set: CropSet, split: NDArray[np.object_], *, seed: int, most_pairs: int = MOST_PAIRS
) -> Leaks:
    """Compare every test crop with every crop of train and dev, and with its mirror image.

    `split` is that of each row of the manifest, (n,). Two crops are copies where the correlation
    of their grey pictures of `SIDE` pixels is `ALIKE` or more. Memory grows with the test faces
    alone, by 2 kB each.
    Raises InputError when the crops are not those of a manifest of n rows.
    """
    if crop_set.faces != len(split):
        raise InputError(
            f"the crops in {crop_set.folder} are those of {crop_set.faces} faces, and the manifest "
            f"has {len(split)}: materialize face_crops again"
        )
    in_training = np.isin(split, ["train", "dev"])
    test = _drawn(np.flatnonzero(split == "test"), 2 * int(in_training.sum()), most_pairs, seed)
    wanted = np.zeros(len(split), bool)
    wanted[test] = True
    parts = list(_directions(crop_set, wanted))
    rows = np.concatenate([rows for rows, _ in parts]) if parts else np.empty(0, np.int64)
    faces = [directions for _, directions in parts]
    own = np.concatenate(faces) if faces else np.empty((0, SIDE * SIDE), np.float32)
    # What is alike by just as much counts, as in the report.
    best = np.full(len(rows), np.nextafter(np.float32(ALIKE), np.float32(0)), np.float32)
    nearest = np.full(len(rows), -1, np.int64)
    compared = 0
    for there, directions in _directions(crop_set, in_training):
        compared += len(there)
        for part in both_ways(directions):
            _keep_nearest(own, part, there, best, nearest)
    found = np.flatnonzero(nearest >= 0)
    return Leaks(rows[found], nearest[found], best[found], len(rows), compared)


def _keep_nearest(
    own: NDArray[np.float32],
    others: NDArray[np.float32],
    rows: NDArray[np.int64],
    best: NDArray[np.float32],
    nearest: NDArray[np.int64],
) -> None:
    """Where one of `others`, of these `rows`, is nearer than the best so far, note it."""
    for start in range(0, len(own), _TEST_AT_ONCE):
        alike = own[start : start + _TEST_AT_ONCE] @ others.T
        top = alike.max(axis=1, initial=-1.0)
        here = np.flatnonzero(top > best[start : start + len(top)])
        best[start + here] = top[here]
        nearest[start + here] = rows[alike[here].argmax(axis=1)]


def _drawn(test: NDArray[np.intp], others: int, most_pairs: int, seed: int) -> NDArray[np.intp]:
    """As many rows of `test` as may be compared with so many others."""
    most = max(1, most_pairs // max(1, others))
    if len(test) <= most:
        return test
    return np.sort(np.random.default_rng(seed).choice(test, most, replace=False))


def _directions(
    crop_set: CropSet, wanted: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Rows of the manifest that are wanted and have a crop, with their small grey pictures:
    float32 (n, SIDE * SIDE), each of mean 0 and length 1; a row group at a time.
    """
    start = 0
    for path in crop_set.paths:
        with pq.ParquetFile(parquet_source(path)) as file:
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                here = np.flatnonzero(wanted[start : start + count])
                if len(here):
                    table = file.read_row_group(group, columns=["status", "crop"])
                    ok = pc.equal(table["status"], Status.OK.value).to_numpy()
                    here = here[ok[here]]
                if len(here):
                    crops = _stacked(table["crop"].take(pa.array(here)), crop_set.settings.shape)
                    yield start + here, small_directions(crops)
                start += count


def _stacked(column: pa.ChunkedArray, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    whole = b"".join(value.as_py() for value in column)
    return np.frombuffer(whole, np.uint8).reshape(-1, *shape)
