"""Class folders: `train/happy/1.jpg`, or `happy/1.jpg` without splits.

The name of the folder is the label, whatever its place among the others. Every name in a class
folder is a row; what is no picture there, or stands beside the class folders, is a rejected row.
A home of this program beside them is no part of the data.
"""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fer_pipeline.core.datasets.base import (
    CROPPED,
    UNKNOWN_LABEL,
    Role,
    RowBatch,
    roles_of_given_splits,
    yes_or_no,
)
from fer_pipeline.core.datasets.photo_files import PhotoFiles, folder_name
from fer_pipeline.core.datasets.rows import (
    TEST,
    TRAIN,
    UNKNOWN_SPLIT,
    dealt_list,
    first_reasons,
    given_list,
    kept_table,
    rejected_table,
)
from fer_pipeline.core.datasets.trees import is_home, leads_to_folder
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import CODES, expression_name
from fer_pipeline.core.recognition_inputs import PICTURES
from fer_pipeline.core.storage import Location

_GLANCE = 1000
_REMEDY = "give --root the folder that holds train/happy/..., or happy/... without splits"


@dataclass(frozen=True)
class _Folder:
    """A folder whose names are rows: a class folder, or one that holds class folders.

    `path` is under the root; `list` is None where rows are dealt to lists; `label` is the name of
    a class folder. Of a folder that holds class folders, `classes` are no rows.
    """

    path: str
    list: str | None
    label: str | None = None
    classes: frozenset[str] = frozenset()

    def place(self, name: str) -> str:
        """The path of a name in the folder."""
        return f"{self.path}/{name}" if self.path else name


class Folders(PhotoFiles):
    """Folders named for expressions under `root`, with or without a level of splits above them."""

    name = "folders"
    layout = "folders named for expressions, such as train/happy/"
    faces_are_cropped = True
    picture_side: int | None = None
    options: Mapping[str, str] = {
        CROPPED: "yes where pictures are faces already (default), no where they are photos"
    }
    labels: Mapping[str, str] = {}

    @classmethod
    def recognise(cls, root: Location) -> str | None:
        """Two or more folders are named for expressions."""
        try:
            found = _layout(root, _GLANCE)
        except InputError:
            return None
        named = [one.place("") for one in found if one.label and expression_name(one.label)]
        if len({Path(one).name for one in named}) < 2:
            return None
        return f"its folders are named for expressions ({named[0]}, {named[1]}, ...)"

    def __init__(self, root: Location, name: str | None = None, *, cropped: str = "yes") -> None:
        """Find the class folders; raises InputError where there are none, or two layouts."""
        self.root = root
        self.name = name or self.name
        self.faces_are_cropped = yes_or_no(f"{self.name}.{CROPPED}", cropped)
        self._folders = _layout(root)

    def lists(self) -> Mapping[str, Sequence[Location]]:
        """The given splits and their folders; `train` and `test` of all folders without splits."""
        lists: dict[str, list[Location]] = {}
        for folder in self._folders:
            location = self.root / folder.path if folder.path else self.root
            for name in (folder.list,) if folder.list else (TRAIN, TEST):
                lists.setdefault(name, []).append(location)
        return {name: lists[name] for name in (TRAIN, "validation", TEST) if name in lists}

    def roles(self) -> Mapping[str, Role]:
        """See `roles_of_given_splits`."""
        return roles_of_given_splits(list(self.lists()))

    def batches(self, names: Sequence[str] | None = None) -> Iterator[RowBatch]:
        """Every name in the folders, typed or rejected; see `DataSet.batches`."""
        for wanted in names or self.lists():
            done = 0
            for folder in self._folders:
                if folder.list not in (None, wanted):
                    continue
                entries = [
                    (name, is_folder)
                    for name, is_folder in sorted(_entries(self.root / folder.path))
                    if not (is_folder and self._is_no_row(folder, name))
                ]
                yield self._typed(wanted, folder, entries, done)
                done += len(entries)

    def count_rows(self, name: str) -> int:
        """The names in the folders of the list, class folders apart."""
        return self._counts.get(name, 0)

    @cached_property
    def _counts(self) -> Mapping[str, int]:
        counts: dict[str, int] = {}
        for folder in self._folders:
            found = _names(self.root / folder.path)
            names = [name for name in found if not self._is_no_row(folder, name)]
            if folder.list is not None:
                counts[folder.list] = counts.get(folder.list, 0) + len(names)
                continue
            for name in names:
                dealt = dealt_list(folder.place(name))
                counts[dealt] = counts.get(dealt, 0) + 1
        return counts

    def _is_no_row(self, folder: _Folder, name: str) -> bool:
        beside = folder.label is None
        return beside and (name in folder.classes or is_home(self.root / folder.place(name)))

    def _typed(
        self, name: str, folder: _Folder, entries: Sequence[tuple[str, bool]], done: int
    ) -> RowBatch:
        places = [folder.place(entry) for entry, _ in entries]
        rows = np.arange(done + 1, done + len(entries) + 1, dtype=np.int32)
        if folder.list is None:
            own = [at for at, place in enumerate(places) if dealt_list(place) == name]
            entries, places, rows = (
                [entries[at] for at in own],
                [places[at] for at in own],
                rows[own],
            )
        paths = "\0".join(places).encode("utf-8", "replace").decode().split("\0") if places else []
        label = expression_name(folder.label) if folder.label else None
        no_class, unknown = folder.label is None, folder.label is not None and label is None
        hidden, nested, picture, writable = (
            np.array(one, bool)
            for one in (
                [entry.startswith(".") for entry, _ in entries],
                [is_folder for _, is_folder in entries],
                [f".{path.rpartition('.')[2]}".lower() in PICTURES for path in paths],
                [place == path for place, path in zip(places, paths, strict=True)],
            )
        )
        bad, reasons, values = first_reasons(
            {
                "hidden_file": (hidden, paths),
                # Beside class folders stand only splits, and what is none.
                UNKNOWN_SPLIT if no_class else "nested_folder": (nested, paths),
                "not_a_picture": (~picture, paths),
                "unsafe_path": (~writable, paths),
                "no_label": (np.full(len(paths), no_class), paths),
                UNKNOWN_LABEL: (np.full(len(paths), unknown), [folder.label] * len(paths)),
            }
        )
        kept = np.flatnonzero(~bad)
        return RowBatch(
            kept_table(
                self.name,
                name,
                rows[kept],
                [paths[at] for at in kept],
                np.full(len(kept), -1 if label is None else CODES[label], np.int8),
            ),
            rejected_table(self.name, name, rows[bad].tolist(), reasons, values),
        )


