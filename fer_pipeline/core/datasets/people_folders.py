"""Small data sets whose folders are the list, and whose photos belong to persons.

The data set is dealt to train and test by person, and dev is carved of train by person. What
names say stands in the module of each format.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from fer_pipeline.core.datasets import columns
from fer_pipeline.core.datasets.base import UNKNOWN_LABEL, Photo, Role, RowBatch
from fer_pipeline.core.datasets.photo_files import PhotoFiles
from fer_pipeline.core.datasets.rows import (
    TEST,
    TRAIN,
    dealt_list,
    kept_table,
    rejected_table,
)
from fer_pipeline.core.datasets.trees import plain_text
from fer_pipeline.core.files import text_digest
from fer_pipeline.core.storage import Location


@dataclass(frozen=True)
class Face:
    """One row: a photo of a person and its written label, or why it is none."""

    person: str
    path: str
    label: str = ""
    reason: str = ""


class PeopleFolders(PhotoFiles):
    """The lists `train` and `test` of persons; a subclass finds the faces."""

    faces_are_cropped = False
    picture_side: int | None = None
    labels: Mapping[str, str]

    @abstractmethod
    def faces(self) -> list[Face]:
        """Every row, in order; the same as long as no file comes or goes."""

    @abstractmethod
    def places(self) -> list[Location]:
        """The files and folders that are the list."""

    @abstractmethod
    def person(self, path: str) -> str:
        """Whom the photo at a path shows."""

    def lists(self) -> Mapping[str, Sequence[Location]]:
        """Train and test are dealt from the same folders."""
        return {TRAIN: self._places, TEST: self._places}

    def roles(self) -> Mapping[str, Role]:
        """See `rows.dealt_list`."""
        return {TRAIN: Role.TRAIN, TEST: Role.TEST}

    def photo_group(self, photo: Photo) -> str:
        """A digest of the data set's name and the person: no person is on two sides."""
        return text_digest(self.name, self.person(photo[1]))

    def batches(self, names: Sequence[str] | None = None) -> Iterator[RowBatch]:
        """The rows of each list; see `DataSet.batches`."""
        rows = list(enumerate(self.faces(), 1))
        labels = pa.chunked_array(
            [pa.array([plain_text(face.label) for _, face in rows], "string")]
        )
        codes = columns.expression_codes(labels, self.labels)
        for name in names or (TRAIN, TEST):
            mine = [at for at, (_, face) in enumerate(rows) if dealt_list(face.person) == name]
            reasons = {at: rows[at][1].reason or _reason(codes[at], rows[at][1]) for at in mine}
            kept = [at for at in mine if not reasons[at]]
            bad = [at for at in mine if reasons[at]]
            yield RowBatch(
                kept_table(
                    self.name,
                    name,
                    [rows[at][0] for at in kept],
                    [rows[at][1].path for at in kept],
                    codes[kept],
                ),
                rejected_table(
                    self.name,
                    name,
                    [rows[at][0] for at in bad],
                    [reasons[at] for at in bad],
                    [plain_text(f"{rows[at][1].path} {rows[at][1].label}".strip()) for at in bad],
                ),
            )

    @cached_property
    def _places(self) -> list[Location]:
        return self.places()


def _reason(code: int, face: Face) -> str:
    if plain_text(face.path) != face.path:
        return "unreadable_name"
    return UNKNOWN_LABEL if code < 0 else ""
