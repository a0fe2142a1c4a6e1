"""Rows and photo files of a release being written: names, encodings and list formats.

What is written and which traps it holds is decided in `synthetic` and `synthetic_traps`.
"""

import codecs
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.drawing import Box

TRAIN, VALIDATION, AUTO = "manual_train", "manual_val", "auto"
"""The three lists, named as in the index."""

LIST_FILES = {
    TRAIN: "Manually_Annotated_file_lists/training.csv",
    VALIDATION: "Manually_Annotated_file_lists/validation.csv",
    AUTO: "Automatically_annotated_file_list/automatically_annotated.csv",
}
_MANUAL_PHOTOS = "Manually_Annotated_compressed/Manually_Annotated_Images"
PHOTO_ROOTS = {
    TRAIN: _MANUAL_PHOTOS,
    VALIDATION: _MANUAL_PHOTOS,
    AUTO: "Automatically_Annotated_compressed/Automatically_Annotated_Images",
}
_HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,"
    "expression,valence,arousal"
)
_SUBFOLDERS = 12
_FEELINGS: Mapping[str, tuple[float, float]] = {
    "Neutral": (0.0, 0.0), "Happiness": (0.66, 0.12), "Sadness": (-0.63, -0.25),
    "Surprise": (0.17, 0.72), "Fear": (-0.2, 0.76), "Disgust": (-0.66, 0.48),
    "Anger": (-0.5, 0.6), "Contempt": (-0.5, 0.55),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One row of a list: a face with its label. `landmarks` is (68, 2) float32, pixels."""

    path: str
    box: Box
    landmarks: NDArray[np.float32]
    expression: int
    valence: float
    arousal: float

    def line(self) -> str:
        """The row as text, without a line end."""
        points = ";".join(f"{value:.2f}" for value in self.landmarks.ravel().tolist())
        feelings = (f"{value:.6g}" for value in (self.valence, self.arousal))
        return ",".join([self.path, *map(str, self.box), points, str(self.expression), *feelings])


class PhotoFolder:
    """The photo roots of a release: names new photos, writes them and counts the files."""

    def __init__(self, root: Path) -> None:
        """Write below `root`."""
        self.root = root
        self.written = 0

    def new_path(self, rng: np.random.Generator, extension: str = ".jpg") -> str:
        """A path as AffectNet gives it: a numbered folder and 56 hexadecimal digits."""
        return f"{rng.integers(1, _SUBFOLDERS + 1)}/{rng.bytes(28).hex()}{extension}"

    def file(self, list_name: str, path: str) -> Path:
        """The file of a row's path."""
        return self.root / PHOTO_ROOTS[list_name] / path

    def write(self, list_name: str, path: str, data: bytes) -> None:
        """Write one photo."""
        file = self.file(list_name, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        self.written += 1


def encoded(image: NDArray[np.uint8], extension: str = ".jpg", *, quality: int = 90) -> bytes:
    """An RGB photo, (height, width, 3) uint8, as the bytes of a .jpg, .png, .bmp or .tif file."""
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if extension == ".jpg" else []
    _, data = cv2.imencode(extension, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return bytes(data)


def write_list(root: Path, list_name: str, lines: list[str]) -> None:
    """Write one list with the oddities of its original.

    The validation list has no header, the training list ends with a blank line, the automatic
    list starts with a byte order mark and ends its lines with CRLF.
    """
    file = root / LIST_FILES[list_name]
    file.parent.mkdir(parents=True, exist_ok=True)
    text = lines if list_name == VALIDATION else [_HEADER, *lines]
    end = "\r\n" if list_name == AUTO else "\n"
    data = "".join(line + end for line in text)
    if list_name == TRAIN:
        data += end
    start = codecs.BOM_UTF8 if list_name == AUTO else b""
    file.write_bytes(start + data.encode())


def feelings(rng: np.random.Generator, expression: str) -> tuple[float, float]:
    """Valence and arousal, each -1 to 1; -2 where the code names no expression."""
    if expression not in _FEELINGS:
        return -2.0, -2.0
    valence, arousal = np.clip(rng.normal(_FEELINGS[expression], 0.12), -1, 1).tolist()
    return valence, arousal
