"""Pictures as cameras give them, 640x480 with one face: drawn, cut from real photos, and moving."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.photos import faces_of, photographed
from fer_pipeline.core.decode import UnreadableError, decode
from fer_pipeline.core.drawing import draw_photo
from fer_pipeline.core.labels import NAMES
from fer_pipeline.core.synthetic_files import encoded

WIDTH, HEIGHT = 640, 480
_QUALITY = 90
_WAY = 40
"""Pixels that the camera moves from frame to frame at most, to and fro."""

Image = npt.NDArray[np.uint8]


def drawn_photos(data: Path, count: int, tell: Callable[[str], None]) -> Path:
    """A folder of `count` drawn JPEGs; those of an earlier run are used again."""
    folder = data / f"camera-{count}"
    if folder.is_dir():
        return folder
    partial = _empty(data / f".{folder.name}.part")
    for number in range(count):
        tell(f"drawing photos: {number} of {count}")
        rng = np.random.default_rng([number, WIDTH])
        photo = draw_photo(rng, NAMES[number % 7], size=(WIDTH, HEIGHT))
        _write(partial, number, photographed(rng, photo.image))
    return partial.rename(folder)


def real_photos(data: Path, root: Path, most: int) -> Path:
    """A folder of up to `most` photos of a release with one listed face, cut to 640x480 around it.

    A photo is scaled so that it covers the frame; left out are those whose face doesn't fit in.
    """
    import cv2

    folder = _empty(data / "camera-real")
    known = faces_of(root, 100_000)
    faces = Counter(file for file, _ in known)
    single = [(file, box) for file, box in known if faces[file] == 1]
    written = 0
    for place in np.random.default_rng(0).permutation(len(single)):
        if written == most:
            break
        file, (x, y, width, height) = single[place]
        try:
            image = decode(Path(file).read_bytes())
        except UnreadableError:
            continue
        scale = max(WIDTH / image.shape[1], HEIGHT / image.shape[0])
        if max(width, height) * scale > HEIGHT:
            continue
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image = np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)
        left = _start((x + width / 2) * scale, WIDTH, size[0])
        top = _start((y + height / 2) * scale, HEIGHT, size[1])
        _write(folder, written, image[top : top + HEIGHT, left : left + WIDTH])
        written += 1
    return folder


def video(count: int) -> list[Image]:
    """`count` frames, uint8 (480, 640, 3) BGR, of one drawn face before a camera that moves."""
    rng = np.random.default_rng(WIDTH)
    photo = draw_photo(rng, "Happiness", size=(WIDTH + 2 * _WAY, HEIGHT + 2 * _WAY))
    frames = []
    for number in range(count):
        left = round(_WAY * (1 + np.sin(number / 9)))
        top = round(_WAY * (1 + np.cos(number / 7)))
        frame = photo.image[top : top + HEIGHT, left : left + WIDTH]
        frames.append(np.ascontiguousarray(photographed(rng, frame)[:, :, ::-1]))
    return frames


def _start(centre: float, frame: int, limit: int) -> int:
    """Where a frame begins that has `centre` in its middle, as far as the picture allows."""
    return int(np.clip(round(centre - frame / 2), 0, limit - frame))


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _write(folder: Path, number: int, image: Any) -> None:
    (folder / f"{number:04}.jpg").write_bytes(encoded(image, quality=_QUALITY))