def _layout(root: Location, most: int | None = None) -> list[_Folder]:
    """The folders whose names are rows, of which at most `most` names each are looked at.

    Raises InputError where none is named for an expression, or the folder holds two layouts.
    """
    above = _folders_in(root, most)
    splits = [name for name in above if given_list(name)]
    by_list = {given_list(name): name for name in splits}
    for name in splits:
        if by_list[given_list(name)] != name:
            raise InputError(
                f"{root} holds {name} and {by_list[given_list(name)]}, which are names of one "
                "split: put their photos together, or rename one of the two folders"
            )
    mixed = [name for name in above if splits and expression_name(name)]
    if mixed:
        raise InputError(
            f"{root} holds {splits[0]}, which is a split, beside {mixed[0]}, which is a class: "
            "move the class folders into those of the splits, or give another --root"
        )
    holders = [_Folder("", None, None, frozenset(above))]
    if splits:
        first = next(name for name in (TRAIN, "validation", TEST) if name in by_list)
        holders = [_Folder("", first, None, frozenset(splits))]
        holders += [
            _Folder(by_list[name], name, None, frozenset(_folders_in(root / by_list[name], most)))
            for name in (TRAIN, "validation", TEST)
            if name in by_list
        ]
    found = []
    for holder in holders:
        found.append(holder)
        if holder.path or not splits:
            found += [
                _Folder(holder.place(name), holder.list, name) for name in sorted(holder.classes)
            ]
    labels = [folder.label for folder in found if folder.label]
    if not any(map(expression_name, labels)):
        seen = ", ".join(sorted({*labels[:5]})) or "none"
        raise InputError(
            f"{root} holds no folder that is named for an expression (seen: {seen}): {_REMEDY}"
        )
    return found


def _folders_in(folder: Location, most: int | None = None) -> list[str]:
    """The names of the folders in a folder, hidden ones and homes apart.

    Of its first `most` names alone.
    """
    entries = itertools.islice(_entries(folder), most)
    names = [name for name, is_folder in entries if is_folder and not name.startswith(".")]
    return sorted(name for name in names if expression_name(name) or not is_home(folder / name))


def _entries(folder: Location) -> Iterator[tuple[str, bool]]:
    """The names in a folder, and whether they are folders, in no order."""
    try:
        if isinstance(folder, Path):
            with os.scandir(folder) as entries:
                yield from ((entry.name, leads_to_folder(entry)) for entry in entries)
            return
        for info in folder.fs.ls(folder.path, detail=True):
            name = info["name"].rstrip("/").rpartition("/")[2]
            # Some stores list a folder as an object in itself.
            if info["name"].rstrip("/") != folder_name(folder).rstrip("/"):
                yield name, info["type"] == "directory"
    except OSError as error:
        raise InputError(f"{folder} can't be read: {error.strerror or error}") from error


def _names(folder: Location) -> list[str]:
    if isinstance(folder, Path):
        return os.listdir(folder)  # noqa: PTH208 - a Path for each of a million names is slow
    return [name for name, _ in _entries(folder)]
