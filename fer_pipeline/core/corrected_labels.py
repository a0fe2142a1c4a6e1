"""What corrections do to the labels of index rows, and why some of them do nothing.

Every corrected face is either among those that are changed or counted with a reason. The file of
corrections is read in `corrections.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fer_pipeline.core.corrections import Correction, resolved
from fer_pipeline.core.datasets.base import Role
from fer_pipeline.core.files import text_digest
from fer_pipeline.core.index import row_batches
from fer_pipeline.core.labels import CODES
from fer_pipeline.core.storage import Location
from fer_pipeline.core.votes import of_votes

FACE_NOT_IN_INDEX = "face_not_in_index"
LABEL_DIFFERS = "label_differs"
"""No row of the face has the label that was corrected."""
LOCKED_TEST = "locked_test"
LABELS_ARE_VOTES = "labels_are_votes"
TAKEN_BACK = "taken_back"
"""The last line of the face gives it the label that its list gives it."""


@dataclass(frozen=True)
class CorrectedLabels:
    """The corrections that change something, and how many don't, by reason."""

    codes: Mapping[str, int]
    """The new code by face_id."""
    left: Mapping[str, int]

    @property
    def digest(self) -> str:
        """16 hex digits that change with `codes`; empty for none."""
        return text_digest(*sorted(self.codes.items())) if self.codes else ""

    def apply(
        self, face_id: pa.ChunkedArray, label: npt.NDArray[np.int8]
    ) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
        """The corrected codes, and which rows were corrected; both (n,), `label` is kept."""
        if not self.codes:
            return label, np.zeros(len(label), bool)
        place = pc.fill_null(pc.index_in(face_id, value_set=pa.array(list(self.codes))), -1)
        at = place.to_numpy()
        codes = np.array(list(self.codes.values()), np.int8)
        return np.where(at >= 0, codes[at], label), at >= 0


def decide(
    index_folder: Location,
    corrections: Sequence[Correction],
    roles: Mapping[str, Role],
    *,
    label_source: str,
    correct_test: bool,
) -> CorrectedLabels:
    """Which corrections are applied to the index.

    A face that stands in a test list anywhere is a test face. All rows of a face take the new
    label, so that a face listed with two labels has one when a person has decided.
    """
    wanted = resolved(corrections)
    if of_votes(label_source):
        return CorrectedLabels({}, _counted([LABELS_ARE_VOTES] * len(wanted)))
    moved = {face: line for face, line in wanted.items() if line.old != line.new}
    reasons = [TAKEN_BACK] * (len(wanted) - len(moved))
    listed: dict[str, set[int]] = {face: set() for face in moved}
    in_test: set[str] = set()
    if moved:
        ids = pa.array(list(moved))
        for batch in row_batches(index_folder, ["face_id", "list", "expression"]):
            found = batch.filter(pc.is_in(batch.column("face_id"), value_set=ids))
            for row in found.to_pylist():
                listed[row["face_id"]].add(row["expression"])
                if roles[row["list"]] == Role.TEST:
                    in_test.add(row["face_id"])
    codes: dict[str, int] = {}
    for face, line in moved.items():
        if not listed[face]:
            reasons.append(FACE_NOT_IN_INDEX)
        elif face in in_test and not correct_test:
            reasons.append(LOCKED_TEST)
        elif CODES[line.old] not in listed[face]:
            reasons.append(LABEL_DIFFERS)
        else:
            codes[face] = CODES[line.new]
    return CorrectedLabels(codes, _counted(reasons))


def _counted(reasons: Sequence[str]) -> dict[str, int]:
    return {reason: reasons.count(reason) for reason in sorted(set(reasons))}
