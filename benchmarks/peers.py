"""Other packages that recognise expressions, asked through their own code.

The sides here run under the interpreter of another environment, see `accuracy` and `recognise`:
this module imports nothing but what stands in the standard library and, inside functions, what
these packages need themselves.
"""

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Figures

PACKAGES = ("fer", "facex")
_VERSIONS = """
import json
from importlib.metadata import PackageNotFoundError, version
found = {}
for package in %r:
    try:
        found[package] = version(package)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""
_SECONDS = 1.0
_BATCH = 64
_SIDE_OF_FER = 64
Box = Sequence[float]
"""Left, top, width, height in pixels."""


def versions(python: str) -> Mapping[str, str]:
    """The packages that an interpreter has, with their versions.

    Raises ValueError, with the reason, where it can't be run or has none of them.
    """
    order = [python, "-c", _VERSIONS % (PACKAGES,)]
    try:
        done = subprocess.run(order, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(f"{python} can't be run as Python: {error}") from error
    found: dict[str, str] = json.loads(done.stdout)
    if not found:
        raise ValueError(f"{python} has none of {', '.join(PACKAGES)}: install them there")
    return found


def fer_speed(folders: Mapping[str, str]) -> Figures:
    """Its network alone, and whole photos of each folder from their bytes with its detector."""
    import cv2
    import numpy as np
    from fer.fer import FER

    cv2.setNumThreads(1)
    recogniser = FER()
    faces = np.random.default_rng(0).uniform(-1, 1, (_BATCH, _SIDE_OF_FER, _SIDE_OF_FER))
    faces = faces.astype(np.float32)
    figures = {"network": rate_of(lambda: recogniser._classify_emotions(faces), _BATCH)}
    for name, folder in folders.items():
        data = [file.read_bytes() for file in sorted(Path(folder).iterdir())]

        def found(photo: bytes) -> bool:
            image = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
            return bool(recogniser.detect_emotions(image))

        figures |= photos_of(name, data, found)
    return figures


def rate_of(work: Callable[[], Any], count: int, seconds: float = _SECONDS) -> float:
    """How many things a second `work` does, which does `count` of them, after one warm-up."""
    work()
    done, started = 0, time.perf_counter()
    while (took := time.perf_counter() - started) < seconds:
        work()
        done += count
    return done / took


def photos_of(name: str, data: Sequence[bytes], found: Callable[[bytes], bool]) -> dict[str, float]:
    """Photos a second, and the share of them in which a face was found."""
    found(data[0])
    started = time.perf_counter()
    faces = sum(map(found, data))
    took = time.perf_counter() - started
    return {f"{name}_rate": len(data) / took, f"{name}_found": faces / len(data)}


def fer_faces(faces: str, out: str) -> Figures:
    """What it says of each listed face, without the ten pixels that it adds around any box."""
    import cv2
    from fer.fer import FER

    recogniser = FER(offsets=(0, 0))

    def label(file: str, box: Box | None) -> str | None:
        image: Any = cv2.imread(file)
        frame = (0, 0, image.shape[1], image.shape[0]) if box is None else square(box)
        said = recogniser.detect_emotions(image, [frame])
        return _most_probable(said[0]["emotions"]) if said else None

    return _answer(faces, out, label)


def facex_faces(faces: str, out: str) -> Figures:
    """What it says of each listed face, cut out of the grey photo as its `predict` does it."""
    import cv2
    import facex

    worker = facex.PoolManager(pool_size=1).get_worker("benchmark")

    def label(file: str, box: Box | None) -> str | None:
        image: Any = cv2.imread(file, cv2.IMREAD_GRAYSCALE)
        if box is not None:
            left, top, width, height = square(box)
            image = image[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
        return _most_probable(worker.detect_emotion(image)) if image.size else None

    return _answer(faces, out, label)


def square(box: Box) -> tuple[int, int, int, int]:
    """The square around the box's longer side, with the same centre, in pixels."""
    x, y, width, height = box
    side = max(width, height)
    left, top = x + (width - side) / 2, y + (height - side) / 2
    return round(left), round(top), round(side), round(side)


def _answer(faces: str, out: str, label: Callable[[str, Box | None], str | None]) -> Figures:
    """Leave the labels of all faces as JSON."""
    listed = json.loads(Path(faces).read_text())
    Path(out).write_text(json.dumps([label(file, box) for file, box in listed]))
    return {"faces": len(listed)}


def _most_probable(scores: Mapping[str, float]) -> str:
    return max(scores, key=lambda name: scores[name])
