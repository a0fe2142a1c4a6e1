"""FEI Face Database, frontal set: `1a.jpg` is person 1 neutral, `1b.jpg` smiling.

The pictures stand in the root or in folders there, such as
`frontalimages_manuallyaligned_part1/`.
"""

import re
from collections.abc import Mapping, Sequence

from fer_pipeline.core.datasets.people_folders import Face, PeopleFolders
from fer_pipeline.core.datasets.rows import dealt_list
from fer_pipeline.core.datasets.trees import (
    folders_in,
    glance,
    in_order,
    is_home,
    is_picture,
    names_in,
)
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import FEI
from fer_pipeline.core.storage import Location, files_in

_FRONTAL = re.compile(r"0*([1-9][0-9]{0,3})([ab])\.[a-z]+", re.IGNORECASE | re.ASCII)
_MOST_FOLDERS = 20
"""Folders that are looked at to recognise the set."""


class Fei(PeopleFolders):
    """The frontal set of the FEI Face Database under `root`."""

    name = "fei"
    layout = "pairs 1a.jpg and 1b.jpg"
    options: Mapping[str, str] = {}
    labels = FEI

    @classmethod
    def recognise(cls, root: Location) -> str | None:
        """There are both pictures of a person."""
        for folder in _folders_of(root)[:_MOST_FOLDERS]:
            if pair := _pair(glance(_at(root, folder))):
                return f"it holds {' and '.join(f'{folder}/{one}'.lstrip('/') for one in pair)}"
        return None

    def __init__(self, root: Location, name: str | None = None) -> None:
        """Find the folders of pictures; raises InputError where there is none."""
        self.root = root
        self.name = name or self.name
        self._folders = [
            folder
            for folder in _folders_of(root)
            if any(map(_FRONTAL.fullmatch, _pictures(_at(root, folder))))
        ]
        if not self._folders:
            raise InputError(
                f"{root} holds no frontal pictures 1a.jpg and 1b.jpg: give --root the folder "
                "in which frontalimages_manuallyaligned_part1 is unpacked (the pictures "
                "1-01.jpg to 1-14.jpg are FEI's other set)"
            )

    def places(self) -> list[Location]:
        """The folders of pictures."""
        return [_at(self.root, folder) for folder in self._folders]

    def faces(self) -> list[Face]:
        """The pictures, by folder and person; one with another name is no face."""
        return [
            self._face(f"{folder}/{name}".lstrip("/"))
            for folder in self._folders
            for name in in_order(_pictures(_at(self.root, folder)))
        ]

    def person(self, path: str) -> str:
        """The number of the person."""
        return self._face(path).person

    def count_rows(self, name: str) -> int:
        """The picture files of the persons of a list."""
        found = [path.name for place in self.places() for path in files_in(place, "*.*")]
        pictures = [one for one in found if is_picture(one) and not one.startswith(".")]
        return sum(dealt_list(self.person(one)) == name for one in pictures)

    def _face(self, path: str) -> Face:
        name = path.rpartition("/")[2]
        match = _FRONTAL.fullmatch(name)
        if match is None:
            return Face(name, path, reason="unknown_name")
        return Face(match[1], path, match[2].lower())


def _folders_of(root: Location) -> list[str]:
    """The root itself and the folders in it, homes apart."""
    return ["", *(name for name in folders_in(root) if not is_home(root / name))]


def _at(root: Location, folder: str) -> Location:
    return root / folder if folder else root


def _pictures(folder: Location) -> list[str]:
    return list(filter(is_picture, names_in(folder)))


def _pair(names: Sequence[str]) -> list[str]:
    """The two pictures of some person, if there are any."""
    found: dict[str, dict[str, str]] = {}
    for name in filter(is_picture, names):
        if match := _FRONTAL.fullmatch(name):
            found.setdefault(match[1], {})[match[2].lower()] = name
    return next((sorted(pair.values()) for pair in found.values() if len(pair) == len(FEI)), [])
