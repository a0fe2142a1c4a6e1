"""Which photos are the same one under several addresses, by size and then by content.

Content hashes are taken only of photos that can be copies, never of all. In a mixture, photos of
two data sets are also compared by what they show, see `copies_across.py`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fer_pipeline.core.bounds import Bounds
from fer_pipeline.core.copies_across import pairs_across
from fer_pipeline.core.datasets.base import DataSet, Photo

Told = Callable[[int, int], None]
"""Is told how many are done and how many there are to do."""

_CAME_MEANWHILE = -2
"""No stored size, so that the photo counts as changed from then on."""


@dataclass(frozen=True)
class PhotoCopies:
    """What is known of the photos at n addresses.

    `content_hash` and `group` are (n,), the hash empty where the photo is like no other in size.
    `missing`, `hashed` and `identical` count photos, `near_across` those that joined another
    group since another data set has the same picture in other bytes. `absent` are photos without
    bytes and what `DataSet.stored_sizes` said of each, `unread` those that were to be hashed and
    couldn't be read.
    """

    content_hash: npt.NDArray[np.object_]
    group: npt.NDArray[np.object_]
    missing: int
    hashed: int
    identical: int
    near_across: int
    absent: Mapping[Photo, int]
    unread: Sequence[Photo]


def find_copies(
    dataset: DataSet,
    addresses: Sequence[Photo],
    on_hashed: Told | None = None,
    *,
    max_bytes: int | None = None,
    across: Bounds | None = None,
    on_compared: Told | None = None,
) -> PhotoCopies:
    """The group of each address: that of the photo, or of the first of its copies by key.

    Photos of equal size are hashed, unless they have more than `max_bytes` bytes. With `across`,
    the bounds of what is decoded, those of different data sets of a mixture are also compared by
    what they show. `on_hashed` and `on_compared` are told photos hashed, or compared, and photos
    to do.
    """
    keys = np.array([dataset.photo_key(address) for address in addresses], dtype=object)
    unique, first, photo = np.unique(keys, return_index=True, return_inverse=True)
    stored = [addresses[place] for place in first]
    sizes = dataset.photo_sizes(stored)
    absent = _absent(dataset, [stored[place] for place in np.flatnonzero(sizes <= 0)])
    _, of_size, population = np.unique(sizes, return_inverse=True, return_counts=True)
    to_hash = np.flatnonzero((sizes > 0) & (population[of_size] > 1))
    # In the order of the lists, so that photos packed in one file are read front to back.
    to_hash = to_hash[np.argsort(first[to_hash])]
    hashes = np.full(len(unique), "", dtype=object)
    photos = dataset.read_photos([stored[place] for place in to_hash], max_bytes)
    for done, (place, data) in enumerate(zip(to_hash, photos, strict=True), start=1):
        if isinstance(data, bytes):
            hashes[place] = hashlib.blake2b(data, digest_size=16).hexdigest()
        if on_hashed and done % 1000 == 0:
            on_hashed(done, len(to_hash))
    leader = np.arange(len(unique))
    smallest: dict[str, int] = {}
    for place in np.sort(to_hash):
        if hashes[place]:
            leader[place] = smallest.setdefault(hashes[place], int(place))
    repeated = np.flatnonzero(leader != np.arange(len(unique)))
    identical = np.stack([leader[repeated], repeated], axis=1)
    group = np.array([dataset.photo_group(address) for address in stored], dtype=object)
    group, _ = _joined(group, identical)
    joined = 0
    if across is not None and len(dataset.parts()) > 1:
        seen = np.flatnonzero((sizes > 0) & (leader == np.arange(len(unique))))
        seen = seen[np.argsort(first[seen])]
        pairs = pairs_across(dataset, [stored[place] for place in seen], across, on_compared)
        group, joined = _joined(group, seen[pairs])
    return PhotoCopies(
        content_hash=hashes[photo],
        group=group[photo],
        missing=int((sizes < 0).sum()),
        hashed=len(to_hash),
        identical=len(repeated),
        near_across=joined,
        absent=absent,
        unread=[stored[place] for place in to_hash if not hashes[place]],
    )


def _absent(dataset: DataSet, photos: Sequence[Photo]) -> dict[Photo, int]:
    """These photos, which had no bytes when they were asked for, with their stored sizes."""
    stored = dataset.stored_sizes(photos)
    # One that came in between is compared with none, so that it must not pass for known.
    came = dataset.photo_sizes(photos) > 0
    return dict(zip(photos, np.where(came, _CAME_MEANWHILE, stored).tolist(), strict=True))


def _joined(
    group: npt.NDArray[np.object_], pairs: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.object_], int]:
    """The groups (n,), those of each pair (m, 2) of places made one, and how many that ended.

    One group keeps its name: that of the smallest place. Whole groups are joined, since a group
    can hold all photos of a person.
    """
    touched = set(group[pairs.ravel()].tolist())
    rank: dict[str, int] = {}
    for place, name in enumerate(group):
        if name in touched:
            rank.setdefault(name, place)
    parent = {name: name for name in touched}

    def leader(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    ended = 0
    for one, other in pairs:
        low, high = sorted((leader(group[one]), leader(group[other])), key=rank.__getitem__)
        parent[high] = low
        ended += low != high
    leaders = {name: leader(name) for name in touched}
    return np.array([leaders.get(name, name) for name in group], dtype=object), ended


def copies_disagree(
    content_hash: npt.NDArray[np.object_],
    boxes: npt.NDArray[np.int64],
    label: npt.NDArray[np.int8],
) -> npt.NDArray[np.bool_]:
    """Faces at one place of identical photos that carry different labels; shape (n,).

    `boxes` is (n, 4), `label` (n,).
    """
    seen: dict[tuple[object, ...], int] = {}
    disagree = set()
    hashed = np.flatnonzero(content_hash != "")
    for place in hashed:
        face = (content_hash[place], *boxes[place])
        if seen.setdefault(face, int(label[place])) != label[place]:
            disagree.add(face)
    result = np.zeros(len(label), bool)
    for place in hashed:
        result[place] = (content_hash[place], *boxes[place]) in disagree
    return result
