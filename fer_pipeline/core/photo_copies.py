"""Which photos are the same one under several addresses, by size and then by content.

Content hashes are taken only of photos that can be copies, never of all.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fer_pipeline.core.datasets.base import DataSet, Photo


@dataclass(frozen=True)
class PhotoCopies:
    """What is known of the photos at n addresses.

    `content_hash` and `group` are (n,), the hash empty where the photo is like no other in size.
    `missing`, `hashed` and `identical` count photos.
    """

    content_hash: npt.NDArray[np.object_]
    group: npt.NDArray[np.object_]
    missing: int
    hashed: int
    identical: int


def find_copies(
    dataset: DataSet,
    addresses: Sequence[Photo],
    on_hashed: Callable[[int, int], None] | None = None,
) -> PhotoCopies:
    """The group of each address, photos of equal size being hashed.

    `on_hashed` is told photos hashed and photos to hash.
    """
    keys = np.array([dataset.photo_key(address) for address in addresses], dtype=object)
    unique, first, photo = np.unique(keys, return_index=True, return_inverse=True)
    stored = [addresses[place] for place in first]
    sizes = dataset.photo_sizes(stored)
    _, of_size, population = np.unique(sizes, return_inverse=True, return_counts=True)
    to_hash = np.flatnonzero((sizes > 0) & (population[of_size] > 1))
    # In the order of the lists, so that photos packed in one file are read front to back.
    to_hash = to_hash[np.argsort(first[to_hash])]
    hashes = np.full(len(unique), "", dtype=object)
    photos = dataset.read_photos([stored[place] for place in to_hash])
    for done, (place, data) in enumerate(zip(to_hash, photos, strict=True), start=1):
        if isinstance(data, bytes):
            hashes[place] = hashlib.blake2b(data, digest_size=16).hexdigest()
        if on_hashed and done % 1000 == 0:
            on_hashed(done, len(to_hash))
    # The smallest key of a set of copies names their group; a photo without copies names its own.
    leader = np.arange(len(unique))
    smallest: dict[str, int] = {}
    for place in np.sort(to_hash):
        if hashes[place]:
            leader[place] = smallest.setdefault(hashes[place], int(place))
    group = np.array([dataset.photo_group(stored[place]) for place in leader], dtype=object)
    return PhotoCopies(
        content_hash=hashes[photo],
        group=group[photo],
        missing=int((sizes < 0).sum()),
        hashed=len(to_hash),
        identical=int((leader != np.arange(len(unique))).sum()),
    )


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
