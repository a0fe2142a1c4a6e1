"""Which side each face stands on: train, dev, test or excluded, and why.

Sides are dealt to groups (all faces of one photo and of its identical copies), by a hash of the
group, so that the deal is the same whatever else is in the data set.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fer_pipeline.core.datasets.base import Role
from fer_pipeline.core.index import CONFLICTING_LABEL

COPY_OF_TEST = "copy_of_test_photo"
COPY_OF_DEV = "copy_of_dev_photo"

CONFLICT_WEIGHT = 0.5
"""Weight in training of a face listed with two labels: at most one of them is right."""


@dataclass(frozen=True)
class Splits:
    """For each face its split, the reason of an exclusion (empty otherwise) and its weight."""

    split: npt.NDArray[np.object_]
    reason: npt.NDArray[np.object_]
    weight: npt.NDArray[np.float32]


def deal(
    lists: npt.NDArray[np.object_],
    groups: npt.NDArray[np.object_],
    conflicting: npt.NDArray[np.bool_],
    roles: Mapping[str, Role],
    *,
    dev_share: float,
    seed: int,
    carved: Collection[str] | None = None,
) -> Splits:
    """Deal faces to splits; all arrays have shape (n,).

    A group with a face in a test list is a test group: its faces of other lists are excluded.
    Dev are the dev lists, and `dev_share` of the groups of the train lists `carved` (default: all
    train lists where there is no dev list, else none).
    Faces with conflicting labels train with a lower weight and are excluded from dev and test.
    """
    role = np.array([roles[name] for name in lists], dtype=object)
    number = np.unique(groups, return_inverse=True)[1] if len(groups) else np.empty(0, int)
    count = int(number.max(initial=-1)) + 1

    in_test = np.zeros(count, bool)
    in_test[number[role == Role.TEST]] = True
    if carved is None:
        carved = [] if Role.DEV in roles.values() else roles
    is_carved = (role == Role.TRAIN) & np.array([name in carved for name in lists], bool)
    in_dev = np.zeros(count, bool)
    in_dev[number[role == Role.DEV]] = True
    in_carved = np.zeros(count, bool)
    in_carved[number[is_carved]] = True
    # A copy of a given dev photo isn't drawn, but excluded.
    to_draw = np.flatnonzero(in_carved & ~in_dev)
    first = np.unique(number, return_index=True)[1] if count else np.empty(0, int)
    drawn = np.zeros(count, bool)
    drawn[to_draw] = [_share_of(seed, groups[first[place]]) < dev_share for place in to_draw]
    in_dev = (in_dev | drawn) & ~in_test

    test, dev = in_test[number], in_dev[number]
    stays_test = test & (role == Role.TEST)
    stays_dev = dev & ((role == Role.DEV) | (is_carved & drawn[number]))
    split = np.select(
        [stays_test, stays_dev, test | dev], ["test", "dev", "excluded"], default="train"
    ).astype(object)
    reason = np.select(
        [stays_test | stays_dev, test, dev], ["", COPY_OF_TEST, COPY_OF_DEV], default=""
    ).astype(object)
    barred = conflicting & np.isin(split, ["dev", "test"])
    split[barred], reason[barred] = "excluded", CONFLICTING_LABEL
    weight = np.where(conflicting, CONFLICT_WEIGHT, 1.0).astype(np.float32)
    return Splits(split, reason, weight)


def groups_on_two_sides(
    groups: npt.NDArray[np.object_], split: npt.NDArray[np.object_]
) -> list[str]:
    """The groups that have faces in more than one of train, dev and test."""
    sides: dict[str, str] = {}
    leaked = {
        group
        for group, side in zip(groups, split, strict=True)
        if side != "excluded" and sides.setdefault(group, side) != side
    }
    return sorted(leaked)


def _share_of(seed: int, group: str) -> float:
    digest = hashlib.blake2b(f"{seed}|{group}".encode(), digest_size=8).digest()
    return float(int.from_bytes(digest, "big") / 2**64)
