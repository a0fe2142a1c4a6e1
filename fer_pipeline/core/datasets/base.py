"""What every data-set format gives: the protocol, the tables it speaks, and the roles of lists.

A format reads its lists into row batches and hands out the bytes of photos. It knows nothing
of splits beyond naming the role of each list, and nothing of pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import text_digest
from fer_pipeline.core.read_ahead import Stored
from fer_pipeline.core.storage import Location

VOTES_TYPE = pa.list_(pa.int8())
"""Ten vote counts, or null. Parquet readers refuse nulls in lists of a fixed size."""

INDEX_SCHEMA = pa.schema(
    [
        ("face_id", pa.string()),
        ("source", pa.string()),
        ("image_path", pa.string()),
        ("list", pa.string()),
        ("row", pa.int32()),
        ("annotation", pa.string()),
        ("expression", pa.int8()),
        ("valence", pa.float32()),
        ("arousal", pa.float32()),
        ("face_x", pa.int32()),
        ("face_y", pa.int32()),
        ("face_width", pa.int32()),
        ("face_height", pa.int32()),
        ("votes", VOTES_TYPE),
        ("attributes", pa.string()),
        ("issue", pa.string()),
    ]
)
"""One row for each list row that is kept; `row` counts the data rows of its file from 1.

`attributes` is what else is known of a face, as a JSON object of texts. Landmarks stay in the
list, where `list` and `row` find them: they are nine tenths of AffectNet's lists, and no stage
reads them.
"""

REJECTED_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("list", pa.string()),
        ("row", pa.int32()),
        ("reason", pa.string()),
        ("value", pa.string()),
    ]
)
"""One row for each list row that is not kept; `value` is what was wrong, cut to 200 characters."""

UNKNOWN_LABEL = "unknown_label"
"""Reason of a rejected row whose label is in no table; it stops a run unless told otherwise."""


CROPPED = "cropped"
"""The option, `yes` or `no`, by which a format that has it is told `faces_are_cropped`."""


class Role(StrEnum):
    """What the rows of one list may be used for."""

    TRAIN = "train"
    TRAIN_ONLY = "train_only"
    DEV = "dev"
    TEST = "test"


@dataclass(frozen=True)
class RowBatch:
    """Some rows of one list: `kept` has INDEX_SCHEMA, `rejected` has REJECTED_SCHEMA.

    The column `issue` is null here: repeats are found across all lists, in the index stage.
    """

    kept: pa.Table
    rejected: pa.Table


Photo = tuple[str, str]
"""A photo's address in its data set: (list, image_path)."""


class DataSet(Protocol):
    """A data set under a folder or an address, in one format; or several that are used as one."""

    name: str
    faces_are_cropped: bool
    """True when every picture is the face itself, so that no box and no detection are needed."""

    @property
    def title(self) -> str:
        """What people call it, for reports; its name where the files don't tell."""
        ...

    @property
    def address(self) -> str:
        """Where it stands, in words; another one for every other data set."""
        ...

    def parts(self) -> Sequence["OneDataSet"]:
        """The data sets that it is made of: itself alone, unless it is a mixture."""
        ...

    def part_of(self, name: str) -> "OneDataSet":
        """The data set that the list `name` belongs to: itself, unless it is a mixture."""
        ...

    def lists(self) -> Mapping[str, Sequence[Location]]:
        """Each list's name and the files that hold it, in reading order.

        Several lists may stand in one file. A folder stands for the names in it, where these are
        the list.
        """
        ...

    def roles(self) -> Mapping[str, Role]:
        """Each list's name and what its rows may be used for."""
        ...

    def batches(self, names: Sequence[str] | None = None) -> Iterator[RowBatch]:
        """Every row of the named lists (default: all), kept or rejected, in order of the lists.

        Raises InputError where a list as a whole can't be read.
        """
        ...

    def count_rows(self, name: str) -> int:
        """The number of data rows of a list, counted another way than `batches` reads them."""
        ...

    def photo_key(self, photo: Photo) -> str:
        """A name that is the same for two addresses of one stored photo."""
        ...

    def photo_group(self, photo: Photo) -> str:
        """16 hex digits that name the photo, the same whatever its data set is mixed with."""
        ...

    def photo_sizes(self, photos: Sequence[Photo]) -> npt.NDArray[np.int64]:
        """Bytes of each photo as stored, -1 where it is missing; shape (n,)."""
        ...

    def stored_sizes(self, photos: Sequence[Photo]) -> npt.NDArray[np.int64]:
        """Bytes of the file in which each photo is stored, -1 where there is none; shape (n,).

        Cheap, unlike `photo_sizes` where many photos share a file: it tells that photos came,
        went or were replaced.
        """
        ...

    def read_photos(
        self, photos: Sequence[Photo], max_bytes: int | None = None
    ) -> Iterator[Stored]:
        """The stored bytes of each photo in turn, None where it is missing.

        An UnreadableError where it is there and can't be read, or has more than `max_bytes`
        bytes, which are then not read.
        """
        ...


class OneDataSet(DataSet, Protocol):
    """A data set that is no mixture."""

    root: Location
    labels: Mapping[str, str]
    """See `Format.labels`."""


