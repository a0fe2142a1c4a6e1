"""Answers as CSV, in the form `Image Index, True Label, User Label, Match`, both ways.

The file tells the true labels: it is for those who evaluate a study, never for its annotators.
Label Studio's formats are in `exchange_label_studio.py`.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from fer_pipeline.core.answers import Answer, checked_annotator
from fer_pipeline.core.cells import checked_time, csv_rows, safe_cell
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import publish_bytes
from fer_pipeline.core.labels import expression_name
from fer_pipeline.core.storage import Location
from fer_pipeline.core.study import NOT_A_FACE, UNSURE, Study

HEADER = ("Image Index", "True Label", "User Label", "Match")
OWN_COLUMNS = ("Face", "Annotator", "Milliseconds", "Shown Order", "Repeat", "Answered")
"""Columns after HEADER in files that were written here; files without them are read too."""

MAX_BYTES = 50_000_000
_MATCHES: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}
_OTHER_ANSWERS: Mapping[str, str] = {
    UNSURE: UNSURE,
    NOT_A_FACE: NOT_A_FACE,
    "Uncertain": UNSURE,
    "No-Face": NOT_A_FACE,
}


def write_answers_csv(path: Location, study: Study, answers: Sequence[Answer]) -> int:
    """Write the answers to a study, one row each; give their number.

    `Image Index` is the item's number, counted from 0. Cells that a spreadsheet would take for
    formulas begin with an apostrophe, which `read_answers_csv` takes off again.
    """
    labels = study.items["expression"].to_pylist()
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*HEADER, *OWN_COLUMNS))
    for answer in answers:
        label = labels[answer.item]
        cells = (
            answer.item,
            label,
            answer.answer,
            label == answer.answer,
            answer.face_id,
            answer.annotator,
            answer.milliseconds,
            answer.shown_order,
            answer.repeat,
            answer.answered_at.astimezone(UTC).isoformat(),
        )
        writer.writerow([safe_cell(str(cell)) for cell in cells])
    publish_bytes(path, text.getvalue().encode())
    return len(answers)


def read_answers_csv(path: Path, study: Study, annotator: str | None = None) -> list[Answer]:
    """The answers that a CSV file holds, of this study, each checked.

    `annotator` names who answered where the file doesn't say. Such a file has no times either:
    its answers have 0 milliseconds, the order of the rows and the time of reading. Raises
    InputError, which names file and row, for anything that isn't as `write_answers_csv` or the
    notebooks write it; then nothing of the file is given.
    """
    name = None if annotator is None else checked_annotator(annotator)
    rows = csv_rows(checked_bytes(path, MAX_BYTES, "it is no file of answers"), path)
    header = next(rows, (0, []))[1]
    own = tuple(header) == (*HEADER, *OWN_COLUMNS)
    if not own and tuple(header) != HEADER:
        raise InputError(
            f"{path} doesn't begin with the header {','.join(HEADER)} (alone, or with "
            f"{','.join(OWN_COLUMNS)} after it): it is another file, or was changed"
        )
    if not own and name is None:
        raise InputError(f"{path} doesn't say who answered: name them with --annotator")
    now = datetime.now(UTC)
    found: list[Answer] = []
    seen: dict[tuple[str, int], int] = {}
    for at, (row, cells) in enumerate(rows):
        where = f"{path}, row {row}"
        if len(cells) != len(header):
            raise InputError(f"{where} has {len(cells)} cells, not {len(header)}: mend the line")
        answer = _answer(dict(zip(header, cells, strict=True)), study, name, at, now, where)
        before = seen.setdefault((answer.annotator, answer.item), row)
        if before != row:
            raise InputError(
                f"{where} answers image {answer.item} for {answer.annotator} again, after row "
                f"{before}: keep one of the two"
            )
        found.append(answer)
    if not found:
        raise InputError(f"{path} holds no answer below its header: give another file")
    return found


def checked_item(value: object, study: Study, where: str) -> int:
    """An item number from a file; raises InputError, which begins with `where`."""
    text = str(value).strip()
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) < len(study)):
        raise InputError(
            f"{where} names the image {text[:40]!r}, but {study.key} has the images 0 to "
            f"{len(study) - 1}: it belongs to another study, or was changed"
        )
    return int(text)


def checked_answer(value: object, study: Study, where: str) -> str:
    """An answer from a file, known aliases of classes included; raises InputError."""
    text = str(value).strip()
    known = expression_name(text) if isinstance(value, str) else None
    answer = _OTHER_ANSWERS.get(text.casefold()) or _OTHER_ANSWERS.get(known or "", known)
    if answer not in study.choices:
        raise InputError(
            f"{where} holds the answer {text[:40]!r}, which {study.key} doesn't know: its "
            f"answers are {', '.join(study.choices)}"
        )
    return answer


def checked_bytes(path: Path, most: int, remedy: str) -> bytes:
    """What a file holds; raises InputError when it can't be read or has more than `most` bytes."""
    try:
        if path.stat().st_size > most:
            raise InputError(f"{path} has more than {most:,} bytes: {remedy}")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}): check its name") from error


def _answer(
    row: Mapping[str, str], study: Study, name: str | None, at: int, now: datetime, where: str
) -> Answer:
    item = checked_item(row["Image Index"], study, where)
    label = study.items["expression"][item].as_py()
    if expression_name(row["True Label"]) != label:
        raise InputError(
            f"{where} says that image {item} is labelled {row['True Label'][:40]!r}, but in "
            f"{study.key} it is {label}: the file belongs to another study"
        )
    answer = checked_answer(row["User Label"], study, where)
    match = row["Match"].strip().casefold()
    if match and _MATCHES.get(match) is not (answer == label):
        raise InputError(
            f"{where} has {row['Match'][:40]!r} as Match, which isn't what its labels say: mend it"
        )
    face = study.items["face_id"][item].as_py()
    repeat = study.items["repeat_of"][item].as_py() is not None
    if "Face" not in row:
        assert name is not None  # noqa: S101 - the caller has seen to it
        return Answer(study.key, study.sample, name, item, face, answer, 0, at, repeat, now)
    if row["Face"] != face or row["Repeat"].strip().casefold() != str(repeat).casefold():
        raise InputError(
            f"{where} says of image {item} that it shows the face {row['Face'][:40]!r} (repeat: "
            f"{row['Repeat'][:40]!r}), but in {study.key} it is {face} (repeat: {repeat}): the "
            "file belongs to another study"
        )
    return Answer(
        study=study.key,
        sample=study.sample,
        annotator=_annotator(row["Annotator"], name, where),
        item=item,
        face_id=face,
        answer=answer,
        milliseconds=_count(row, "Milliseconds", where),
        shown_order=_count(row, "Shown Order", where),
        repeat=repeat,
        answered_at=checked_time(row["Answered"], where),
    )


def _annotator(given: str, name: str | None, where: str) -> str:
    if not given.strip() and name is not None:
        return name
    try:
        known = checked_annotator(given)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if name is not None and known != name:
        raise InputError(
            f"{where} is an answer of {known!r}, not of {name!r}: --annotator is for files that "
            "don't say who answered"
        )
    return known


def _count(row: Mapping[str, str], column: str, where: str) -> int:
    text = row[column].strip()
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InputError(
            f"{where} has {text[:40]!r} as {column}: give a whole number from 0 to 999999999"
        )
    return int(text)
