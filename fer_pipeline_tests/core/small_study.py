"""Small manifests, and studies of faces that are never looked at: what the study tests share."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from fer_pipeline.core.answers import Answer
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import CODES
from fer_pipeline.core.manifest import MANIFEST_SCHEMA
from fer_pipeline.core.study import Study, publish_study, study_path
from fer_pipeline.core.study_sample import draw_people

CLASSES = ("Happiness", "Sadness", "Surprise")
STREAM = "three_class"
START = datetime(2030, 1, 31, 12, tzinfo=UTC)


def manifest_of(faces: Sequence[tuple[str, str, str]]) -> pa.Table:
    """A manifest of faces, each given by its class, split and group."""
    rows = [
        {
            "face_id": f"{number:016x}",
            "source": "affectnet",
            "image_path": f"{number % 7}/{number:04d}.jpg",
            "list": {"test": "manual_val"}.get(split, "manual_train"),
            "annotation": "manual",
            "expression": CODES[name],
            "group_id": group,
            "split": split,
            "weight": 1.0,
        }
        for number, (name, split, group) in enumerate(faces)
    ]
    return pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)


def even_manifest(per_class: int, split: str = "test") -> pa.Table:
    """As many faces of each class, each in a group of its own."""
    return manifest_of(
        [(name, split, f"{name}-{at}") for at in range(per_class) for name in CLASSES]
    )


def small_study(
    folder: Path, name: str = "people", *, per_class: int = 4, repeat_share: float = 0.25
) -> Study:
    """A published study under a folder of studies; its pictures are words."""
    manifest = even_manifest(per_class)
    sample = draw_people(
        manifest,
        set(manifest["face_id"].to_pylist()),
        CLASSES,
        "listed",
        per_class=per_class,
        repeat_share=repeat_share,
        seed=3,
    )
    return publish(study_path(folder, STREAM, name), sample.items)


def publish(path: Path, items: pa.Table, pictures: int | None = None) -> Study:
    """A study of these items; the pictures of item 7 are b"photo 7" and b"crop 7"."""
    count = items.num_rows if pictures is None else pictures
    return publish_study(
        path,
        stream=STREAM,
        kind="people",
        classes=CLASSES,
        label_source="listed",
        seed=3,
        manifest_hash="0" * 16,
        per_class=4,
        repeat_share=0.25,
        items=items,
        pictures=((b"photo %d" % at, b"crop %d" % at) for at in range(count)),
    )


def refused(
    read: Callable[[Path, Study, str | None], object],
    path: Path,
    study: Study,
    *words: str,
    annotator: str | None = None,
) -> None:
    """A file is refused in one sentence that names it and holds these words."""
    with pytest.raises(InputError) as error:
        read(path, study, annotator)
    said = str(error.value)
    assert str(path) in said
    assert said.isprintable()
    assert all(word in said for word in words), said


def answer_to(study: Study, item: int, text: str = "Happiness", **values: object) -> Answer:
    """An answer of ann to an item, a second later for each place in her order."""
    given = {
        "study": study.key,
        "sample": study.sample,
        "annotator": "ann",
        "item": item,
        "face_id": study.items["face_id"][item].as_py(),
        "answer": text,
        "milliseconds": 1234,
        "shown_order": item,
        "repeat": study.items["repeat_of"][item].as_py() is not None,
    } | values
    at = START + timedelta(seconds=int(str(given["shown_order"])))
    return Answer(**{"answered_at": at, **given})  # type: ignore[arg-type]
