"""Label Studio's JSON: tasks to label there, answers as annotations, and its exports read back.

Formats: Label Studio's task format, its raw JSON export and its JSON-MIN export. No file written
here tells a label, a file name or a face_id.
"""

import base64
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from fer_pipeline.core.answers import Answer, checked_annotator
from fer_pipeline.core.cells import checked_time
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.exchange import checked_answer, checked_bytes, checked_item
from fer_pipeline.core.files import published
from fer_pipeline.core.storage import Location
from fer_pipeline.core.study import Study, order_for, picture

MAX_BYTES = 300_000_000
"""Bytes of a file that is read: exports carry the pictures of their tasks."""

_CONTROL, _OBJECT = "expression", "face"
"""Names of the choices and of the picture in the labelling configuration."""
_KEYS = "1234567890qwertyuiop"
_LONGEST_SECONDS = 999_999


def labelling_config(study: Study) -> str:
    """The labelling configuration (XML) of a project for this study, with a key for each choice."""
    choices = "\n".join(
        f"    <Choice value={quoteattr(choice)} hotkey={quoteattr(key)}/>"
        for choice, key in zip(study.choices, _KEYS, strict=False)
    )
    return (
        f'<View>\n  <Image name="{_OBJECT}" value="$image"/>\n'
        f'  <Choices name="{_CONTROL}" toName="{_OBJECT}" choice="single" required="true">\n'
        f"{choices}\n  </Choices>\n</View>\n"
    )


def write_tasks(path: Location, study: Study, *, whole: bool) -> int:
    """Write the tasks of a study, pictures included, to be imported there; give their number.

    With `whole` the pictures are the photos with the face framed, else the crops. The order is
    one of those that `order_for` gives, so that repeats stand apart.
    """
    tasks = ({"data": _data(study, item, whole=whole)} for item in order_for(study, "Label Studio"))
    return _write(path, tasks)


def write_annotations(path: Location, study: Study, answers: Sequence[Answer]) -> int:
    """Write the answers to a study as annotated tasks, crops included; give the number of answers.

    Shown order isn't part of the format: it comes back as the order of the times.
    """
    by_item: dict[int, list[Answer]] = {}
    for answer in answers:
        by_item.setdefault(answer.item, []).append(answer)
    tasks = (
        {
            "id": item + 1,
            "data": _data(study, item, whole=False),
            "annotations": [_annotation(answer) for answer in given],
        }
        for item, given in sorted(by_item.items())
    )
    _write(path, tasks)
    return len(answers)


def read_annotations(
    path: Path, study: Study, annotator: str | None = None
) -> tuple[list[Answer], int]:
    """The answers in a JSON or JSON-MIN export, and the number of tasks skipped there.

    Annotators are named by their e-mail or else `Label Studio ID`; `annotator` names the one
    that the file holds. Shown order is the order of the times. Raises InputError, which names
    file and task, for what isn't an export of tasks of this study; then nothing is given.
    """
    name = None if annotator is None else checked_annotator(annotator)
    found: list[Answer] = []
    skipped = 0
    for number, task in enumerate(_tasks(path), start=1):
        where = f"{path}, task {number}"
        if not isinstance(task, dict):
            raise InputError(f"{where} is no task: give Label Studio's JSON or JSON-MIN export")
        if "annotations" in task:
            data, given = task.get("data"), task["annotations"]
        else:
            data, given = task, [_from_minimal(task, where)]
        if not isinstance(data, dict) or not isinstance(given, list):
            raise InputError(f"{where} is no task: give Label Studio's JSON or JSON-MIN export")
        item = _checked_task(data, study, where)
        for annotation in given:
            if not isinstance(annotation, dict):
                raise InputError(f"{where} has an annotation that is none: export it again")
            if annotation.get("was_cancelled"):
                skipped += 1
            else:
                found.append(_answer(annotation, study, item, where))
    return _in_order(found, name, path), skipped


def _data(study: Study, item: int, *, whole: bool) -> dict[str, Any]:
    encoded = base64.b64encode(picture(study.path, item, whole=whole)).decode()
    return {
        "image": f"data:image/jpeg;base64,{encoded}",
        "item": item,
        "study": study.key,
        "sample": study.sample,
    }


def _annotation(answer: Answer) -> dict[str, Any]:
    at = answer.answered_at.astimezone(UTC).isoformat(timespec="microseconds")
    result = {
        "from_name": _CONTROL,
        "to_name": _OBJECT,
        "type": "choices",
        "origin": "manual",
        "value": {"choices": [answer.answer]},
    }
    return {
        "completed_by": {"email": answer.annotator},
        "result": [result],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": at,
        "updated_at": at,
        "lead_time": answer.milliseconds / 1000,
    }


