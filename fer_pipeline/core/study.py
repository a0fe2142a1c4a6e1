"""A study: a fixed, named sample of faces of one stream that people label blind, in one file.

How a study is published and read, and in what order an annotator sees it. Which faces are drawn
is the business of `study_sample.py`, how their pictures are made that of `study_pictures.py`,
what people answered that of `answers.py`.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import scratch_folder, text_digest
from fer_pipeline.core.storage import Location, files_in, is_file, parquet_source
from fer_pipeline.core.study_order import spread_order
from fer_pipeline.core.tables import DAMAGED

UNSURE, NOT_A_FACE = "unsure", "not a face"
"""The answers that name no class of the stream."""

KINDS = ("people", "suspects")
"""A stratified sample, to learn the error people make; or suspected wrong labels."""

SMALL_STUDY = 100
"""Below this number of answers a report warns that it says little."""

SUFFIX = ".parquet"
ITEMS_SCHEMA = pa.schema(
    [
        ("item", pa.int32()),
        ("face_id", pa.string()),
        ("list", pa.string()),
        ("image_path", pa.string()),
        ("expression", pa.string()),
        ("split", pa.string()),
        ("group_id", pa.string()),
        ("repeat_of", pa.int32()),
    ]
)
"""One row a showing: `item` counts from 0, `expression` is the label listed when it was drawn.

A face that is shown twice has a second item, at the end, whose `repeat_of` is the first.
"""
PICTURES = ("photo", "crop")

_FILE_SCHEMA = pa.schema([*ITEMS_SCHEMA, *((name, pa.binary()) for name in PICTURES)])
_ROW_GROUP = 8
"""Items that are read to show one picture."""
_ABOUT = b"study"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", re.ASCII)
_APART = 20
"""Pictures between the two showings of a face, if the study has four times as many."""


class StudyThereError(InputError):
    """A study stands at this place already; whoever wants it can read it."""

    def __init__(self, path: Location) -> None:
        """Say which one."""
        super().__init__(
            f"there is a study at {path} already, and a study is never changed: give the new one "
            "another name"
        )


@dataclass(frozen=True)
class Study:
    """A published study; `items` has ITEMS_SCHEMA, `sample` is the identity of what was drawn."""

    stream: str
    name: str
    kind: str
    classes: tuple[str, ...]
    label_source: str
    seed: int
    manifest_hash: str
    created: str
    """UTC, ISO 8601."""
    sample: str
    per_class: int
    """The faces that were asked for: of each class, of suspects in all."""
    repeat_share: float
    items: pa.Table
    path: Location

    def __len__(self) -> int:
        """The number of showings, repeats included."""
        return int(self.items.num_rows)

    @property
    def key(self) -> str:
        """The name by which answers and people refer to the study: stream/name."""
        return f"{self.stream}/{self.name}"

    @property
    def choices(self) -> tuple[str, ...]:
        """Every answer that may be given."""
        return (*self.classes, UNSURE, NOT_A_FACE)

    @property
    def test_share(self) -> float:
        """The share of the faces that stand in the test split."""
        splits: list[str] = self.items.filter(self.items["repeat_of"].is_null())[
            "split"
        ].to_pylist()
        return splits.count("test") / len(splits)


def checked_study_name(name: str) -> str:
    """The name itself; raises InputError when it can't name a study."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} can't name a study: use 1 to 40 letters, digits, dots, dashes and "
            "underscores, the first a letter or digit"
        )
    return name


def study_path(folder: Location, stream: str, name: str) -> Location:
    """Where a study of this name stands under the folder of studies; raises InputError."""
    return folder / stream / f"{checked_study_name(name)}{SUFFIX}"


def sample_identity(kind: str, items: pa.Table) -> str:
    """16 hex digits over the kind, the faces and the repeats of these items, in order."""
    repeats = ["" if one is None else str(one) for one in items["repeat_of"].to_pylist()]
    return text_digest(kind, *items["face_id"].to_pylist(), *repeats)


def publish_study(
    path: Location,
    *,
    stream: str,
    kind: str,
    classes: Sequence[str],
    label_source: str,
    seed: int,
    manifest_hash: str,
    per_class: int,
    repeat_share: float,
    items: pa.Table,
    pictures: Iterator[tuple[bytes, bytes]],
) -> Study:
    """Write a study to `path` (see `study_path`), whole or not at all, and only if none is there.

    `items` has ITEMS_SCHEMA; `pictures` gives the encoded photo and crop of each item in order.
    Raises StudyThereError when a study stands at `path` already: of two processes that publish at
    once, one does and the other is told.
    """
    name = checked_study_name(path.name.removesuffix(SUFFIX))
    if path.parent.name != stream or not path.name.endswith(SUFFIX):
        raise ValueError(f"a study of {stream} doesn't stand at {path}")
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of study: choose from {', '.join(KINDS)}")
    items = items.select(ITEMS_SCHEMA.names).cast(ITEMS_SCHEMA)
    problem = _items_problem(items, classes)
    if problem is not None:
        raise ValueError(f"the items of {stream}/{name} make no study: {problem}")
    if is_file(path):
        raise StudyThereError(path)
    about = {
        "stream": stream,
        "name": name,
        "kind": kind,
        "classes": list(classes),
        "label_source": label_source,
        "seed": seed,
        "manifest_hash": manifest_hash,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "sample": sample_identity(kind, items),
        "per_class": per_class,
        "repeat_share": repeat_share,
    }
    with scratch_folder(path.parent) as folder:
        made = folder / path.name
        _write(made, about, items, pictures)
        _claim(made, path)
    return _study(about, items, path)


