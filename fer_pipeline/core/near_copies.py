"""Test faces of which training holds a copy: the same photo, or nearly the same crop.

The manifest takes photos with the same bytes out of training. The same picture in another
encoding, cut or exposure it can't know; such copies are looked for here, in the crops.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fer_pipeline.core.examples import Examples, image_parts
from fer_pipeline.core.splits import COPY_OF_TEST

SIDE = 16
"""Pixels a side of the grey pictures that are compared."""

ALIKE = 0.96
"""Correlation of two such pictures from which they count as copies. Of FER2013's nearest pairs,
ten looked at in each of five bands, all from 0.96 on were one photo, and nine of ten at 0.94."""

TRAINING_CAP = 40_000
"""Training faces compared at most, drawn with the seed."""

_AT_ONCE = 1024
_FLAT = 1e-3
"""Length of a picture, less its mean, below which it has no contrast."""
_RUN = 256
"""Neighbouring faces that are drawn together: a shard hands out its crops in such groups."""


@dataclass(frozen=True)
class TrainingCopies:
    """For each test face, bool (n,), whether training lists or training itself have it too.

    `listed`: the same photo stands in a list of another split (where the manifest left it out).
    `near`: a crop that training uses is nearly the same, as it is or mirrored. `compared` training
    faces were looked at.
    """

    listed: NDArray[np.bool_]
    near: NDArray[np.bool_]
    compared: int

    @property
    def either(self) -> NDArray[np.bool_]:
        """Faces with a copy of any kind; bool (n,)."""
        return self.listed | self.near

    def to_dict(self) -> Mapping[str, Any]:
        """Counts, for JSON."""
        return {
            "listed": int(self.listed.sum()),
            "near": int(self.near.sum()),
            "either": int(self.either.sum()),
            "training_faces_compared": self.compared,
        }


def find_training_copies(
    test: Examples, training: Examples, manifest: pa.Table, *, seed: int
) -> TrainingCopies:
    """Look for copies of test faces among all photos listed, and among the crops of training."""
    chosen = _drawn(len(training), seed)
    return TrainingCopies(
        listed=_listed_elsewhere(test, manifest),
        near=nearly_equal(test, training, chosen),
        compared=len(chosen),
    )


def nearly_equal(
    test: Examples, training: Examples, chosen: NDArray[np.integer[Any]]
) -> NDArray[np.bool_]:
    """Which crops of `test` a crop of `training`, of the rows `chosen`, is nearly equal to.

    They are by their correlation (see `small_directions`), which neither brightness nor contrast
    changes.
    """
    largest = np.full(len(test), -1.0, np.float32)
    rows = np.arange(len(test))
    wanted = [small_directions(crops) for crops in image_parts(test, rows, _AT_ONCE)]
    for crops in image_parts(training, chosen, _AT_ONCE):
        # A mirrored copy of a test face is found by mirroring the training face as well.
        for part in both_ways(small_directions(crops)):
            for place, own in enumerate(wanted):
                here = largest[place * _AT_ONCE :][: len(own)]
                np.maximum(here, (own @ part.T).max(axis=1), out=here)
    alike: NDArray[np.bool_] = largest >= ALIKE
    return alike


def small_directions(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Crops uint8 (n, h, w, c) as grey pictures of `SIDE` pixels, float32 (n, SIDE * SIDE), of
    mean 0 and length 1, so that a product of two is their correlation; one without contrast is 0.
    """
    import cv2

    small = np.empty((len(crops), SIDE, SIDE), np.float32)
    for place, crop in enumerate(crops):
        grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) if crop.shape[2] == 3 else crop[..., 0]
        small[place] = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    flat: NDArray[Any] = small.reshape(len(crops), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(np.where(length > _FLAT, flat / np.maximum(length, _FLAT), 0), np.float32)


def both_ways(directions: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What `small_directions` gives of some crops, and of their mirror images."""
    pictures = directions.reshape(-1, SIDE, SIDE)
    return directions, pictures[:, :, ::-1].reshape(directions.shape)


def _drawn(count: int, seed: int) -> NDArray[np.int64]:
    """Rows of at most `TRAINING_CAP` of `count` faces, in runs of neighbours."""
    rows = np.arange(count)
    if count <= TRAINING_CAP:
        return rows
    run = min(_RUN, TRAINING_CAP)
    whole = rows[: count // run * run].reshape(-1, run)
    chosen = np.random.default_rng(seed).choice(len(whole), TRAINING_CAP // run, replace=False)
    return whole[np.sort(chosen)].ravel()


def _listed_elsewhere(test: Examples, manifest: pa.Table) -> NDArray[np.bool_]:
    other = pc.or_(
        pc.is_in(manifest["split"], value_set=pa.array(["train", "dev"])),
        pc.equal(manifest["reason"].fill_null(""), COPY_OF_TEST),
    )
    groups = manifest["group_id"].filter(other).combine_chunks()
    found: NDArray[np.bool_] = pc.is_in(pa.array(test.group_id), value_set=groups).to_numpy(
        zero_copy_only=False
    )
    return found
