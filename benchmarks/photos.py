"""Photos to measure on, drawn at the first call and kept: AffectNet releases of portraits.

A drawing is used for ten photos, each with its own frame, side, noise, light and JPEG quality.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.drawing import draw_photo
from fer_pipeline.core.labels import CODES
from fer_pipeline.core.synthetic_files import (
    LIST_FILES,
    PHOTO_ROOTS,
    TRAIN,
    VALIDATION,
    PhotoFolder,
    Row,
    encoded,
    feelings,
    write_list,
)

Image = npt.NDArray[np.uint8]
Face = tuple[str, tuple[float, float, float, float]]
"""A photo's file and the listed box: left, top, width, height in pixels."""

_VARIANTS = 10
_SIDE = 425
_NOISE = 4.0
_EXPRESSIONS = ("Neutral", "Happiness", "Sadness", "Surprise", "Anger")


def release(data: Path, photos: int, kind: str, tell: Callable[[str], None]) -> Path:
    """A release of `photos` photos with one face each; kinds `portrait` and `large`.

    Portraits are about 425 pixels with boxes of 250 to 350, large photos 1800 to 3200.
    """
    root = data / f"{kind}-{photos}"
    if root.is_dir():
        return root
    partial = root.with_name(f".{root.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    lines: dict[str, list[str]] = {TRAIN: [], VALIDATION: []}
    bases = range(-(-photos // _VARIANTS))
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        counts = [min(_VARIANTS, photos - base * _VARIANTS) for base in bases]
        work = [(str(partial), kind, base, counts[base]) for base in bases]
        for done, found in enumerate(pool.map(_draw, work, chunksize=4), start=1):
            for name, of_list in lines.items():
                of_list += found[name]
            tell(f"drawing photos: {min(done * _VARIANTS, photos):,} of {photos:,}")
    for name, of_list in lines.items():
        write_list(partial, name, of_list)
    partial.rename(root)
    return root


def linked(data: Path, source: Path, photos: int, tell: Callable[[str], None]) -> Path:
    """A release of `photos` photos whose files are those of `source` under other names."""
    root = data / f"linked-{photos}"
    if root.is_dir():
        return root
    partial = root.with_name(f".{root.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    tell(f"linking {photos:,} photos")
    known = [(name, line) for name in (VALIDATION, TRAIN) for line in _rows_of(source, name)]
    lines: dict[str, list[str]] = {VALIDATION: [], TRAIN: []}
    for number in range(photos):
        # Evenly over the lists where only a part of the photos is wanted.
        place = number * len(known) // photos if photos < len(known) else number % len(known)
        name, line = known[place]
        path, _, rest = line.partition(",")
        new, folder = f"{number // len(known)}-{path}", Path(PHOTO_ROOTS[name])
        (partial / folder / new).parent.mkdir(parents=True, exist_ok=True)
        (partial / folder / new).hardlink_to(source / folder / path)
        lines[name].append(f"{new},{rest}")
    for name, of_list in lines.items():
        write_list(partial, name, of_list)
    partial.rename(root)
    return root


def faces_of(root: Path, most: int) -> list[Face]:
    """Up to `most` listed faces of a release whose photos are there, evenly over its lists."""
    files = {path.name: path for path in root.rglob("*") if path.is_file()}
    faces: list[Face] = []
    for batch in open_dataset("affectnet", root).batches():
        for row in batch.kept.to_pylist():
            box = tuple(row[side] for side in ("face_x", "face_y", "face_width", "face_height"))
            file = files.get(Path(row["image_path"]).name)
            if file is not None and None not in box and min(box[2:]) > 0 and file.stat().st_size:
                faces.append((str(file), box))
    chosen = np.linspace(0, len(faces) - 1, min(most, len(faces))).astype(int)
    return [faces[place] for place in chosen]


def write_faces(path: Path, faces: Sequence[Face]) -> str:
    """Leave faces in a file for the sides, whose arguments stay short."""
    path.write_text(json.dumps(faces))
    return str(path)


def read_faces(path: str) -> list[Face]:
    """What `write_faces` left."""
    return [(file, tuple(box)) for file, box in json.loads(Path(path).read_text())]


def photographed(rng: Any, image: Image) -> Image:
    """Noise and light of its own, so that a JPEG has as much to say as that of a camera."""
    height, width = image.shape[:2]
    tile = _noise()
    turned = np.roll(tile, rng.integers(0, len(tile), 2).tolist(), axis=(0, 1))
    times = (-(-height // len(tile)), -(-width // len(tile)), 1)
    noise = np.tile(turned, times)[:height, :width]
    return np.asarray(np.clip(image + noise + rng.uniform(-12, 12), 0, 255), np.uint8)


def _rows_of(root: Path, name: str) -> list[str]:
    lines = (root / LIST_FILES[name]).read_text().split("\n")
    return [line for line in lines if line and not line.startswith("subDirectory")]


def _draw(work: tuple[str, str, int, int]) -> dict[str, list[str]]:
    """Draw one base and its photos, the first of them for validation; give each list's lines."""
    import cv2

    cv2.setNumThreads(1)
    root, kind, base, count = work
    rng = np.random.default_rng([base, len(kind)])
    expression = _EXPRESSIONS[base % len(_EXPRESSIONS)]
    drawn = draw_photo(rng, expression, size=(_SIDE, _SIDE))
    folder = PhotoFolder(Path(root))
    if drawn.box is None or drawn.landmarks is None:
        raise ValueError(f"{expression} was drawn without a face")
    lines: dict[str, list[str]] = {TRAIN: [], VALIDATION: []}
    for number in range(count):
        image, box, points = (_portrait if kind == "portrait" else _large)(
            rng, drawn.image, drawn.box, drawn.landmarks
        )
        image = photographed(rng, image)
        if rng.random() < 0.5:
            width = image.shape[1]
            image = np.ascontiguousarray(image[:, ::-1])
            box = (width - box[0] - box[2], *box[1:])
            points = points * (-1, 1) + (width, 0)
        path, list_name = folder.new_path(rng), TRAIN if number else VALIDATION
        folder.write(list_name, path, encoded(image, quality=int(rng.integers(80, 96))))
        row = Row(path, box, points, CODES[expression], *feelings(rng, expression))
        lines[list_name].append(row.line())
    return lines


def _portrait(rng: Any, image: Image, box: Any, points: Any) -> tuple[Image, Any, Any]:
    """A frame of about 425 pixels around a face of 250 to 350."""
    import cv2

    scale = rng.uniform(250, 350) / max(box[2:])
    large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    left, top, width, height = (round(side * scale) for side in box)
    high, wide = large.shape[:2]
    frame = [min(round(_SIDE * rng.uniform(0.9, 1.1)), limit) for limit in (wide, high)]
    x = _start(rng, left, width, frame[0], wide)
    y = _start(rng, top, height, frame[1], high)
    cut = np.asarray(large[y : y + frame[1], x : x + frame[0]], np.uint8)
    return cut, (left - x, top - y, width, height), points * scale - (x, y)


def _start(rng: Any, start: int, length: int, frame: int, limit: int) -> int:
    """Where a frame begins that lies in the picture and holds the face."""
    low, high = max(0, start + length - frame), min(start, limit - frame)
    return int(rng.integers(low, high + 1)) if low < high else max(0, min(low, high))


def _large(rng: Any, image: Image, box: Any, points: Any) -> tuple[Image, Any, Any]:
    """The whole drawing at 1800 to 3200 pixels."""
    import cv2

    scale = rng.uniform(1800, 3200) / _SIDE
    large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, np.uint8), tuple(round(side * scale) for side in box), points * scale


@cache
def _noise() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, _NOISE, (256, 256, 3)).astype(np.float32)
