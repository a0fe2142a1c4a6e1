"""Labelled faces of a data set's test list as pictures that any package can read, and scores.

A picture is written without loss, upright, so that all who are compared see the same pixels.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.datasets.base import Role
from fer_pipeline.core.decode import UnreadableError, decode
from fer_pipeline.core.index import BAD_BOX, build_index, row_batches
from fer_pipeline.core.intervals import Estimate, percentile_interval, resampled_confusions
from fer_pipeline.core.labels import NAMES, expression_name
from fer_pipeline.core.manifest import listed_boxes, photos_of
from fer_pipeline.core.metrics import confusion_matrix, confusion_scores

CLASSES = NAMES[:7]
_RESAMPLES = 2000


@dataclass(frozen=True)
class Labelled:
    """Faces with their labels: `listed` is a JSON file of [picture, box or null] for each.

    `truth` is int64 (n,), positions in `CLASSES`; `groups` str (n,), equal for faces of one
    photo.
    """

    listed: Path
    truth: npt.NDArray[np.int64]
    groups: npt.NDArray[np.str_]


def labelled_faces(kind: str, root: Path, folder: Path, tell: Callable[[str], None]) -> Labelled:
    """The readable faces of `CLASSES` in the test list of a data set, their pictures in `folder`.

    Copies count as often as they are listed, as in `fer-pipeline evaluate`. Raises InputError
    where the data set can't be read.
    """
    import cv2

    dataset = open_dataset(kind, root)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lists = [name for name, role in dataset.roles().items() if role == Role.TEST]
    listed: list[tuple[str, tuple[float, ...] | None]] = []
    truth: list[int] = []
    groups: list[str] = []
    pictures: dict[str, str | None] = {}
    with tempfile.TemporaryDirectory() as scratch:
        build_index(dataset, Path(scratch), names=lists)
        rows = pa.concat_tables(map(_table, row_batches(Path(scratch))))
    codes, issues = rows["expression"].to_pylist(), rows["issue"].to_pylist()
    keep = [
        row
        for row, (code, issue) in enumerate(zip(codes, issues, strict=True))
        if code < len(CLASSES) and issue != BAD_BOX
    ]
    rows = rows.take(keep)
    photos = photos_of(rows)
    for photo, data, box, code in zip(
        photos,
        dataset.read_photos(photos),
        listed_boxes(rows),
        rows["expression"].to_pylist(),
        strict=True,
    ):
        key = dataset.photo_key(photo)
        if key not in pictures:
            tell(f"pictures of {kind}: {len(pictures):,}")
            file = folder / f"{len(pictures)}.png"
            pixels = _pixels(data)
            if pixels is not None:
                cv2.imwrite(str(file), pixels[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
            pictures[key] = None if pixels is None else str(file)
        picture = pictures[key]
        if picture is not None:
            listed.append((picture, None if dataset.faces_are_cropped else box))
            truth.append(CLASSES.index(NAMES[code]))
            groups.append(key)
    path = folder / "faces.json"
    path.write_text(json.dumps(listed))
    return Labelled(path, np.array(truth), np.array(groups))


def positions(said: Sequence[str | None]) -> npt.NDArray[np.int64]:
    """Answers in anyone's words as positions in `CLASSES`, int64 (n,); -1 where there is none.

    Raises ValueError for a word that means none of them.
    """
    found = []
    for word in said:
        name = None if word is None else expression_name(word)
        if word is not None and name not in CLASSES:
            raise ValueError(f"{word!r} is none of {', '.join(CLASSES)}")
        found.append(-1 if name is None else CLASSES.index(name))
    return np.array(found, np.int64)


def scores_of(
    faces: Labelled, said: npt.NDArray[np.int64], kept: npt.NDArray[np.bool_]
) -> tuple[Estimate, Estimate, Estimate]:
    """Accuracy, balanced accuracy and macro-F1 of answers on the faces `kept` (bool (n,)).

    With 95% bootstrap intervals over photos.
    """
    truth, answer, count = faces.truth[kept], said[kept], len(CLASSES)
    groups = faces.groups[kept]
    samples = resampled_confusions(truth, answer, count, groups, seed=0, resamples=_RESAMPLES)
    drawn = confusion_scores(samples)
    accuracy, balanced, macro_f1 = (
        Estimate(float(value), *percentile_interval(sample))
        for value, sample in zip(
            confusion_scores(confusion_matrix(truth, answer, count)), drawn, strict=True
        )
    )
    return accuracy, balanced, macro_f1


def _table(batch: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch])


def _pixels(data: bytes | UnreadableError | None) -> npt.NDArray[np.uint8] | None:
    if data is None or isinstance(data, UnreadableError):
        return None
    try:
        return decode(data)
    except UnreadableError:
        return None