def _write(path: Location, tasks: Iterable[Mapping[str, Any]]) -> int:
    """A JSON list, one task at a time: the pictures of a study needn't fit in memory."""
    count = 0
    with published(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for task in tasks:
            file.write("[\n" if not count else ",\n")
            json.dump(task, file)
            count += 1
        file.write("\n]\n" if count else "[]\n")
    return count


def _tasks(path: Path) -> list[Any]:
    try:
        tasks = json.loads(checked_bytes(path, MAX_BYTES, "give an export without whole photos"))
    except (ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path} is no JSON ({said}): give Label Studio's JSON or JSON-MIN export"
        ) from error
    if not isinstance(tasks, list) or not tasks:
        raise InputError(
            f"{path} holds no list of tasks: give Label Studio's JSON or JSON-MIN export"
        )
    return tasks


def _checked_task(data: Mapping[str, Any], study: Study, where: str) -> int:
    if data.get("study") != study.key or data.get("sample") != study.sample:
        raise InputError(
            f"{where} is of the study {str(data.get('study'))[:80]!r}, sample "
            f"{str(data.get('sample'))[:40]!r}, not of {study.key}, sample {study.sample}: name "
            "the study it belongs to"
        )
    return checked_item(data.get("item"), study, where)


def _from_minimal(task: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A JSON-MIN task, which is one annotation, in the form of the raw export."""
    if _CONTROL not in task:
        raise InputError(
            f"{where} has no {_CONTROL!r}: label it with the configuration that was written "
            "beside the tasks, and export it again"
        )
    chosen = task[_CONTROL]
    value = chosen if isinstance(chosen, dict) else {"choices": chosen}
    return {
        "completed_by": task.get("annotator"),
        "result": [{"type": "choices", "value": value}],
        "created_at": task.get("created_at"),
        "lead_time": task.get("lead_time"),
    }


def _answer(annotation: Mapping[str, Any], study: Study, item: int, where: str) -> Answer:
    chosen: list[Any] = []
    results = annotation.get("result")
    for result in results if isinstance(results, list) else ():
        value = result.get("value") if isinstance(result, dict) else None
        given = value.get("choices", ()) if isinstance(value, dict) else ()
        chosen += given if isinstance(given, list | tuple) else [given]
    if len(chosen) != 1:
        raise InputError(f"{where} has {len(chosen)} choices in an annotation: make it one there")
    created = annotation.get("created_at")
    return Answer(
        study=study.key,
        sample=study.sample,
        annotator=_name(annotation.get("completed_by"), where),
        item=item,
        face_id=study.items["face_id"][item].as_py(),
        answer=checked_answer(chosen[0], study, where),
        milliseconds=_milliseconds(annotation.get("lead_time"), where),
        shown_order=0,
        repeat=study.items["repeat_of"][item].as_py() is not None,
        answered_at=datetime.now(UTC) if created is None else checked_time(str(created), where),
    )


def _name(given: object, where: str) -> str:
    if isinstance(given, dict):
        given = given.get("email") or given.get("id")
    if isinstance(given, int) and not isinstance(given, bool):
        given = f"Label Studio {given}"
    if not isinstance(given, str):
        given = "Label Studio"
    try:
        return checked_annotator(given)
    except InputError as error:
        raise InputError(f"{where}: {error}; name them with --annotator") from error


def _milliseconds(lead_time: object, where: str) -> int:
    if lead_time is None:
        return 0
    if isinstance(lead_time, int | float) and 0 <= lead_time <= _LONGEST_SECONDS:
        return round(lead_time * 1000)
    raise InputError(
        f"{where} has {str(lead_time)[:40]!r} as lead_time: give seconds, 0 to {_LONGEST_SECONDS}"
    )


def _in_order(found: Sequence[Answer], name: str | None, path: Path) -> list[Answer]:
    """The answers of each annotator in the order of their times, numbered."""
    by_person: dict[str, list[Answer]] = {}
    for answer in found:
        by_person.setdefault(answer.annotator, []).append(answer)
    people = sorted(by_person)
    if name is not None and len(people) > 1:
        raise InputError(
            f"{path} holds answers of {', '.join(people[:5])}: --annotator names one person, "
            "leave it out"
        )
    ordered: list[Answer] = []
    for person in people:
        own = sorted(by_person[person], key=lambda answer: (answer.answered_at, answer.item))
        item, count = Counter(answer.item for answer in own).most_common(1)[0]
        if count > 1:
            raise InputError(
                f"{path} holds two answers of {person} to image {item}: keep one of the two"
            )
        ordered += [
            replace(answer, annotator=name or person, shown_order=at)
            for at, answer in enumerate(own)
        ]
    return ordered
