"""The traps of a real release, laid on purpose: damaged photos, bad boxes, odd and repeated rows.

Traps come on top of the ordinary photos, so a reader that survives them loses none of those.
"""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.drawing import draw_group
from fer_pipeline.core.labels import CODES
from fer_pipeline.core.synthetic_files import (
    AUTO,
    LIST_FILES,
    TRAIN,
    VALIDATION,
    PhotoFolder,
    Row,
    encoded,
    feelings,
)

Lists = dict[str, list[Row]]
"""Rows by list."""

_HTML = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>gone</body></html>\n"
_NULLS = ",".join(["NULL"] * 9)
_EXPRESSIONS = ("Happiness", "Neutral", "Sadness", "Surprise", "Anger")


def odd_photos(
    rng: np.random.Generator,
    folder: PhotoFolder,
    copies: int,
) -> tuple[Lists, dict[str, str]]:
    """Rows whose photo or box is a trap, and the path of each trap.

    Kinds that are readable but rarer in a release (extensions, CMYK) come `copies` times.
    """
    rows: Lists = {TRAIN: [], VALIDATION: [], AUTO: []}
    traps: dict[str, str] = {}
    made = 0

    def add(
        trap: str,
        list_name: str,
        extension: str,
        encode: Callable[[NDArray[np.uint8]], bytes | None],
    ) -> None:
        nonlocal made
        expression = _EXPRESSIONS[made % len(_EXPRESSIONS)]
        made += 1
        image, (face,) = draw_group(rng, (expression,))
        path = folder.new_path(rng, extension)
        data = encode(image)
        if data is not None:
            folder.write(list_name, path, data)
        row = Row(path, face.box, face.landmarks, CODES[expression], *feelings(rng, expression))
        rows[list_name].append(row)
        traps.setdefault(trap, path)

    add("zero_byte", TRAIN, ".jpg", lambda _: b"")
    add("missing", TRAIN, ".jpg", lambda _: None)
    add("truncated", TRAIN, ".jpg", lambda image: (data := encoded(image))[: len(data) // 3])
    add("html", AUTO, ".jpg", lambda _: _HTML)
    add("png_named_jpg", AUTO, ".jpg", lambda image: encoded(image, ".png"))
    for _ in range(copies):
        add("jpg_upper_case", TRAIN, ".JPG", encoded)
        add("bmp", TRAIN, ".bmp", lambda image: encoded(image, ".bmp"))
        add("tif", AUTO, ".tif", lambda image: encoded(image, ".tif"))
        add("cmyk", TRAIN, ".jpg", _cmyk)
    add("box_minus_one", TRAIN, ".jpg", encoded)
    rows[TRAIN][-1] = replace(rows[TRAIN][-1], box=(-1, -1, -1, -1))
    add("negative_width", TRAIN, ".jpg", encoded)
    left, top, width, height = rows[TRAIN][-1].box
    rows[TRAIN][-1] = replace(rows[TRAIN][-1], box=(left, top, -width, height))
    add("box_outside", AUTO, ".jpg", encoded)
    rows[AUTO][-1] = replace(rows[AUTO][-1], box=(900, 700, width, height))

    rows[TRAIN].append(_cut_off(rng, folder))
    traps["box_partly_outside"] = rows[TRAIN][-1].path
    rows[TRAIN] += _two_faces(rng, folder)
    traps["two_faces"] = rows[TRAIN][-1].path
    return rows, traps


def _cmyk(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).convert("CMYK").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _cut_off(
    rng: np.random.Generator,
    folder: PhotoFolder,
) -> Row:
    """A photo that was cropped after its face had been listed: the box starts left of it."""
    image, (face,) = draw_group(rng, ("Neutral",), size=(320, 320))
    left, top, width, height = face.box
    cut = left + width // 4
    path = folder.new_path(rng)
    folder.write(TRAIN, path, encoded(np.ascontiguousarray(image[:, cut:])))
    points = face.landmarks - np.array((cut, 0), np.float32)
    return Row(
        path, (left - cut, top, width, height), points, CODES["Neutral"], *feelings(rng, "Neutral")
    )


def _two_faces(
    rng: np.random.Generator,
    folder: PhotoFolder,
) -> list[Row]:
    expressions = ("Happiness", "Surprise")
    image, faces = draw_group(rng, expressions, size=(480, 300))
    path = folder.new_path(rng)
    folder.write(TRAIN, path, encoded(image))
    return [
        Row(path, face.box, face.landmarks, CODES[expression], *feelings(rng, expression))
        for face, expression in zip(faces, expressions, strict=True)
    ]


def odd_rows(
    rng: np.random.Generator, folder: PhotoFolder, rows: Lists, copies: int
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """More lines for each list that repeat or contradict `rows`, or cannot be read; and the traps.

    `rows` are the ordinary rows. Repeats and contradictions come `copies` times each.
    """
    lines: dict[str, list[str]] = {TRAIN: [], VALIDATION: [], AUTO: []}
    traps: dict[str, str] = {}
    # Dealt by position, not by label: shuffled labels must leave the photos as they are.
    order = [rows[TRAIN][i] for i in rng.permutation(len(rows[TRAIN]))]
    seen = [rows[VALIDATION][i] for i in rng.permutation(len(rows[VALIDATION]))]
    # The two largest classes can spare the rows that a contradiction makes useless.
    picked = [row for row in order if row.expression in (CODES["Neutral"], CODES["Happiness"])]
    for _ in range(copies):
        row = picked.pop()
        lines[TRAIN] += [row.line()] * 2
        traps.setdefault("repeated_row", row.path)
        row = picked.pop()
        other = "Sadness" if row.expression == CODES["Happiness"] else "Anger"
        lines[TRAIN].append(replace(row, expression=CODES[other]).line())
        traps.setdefault("two_labels", row.path)
        row = seen.pop()
        lines[TRAIN].append(row.line())
        traps.setdefault("photo_in_both_lists", row.path)
        row = seen.pop()
        path = folder.new_path(rng)
        folder.write(TRAIN, path, folder.file(VALIDATION, row.path).read_bytes())
        lines[TRAIN].append(replace(row, path=path).line())
        traps.setdefault("copy_in_both_lists", path)

    row = order[0]
    fields = row.line().split(",")
    # The photo exists where this path leads, so only a check of the path can stop it.
    (folder.root / "outside.jpg").write_bytes(folder.file(TRAIN, row.path).read_bytes())
    folder.written += 1
    unreadable = {
        "unsafe_path": (TRAIN, ["../../outside.jpg", *fields[1:]]),
        "too_few_fields": (TRAIN, fields[:5]),
        "unparsable_number": (AUTO, [fields[0], "12px", *fields[2:]]),
        "unknown_code": (TRAIN, [*fields[:6], "11", *fields[7:]]),
        "null_row": (TRAIN, _NULLS.split(",")),
    }
    for trap, (list_name, values) in unreadable.items():
        lines[list_name].append(",".join(values))
        traps[trap] = f"{values[0]} in {LIST_FILES[list_name]}"
    traps["not_expressions"] = (
        "codes 8 to 10, valence and arousal -2, in the training and automatic lists"
    )
    traps["no_header"] = LIST_FILES[VALIDATION]
    traps["blank_last_line"] = LIST_FILES[TRAIN]
    traps["byte_order_mark_and_crlf"] = LIST_FILES[AUTO]
    return lines, traps