def read_study(path: Location) -> Study:
    """The study that stands at `path`, without its pictures.

    Raises InputError when there is none, or the file is damaged, renamed or no study.
    """
    try:
        with pq.ParquetFile(parquet_source(path), page_checksum_verification=True) as file:
            about = _about(file.schema_arrow)
            items = file.read(columns=ITEMS_SCHEMA.names).replace_schema_metadata(None)
            items = items.cast(ITEMS_SCHEMA)
        study = _study(about, items, path)
        whole = sample_identity(study.kind, items) == study.sample
        problem = _items_problem(items, study.classes) if whole else "its items were changed"
    except FileNotFoundError as error:
        raise InputError(
            f"there is no study at {path}: `fer-pipeline study list` shows those there are"
        ) from error
    except (*DAMAGED, TypeError) as error:
        problem = " ".join(str(error).split())[:200] or type(error).__name__
    if problem is not None:
        raise InputError(
            f"{path} is damaged or no study ({problem}): take it out of the folder of studies"
        )
    place = path.parent.name, path.name.removesuffix(SUFFIX)
    if place != (study.stream, study.name):
        raise InputError(
            f"{path} is the study {study.key} under another name: move it back, or take it out "
            "of the folder of studies"
        )
    return study


def studies_in(folder: Location) -> list[Study]:
    """Every study of every stream under the folder of studies, in order of their keys.

    Raises InputError when a file there is damaged or no study.
    """
    found = files_in(folder, f"*/*{SUFFIX}")
    # The file of a study that is being published is there under its own name only.
    return sorted((read_study(path) for path in found), key=lambda study: study.key)


def picture(path: Location, item: int, *, whole: bool) -> bytes:
    """The encoded picture (JPEG) of one item: the whole photo with the face framed, or the crop.

    Reads the few items beside it and no more. Raises InputError for a damaged study, IndexError
    for an item that it doesn't have.
    """
    column = PICTURES[0 if whole else 1]
    try:
        with pq.ParquetFile(parquet_source(path), page_checksum_verification=True) as file:
            if not 0 <= item < file.metadata.num_rows:
                raise IndexError(f"{path} has no item {item}")
            group = file.read_row_group(
                item // _ROW_GROUP, columns=["item", column], use_threads=False
            )
        row = group["item"].to_pylist().index(item)
        data = group[column][row].as_py()
    except DAMAGED as error:
        raise InputError(
            f"picture {item} of {path} can't be read ({error}): the study is damaged, bring its "
            "file back or make a new study"
        ) from error
    assert isinstance(data, bytes)  # noqa: S101 - the schema says so
    return data


def order_for(study: Study, annotator: str) -> list[int]:
    """The items in the order in which an annotator sees them, always the same for one name.

    The second showing of a face comes at least `min(20, n // 4)` places after the first.
    """
    pairs = [
        (first, again)
        for again, first in enumerate(study.items["repeat_of"].to_pylist())
        if first is not None
    ]
    apart = min(_APART, len(study) // 4)
    return spread_order(len(study), pairs, apart, f"{study.sample}/{annotator}")


def _items_problem(items: pa.Table, classes: Sequence[str]) -> str | None:
    """Why these items make no study, or None."""
    if not items.num_rows:
        return "it has no item"
    if not np.array_equal(items["item"].to_numpy(), np.arange(items.num_rows)):
        return "its items aren't numbered from 0"
    unknown = set(items["expression"].to_pylist()) - set(classes)
    if unknown:
        return f"an item is labelled {min(map(str, unknown))!r}, which is no class of it"
    repeats = items["repeat_of"].to_pylist()
    faces = items["face_id"].to_pylist()
    firsts = [first for first in repeats if first is not None]
    if len(set(firsts)) < len(firsts):
        return "a face is shown more than twice"
    for again, first in enumerate(repeats):
        if first is not None and not (
            0 <= first < again and repeats[first] is None and faces[first] == faces[again]
        ):
            return f"item {again} repeats no earlier item of its face"
    return None


def _about(schema: pa.Schema) -> dict[str, Any]:
    stored = (schema.metadata or {}).get(_ABOUT)
    about = json.loads(stored) if stored is not None else None
    if not isinstance(about, dict):
        raise ValueError("it doesn't say of what it is the study")
    return about


def _study(about: dict[str, Any], items: pa.Table, path: Location) -> Study:
    known = {name: about[name] for name in Study.__dataclass_fields__ if name in about}
    if about["kind"] not in KINDS:
        raise ValueError(f"unknown kind {about['kind']!r}")
    return Study(**{**known, "classes": tuple(about["classes"])}, items=items, path=path)


def _write(
    path: Path, about: dict[str, Any], items: pa.Table, pictures: Iterator[tuple[bytes, bytes]]
) -> None:
    schema = _FILE_SCHEMA.with_metadata({_ABOUT: json.dumps(about, sort_keys=True)})
    with pq.ParquetWriter(
        path,
        schema,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    ) as writer:
        for start in range(0, items.num_rows, _ROW_GROUP):
            part = items.slice(start, _ROW_GROUP)
            shown = list(islice(pictures, part.num_rows))
            if len(shown) < part.num_rows:
                raise ValueError(f"{items.num_rows} items need as many pictures")
            for name, side in zip(PICTURES, zip(*shown, strict=True), strict=True):
                part = part.append_column(name, pa.array(side, pa.binary()))
            writer.write_table(part.cast(schema))


def _claim(made: Path, path: Location) -> None:
    """Give a finished file its name, unless another has it already."""
    try:
        if not isinstance(path, Path):
            path.fs.put_file(str(made), path.path, mode="create")
            return
        try:
            os.link(made, path)
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links: the name is claimed first, then filled.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            try:
                made.replace(path)
            except OSError:
                with contextlib.suppress(OSError):
                    path.unlink()
                raise
    except FileExistsError as error:
        raise StudyThereError(path) from error
