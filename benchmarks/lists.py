"""File lists like AffectNet's at any size: seeded, a kilobyte a row, without photos."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,"
    "facial_landmarks,expression,valence,arousal"
)
LISTS: Mapping[str, tuple[str, float, bool]] = {
    "manual_train": ("Manually_Annotated_file_lists/training.csv", 0.4321, True),
    "manual_val": ("Manually_Annotated_file_lists/validation.csv", 0.0057, False),
    "auto": ("Automatically_annotated_file_list/automatically_annotated.csv", 0.5622, True),
}
"""Each list's file, its share of the rows, and whether its first row is a header."""

_PHOTO_FOLDERS = (
    "Manually_Annotated_compressed/Manually_Annotated_Images",
    "Automatically_Annotated_compressed/Automatically_Annotated_Images",
)
_CODES = np.array(
    [0.18, 0.32, 0.06, 0.035, 0.015, 0.01, 0.06, 0.01, 0.08, 0.03, 0.2]
)  # neutral, happy, sad, surprise, fear, disgust, anger, contempt, none, uncertain, no face
_BLOCK = 10_000
_LANDMARKS = 136
_REPEATED = 0.01
_WITHOUT_BOX = 0.0002

Digits = npt.NDArray[np.uint8]


def prepared_lists(data: Path, rows: int, tell: Callable[[str], None]) -> Path:
    """The folder of lists of this many rows under `data`, written at the first call."""
    root = data / f"lists-{rows}"
    if not root.is_dir():
        tell(f"writing lists of {rows:,} rows")
        partial = root.with_name(f".{root.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        write_lists(partial, rows)
        partial.rename(root)
    return root


def write_lists(root: Path, rows: int, seed: int = 0) -> None:
    """Write the three lists of `rows` rows in all under `root`, and empty photo folders.

    One row in a hundred repeats an earlier face, half of those with another label; a few have a
    box of -1 or are all NULL.
    """
    for folder in _PHOTO_FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    done, shares = 0, 0.0
    for file, share, has_header in LISTS.values():
        shares += share
        left = round(rows * shares) - done
        done += left
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            if has_header:
                stream.write(f"{HEADER}\n".encode())
            while left:
                count = min(left, _BLOCK)
                _write_block(stream, count, generator)
                left -= count


def _write_block(stream: IO[bytes], count: int, generator: np.random.Generator) -> None:
    names = generator.integers(0, 256, (count, 28), dtype=np.uint8)
    folders = generator.integers(1, 1300, count)
    x, y = generator.integers(10, 90, (2, count))
    side = generator.integers(100, 400, count)
    code = generator.choice(len(_CODES), count, p=_CODES / _CODES.sum())
    for place in np.flatnonzero(generator.random(count) < _REPEATED):
        other = generator.integers(0, place + 1)
        for column in (names, folders, x, y, side):
            column[place] = column[other]
        if generator.random() < 0.5:
            code[place] = code[other]
    boxless = generator.random(count) < _WITHOUT_BOX
    affect = np.where((code > 7)[:, None], -2.0, generator.uniform(-1, 1, (count, 2)).round(6))
    landmarks = _landmarks(count, generator)
    for at in range(count):
        if boxless[at] and at % 2:
            stream.write(b"NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL\n")
            continue
        sides = (-1, -1, -1, -1) if boxless[at] else (x[at], y[at], side[at], side[at])
        box = ",".join(map(str, sides))
        stream.write(f"{folders[at]}/{names[at].tobytes().hex()}.jpg,{box},".encode())
        stream.write(landmarks[at])
        stream.write(f",{code[at]},{affect[at, 0]:g},{affect[at, 1]:g}\n".encode())


def _landmarks(count: int, generator: np.random.Generator) -> npt.NDArray[Any]:
    """68 points as AffectNet writes them, `123.45;` each number; shape (count,), bytes."""
    hundredths = generator.integers(10_000, 42_500, (count, _LANDMARKS), dtype=np.int32)
    text: Digits = np.full((count, _LANDMARKS, 7), ord(";"), np.uint8)
    for at, power in ((0, 10_000), (1, 1_000), (2, 100), (4, 10), (5, 1)):
        text[:, :, at] = hundredths // power % 10 + ord("0")
    text[:, :, 3] = ord(".")
    width = _LANDMARKS * 7 - 1
    flat = np.ascontiguousarray(text.reshape(count, -1)[:, :width])
    return flat.view(f"S{width}").ravel()
