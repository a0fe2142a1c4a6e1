"""A study of drawn faces, published in a home of its own, without running the graph."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.datasets.base import DataSet
from fer_pipeline.core.drawing import Box, draw_photo
from fer_pipeline.core.files import text_digest
from fer_pipeline.core.labels import CODES
from fer_pipeline.core.study import Study, publish_study, study_path
from fer_pipeline.core.study_pictures import study_pictures
from fer_pipeline.core.study_sample import draw_people
from fer_pipeline.core.synthetic_files import encoded
from fer_pipeline.streams import STREAMS

SIZES = ((420, 360), (360, 460), (640, 420))


@functools.cache
def _photo(number: int, expression: str) -> tuple[bytes, Box]:
    rng = np.random.default_rng((number, CODES[expression]))
    drawn = draw_photo(rng, expression, size=SIZES[number % len(SIZES)])
    assert drawn.box is not None
    return encoded(drawn.image), drawn.box


class _Photos:
    """As much of a data set as the pictures of a study need."""

    faces_are_cropped = False

    def part_of(self, _name: str) -> "_Photos":
        return self

    def read_photos(self, photos: Sequence[tuple[str, str]], **_limits: int) -> Iterator[bytes]:
        for _, path in photos:
            yield _photo(*_from_path(path))[0]


def _path(number: int, expression: str) -> str:
    return f"hidden-{CODES[expression]}/secret-name-{number}-{expression.lower()}.jpg"


def _from_path(path: str) -> tuple[int, str]:
    number, name = path.removesuffix(".jpg").split("-")[-2:]
    return int(number), name.capitalize()


def publish_drawn(
    home: Path,
    stream: str = "five_class",
    name: str = "people",
    *,
    per_class: int = 8,
    repeat_share: float = 0.05,
    kind: str = "people",
) -> Study:
    """Publish a study of `per_class` drawn faces of each class in `home`."""
    classes = STREAMS[stream]
    rows: list[dict[str, Any]] = []
    boxes: dict[str, Box] = {}
    for expression in classes:
        for number in range(per_class):
            path = _path(number, expression)
            face = text_digest(stream, name, path)
            boxes[face] = _photo(number, expression)[1]
            rows.append(
                {
                    "face_id": face,
                    "list": "secret_list",
                    "image_path": path,
                    "split": "test",
                    "group_id": text_digest("group", path),
                    "expression": CODES[expression],
                }
            )
    manifest = pa.Table.from_pylist(rows)
    sample = draw_people(
        manifest,
        list(boxes),
        classes,
        "listed",
        per_class=per_class,
        repeat_share=repeat_share,
        seed=3,
    )
    return publish_study(
        study_path(home / "studies", stream, name),
        stream=stream,
        kind=kind,
        classes=classes,
        label_source="listed",
        seed=3,
        manifest_hash=text_digest("drawn"),
        per_class=per_class,
        repeat_share=repeat_share,
        items=sample.items,
        pictures=study_pictures(cast("DataSet", _Photos()), sample.items, boxes, CropSettings(48)),
    )
