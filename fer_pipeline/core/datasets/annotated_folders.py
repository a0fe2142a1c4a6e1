"""Data sets of `images/N.jpg` and `annotations/N...` in a folder for each split.

What AffectNet's later releases share: which folders are splits, which names are rows, and batches
of rows. What an annotation says stands in the module of each format.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fer_pipeline.core.datasets.base import Role, RowBatch, roles_of_given_splits
from fer_pipeline.core.datasets.photo_files import PhotoFiles
from fer_pipeline.core.datasets.rows import kept_table, rejected_table
from fer_pipeline.core.datasets.trees import (
    first_reasons,
    folders_in,
    glance,
    in_order,
    is_picture,
    names_in,
    plain_text,
)
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import AFFECTNET
from fer_pipeline.core.storage import Location

IMAGES, ANNOTATIONS = "images", "annotations"
_SPLITS: Mapping[str, str] = {
    "train_set": "train",
    "train": "train",
    "val_set": "validation",
    "val": "validation",
    "validation_set": "validation",
    "validation": "validation",
}
"""Names that the folder of a split has, in lower case, and its list."""
_BATCH_ROWS = 8192


@dataclass(frozen=True)
class Judged:
    """What the annotations of n photos say, and why some of them are refused.

    `code` holds AffectNet codes; `tests` maps a reason to where it holds, shape (n,); `said` tells
    people what an annotation says.
    """

    code: npt.NDArray[np.int8]
    valence: pa.Array
    arousal: pa.Array
    tests: Mapping[str, npt.NDArray[np.bool_]]
    said: Callable[[int], str]
    votes: pa.Array | None = None
    attributes: Sequence[str | None] | None = None


@dataclass(frozen=True)
class _Split:
    images: str
    annotations: str


class AnnotatedFolders(PhotoFiles):
    """The splits under a root; a subclass says what is an annotation and what it says.

    A row is a picture, or an annotation without one; they are matched by name. The pictures are
    faces already.
    """

    faces_are_cropped = True
    picture_side: int | None = 224
    options: Mapping[str, str] = {}
    labels = AFFECTNET

    endings: tuple[str, ...]
    """How the names of annotation files end; all of one length."""
    parents: tuple[str, ...] = ("",)
    """Folders under the root in which splits are looked for; the first that has any is it."""
    remedy: str
    """What folder --root is to name."""

    @classmethod
    def recognise(cls, root: Location) -> str | None:
        """A split has annotations of its kind."""
        for folder in cls._folders(root):
            for place in (f"{folder}/{ANNOTATIONS}", folder):
                for name in glance(root / place):
                    if name.endswith(cls.endings):
                        return f"it holds {place}/{name}"
        return None

    def __init__(self, root: Location, name: str | None = None) -> None:
        """Find the splits under `root`; raises InputError where there is none."""
        self.root = root
        self.name = name or self.name
        found: dict[str, str] = {}
        for folder in self._folders(root):
            split = _SPLITS[folder.rpartition("/")[2].lower()]
            if split in found:
                raise InputError(
                    f"{root} holds {found[split]} and {folder}, both the list {split}: "
                    "move one of them away"
                )
            found[split] = folder
        if not found:
            raise InputError(f"{root} holds no folder train_set: give --root {self.remedy}")
        self._splits: dict[str, _Split] = {
            one: self._layout(found[one]) for one in ("train", "validation") if one in found
        }

    @classmethod
    def _folders(cls, root: Location) -> list[str]:
        """The folders of splits, under the root."""
        for parent in cls.parents:
            names = glance(root / parent) if parent else glance(root)
            if folders := sorted(name for name in names if name.lower() in _SPLITS):
                return [f"{parent}/{name}" if parent else name for name in folders]
        return []

    def _layout(self, folder: str) -> _Split:
        """Where photos and annotations of a split stand; raises InputError where they don't."""
        parts = {name.lower(): f"{folder}/{name}" for name in folders_in(self.root / folder)}
        split = _Split(parts.get(IMAGES, folder), parts.get(ANNOTATIONS, folder))
        place = self.root / split.annotations
        # A glance is enough, but for names that come in an unlucky order.
        if not any(n.endswith(self.endings) for look in (glance, names_in) for n in look(place)):
            raise InputError(
                f"{place} holds no annotation N{self.endings[0]}: give --root {self.remedy}"
            )
        if ANNOTATIONS in parts and IMAGES not in parts:
            raise InputError(
                f"{self.root / folder} has no folder {IMAGES}: unpack the photos beside "
                f"{ANNOTATIONS}"
            )
        return split

    def lists(self) -> Mapping[str, Sequence[Location]]:
        """The splits that are there, each the folders of its annotations and of its photos."""
        return {
            name: [self.root / place for place in dict.fromkeys((one.annotations, one.images))]
            for name, one in self._splits.items()
        }

    def roles(self) -> Mapping[str, Role]:
        """Validation is the locked test: these releases have no test list."""
        return roles_of_given_splits(list(self._splits))

    def batches(self, names: Sequence[str] | None = None) -> Iterator[RowBatch]:
        """Every photo and annotation, in order of their numbers; see `DataSet.batches`."""
        for name in names or self._splits:
            split = self._splits[name]
            notes = frozenset(filter(self._stem, names_in(self.root / split.annotations)))
            photos = filter(is_picture, names_in(self.root / split.images))
            faces = _matched(photos, map(self._stem, notes))
            for start in range(0, len(faces), _BATCH_ROWS):
                yield self._batch(name, start, faces[start : start + _BATCH_ROWS], notes)

    def count_rows(self, name: str) -> int:
        """The pictures, and the annotated numbers of which there is none."""
        split = self._splits[name]
        pictures = [one for one in names_in(self.root / split.images) if is_picture(one)]
        annotated = {self._stem(one) for one in names_in(self.root / split.annotations)} - {""}
        return len(pictures) + len(annotated - {one.rpartition(".")[0] for one in pictures})

    @abstractmethod
    def read(self, folder: str, stems: Sequence[str], notes: frozenset[str]) -> Judged:
        """What the annotations of some photos say.

        Args:
            folder: where they stand, under the root.
            stems: of each row the name without an ending.
            notes: the names of all annotation files there.
        """

    @classmethod
    def _stem(cls, name: str) -> str:
        """The name of an annotation file without its ending; empty where it is none."""
        return name[: -len(cls.endings[0])] if name.endswith(cls.endings) else ""

    def _batch(
        self, name: str, start: int, faces: Sequence[tuple[str, str]], notes: frozenset[str]
    ) -> RowBatch:
        split = self._splits[name]
        judged = self.read(split.annotations, [stem for stem, _ in faces], notes)
        odd = np.array([plain_text(photo) != photo for _, photo in faces])
        bad, kept, reasons = first_reasons({"unreadable_name": odd, **judged.tests})
        rejected = rejected_table(
            self.name,
            name,
            [start + 1 + int(at) for at in bad],
            reasons,
            [
                plain_text(f"{split.annotations}/{faces[at][0]}: {judged.said(int(at))}")
                for at in bad
            ],
        )
        chosen = pa.array(kept)
        table = kept_table(
            self.name,
            name,
            (kept + start + 1).astype(np.int32),
            [f"{split.images}/{faces[at][1]}" for at in kept],
            judged.code[kept],
            valence=judged.valence.take(chosen),
            arousal=judged.arousal.take(chosen),
            votes=judged.votes.take(chosen) if judged.votes is not None else None,
            attributes=(
                [judged.attributes[at] for at in kept] if judged.attributes is not None else None
            ),
        )
        return RowBatch(table, rejected)


def _matched(photos: Iterator[str], annotated: Iterator[str]) -> list[tuple[str, str]]:
    """Of each row the name without an ending, and the photo's name; in order."""
    by_stem: dict[str, list[str]] = {}
    for photo in photos:
        by_stem.setdefault(photo.rpartition(".")[0], []).append(photo)
    for stem in annotated:
        by_stem.setdefault(stem, [])
    return [
        (stem, photo)
        for stem in in_order(by_stem)
        for photo in sorted(by_stem[stem]) or [f"{stem}.jpg"]
    ]