class Format(Protocol):
    """A class of data sets: what `--dataset` names, built in or registered by another package."""

    name: str
    faces_are_cropped: bool
    picture_side: int | None
    """Height and width in pixels of pictures that are faces already, None where they vary."""
    options: Mapping[str, str]
    """What can be chosen about how it is read: the option's name and what it says.

    Where options say whether pictures are faces already, `faces_are_cropped` is what holds
    without them, and a classmethod `crops` tells it with them (see `Alone.crops`).
    """
    labels: Mapping[str, str]
    """The numbers that its lists write for expressions; empty where they write names."""
    layout: str
    """What a folder of it holds, in a few words: what is looked for."""

    def __call__(self, *root_and_name: Any, **options: Any) -> OneDataSet:
        """The data set under a root, as the class is called: `(root, name=None, **options)`.

        `name` is the data set's own, by default the format's. Raises InputError where the folder
        doesn't hold one, or an option has a value that it can't have.
        """
        ...

    def recognise(self, root: Location) -> str | None:
        """Why the folder looks like this format, in a few words; None where it doesn't.

        Looks at a few names and headers, never at all photos.
        """
        ...


class Alone(ABC):
    """What a data set that is no mixture answers to questions about its parts."""

    name: str
    root: Location
    labels: Mapping[str, str]
    faces_are_cropped: bool
    votes_count_people: bool = True
    """Whether its votes count people who were asked; else they are shares of a soft label."""

    @classmethod
    def crops(cls, options: Mapping[str, str]) -> bool:
        """What `faces_are_cropped` is with these options; raises InputError for a wrong value."""
        if CROPPED in options:
            return yes_or_no(f"{cls.name}.{CROPPED}", options[CROPPED])
        return cls.faces_are_cropped

    @property
    def title(self) -> str:
        """The name."""
        return self.name

    @property
    def address(self) -> str:
        """The root, as text."""
        return str(self.root)

    def parts(self) -> tuple[Self]:
        """Itself."""
        return (self,)

    def part_of(self, name: str) -> Self:  # noqa: ARG002 - every list is its own
        """Itself."""
        return self

    @abstractmethod
    def photo_key(self, photo: Photo) -> str:
        """See `DataSet.photo_key`."""

    def photo_group(self, photo: Photo) -> str:
        """A digest of the data set's name and the photo's key."""
        return text_digest(self.name, self.photo_key(photo))


def yes_or_no(option: str, value: str) -> bool:
    """What an option says that takes `yes` or `no`; raises InputError for another word."""
    if value not in ("yes", "no"):
        raise InputError(f"{option} takes yes or no, not {value!r}")
    return value == "yes"


def cropped_faces(dataset: DataSet, lists: Sequence[str]) -> npt.NDArray[np.bool_]:
    """For the list of each face, whether its pictures are faces already; shape (n,)."""
    known = {name: dataset.part_of(name).faces_are_cropped for name in set(lists)}
    return np.fromiter((known[name] for name in lists), bool, len(lists))


def votes_count_people(dataset: OneDataSet) -> bool:
    """See `Alone.votes_count_people`, which a format of another package need not have."""
    return bool(getattr(dataset, "votes_count_people", True))


def votes_of_people(dataset: DataSet, rows: pa.Table) -> pa.Table:
    """Rows of an index or a manifest without those votes that count no people: they are null."""
    counts = _vote_counts(dataset, set(rows["list"].to_pylist()))
    if all(counts.values()):
        return rows
    kept = np.fromiter((counts[name] for name in rows["list"].to_pylist()), bool, len(rows))
    votes = rows["votes"].take(pa.array(np.arange(len(rows)), mask=~kept))
    return rows.set_column(rows.schema.get_field_index("votes"), "votes", votes)


def kinds_of_votes(dataset: DataSet, rows: pa.Table) -> frozenset[bool]:
    """Whether votes of an index or a manifest count people: True, False or both; empty: none."""
    voted = pc.unique(rows["list"].filter(pc.is_valid(rows["votes"])))
    return frozenset(_vote_counts(dataset, voted.to_pylist()).values())


def _vote_counts(dataset: DataSet, lists: Collection[str]) -> dict[str, bool]:
    return {name: votes_count_people(dataset.part_of(name)) for name in lists}


def carved_lists(dataset: DataSet) -> frozenset[str]:
    """The training lists of which dev is carved: those of data sets that bring no dev list."""
    roles = dataset.roles()
    given = {dataset.part_of(name).name for name, role in roles.items() if role == Role.DEV}
    return frozenset(
        name
        for name, role in roles.items()
        if role == Role.TRAIN and dataset.part_of(name).name not in given
    )


def roles_of_given_splits(lists: Sequence[str]) -> Mapping[str, Role]:
    """Roles of the lists `train`, `validation`, `test` of a data set with given splits.

    With a test list, validation is the dev split; without one, validation is the locked test
    and dev is carved from train.
    """
    validation = Role.DEV if "test" in lists else Role.TEST
    table = {"train": Role.TRAIN, "validation": validation, "test": Role.TEST}
    return {name: table[name] for name in lists}
