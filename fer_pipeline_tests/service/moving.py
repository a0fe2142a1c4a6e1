"""Moving pictures of one drawn person for the tests of cameras and videos."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.drawing import draw_group

SIZE = (640, 480)
"""Width and height of the frames in pixels."""
FPS = 10
_PERSON = 27
_NOBODY = "nobody"


def drawn(expression: str) -> NDArray[np.uint8]:
    """The person with this expression, always the same picture: uint8 RGB (480, 640, 3)."""
    if expression == _NOBODY:
        return np.full((SIZE[1], SIZE[0], 3), 70, np.uint8)
    return draw_group(np.random.default_rng(_PERSON), (expression,), size=SIZE)[0]


def write_film(path: Path, scenes: Iterable[str], seconds: float = 1.0) -> Path:
    """A video that a browser plays (VP8 in WebM) with a scene for each expression."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"VP80"), FPS, (320, 240))
    for expression in scenes:
        frame = cv2.resize(drawn(expression)[:, :, ::-1], (320, 240), interpolation=cv2.INTER_AREA)
        for _ in range(round(seconds * FPS)):
            writer.write(frame)
    writer.release()
    return path


def write_camera(path: Path, frames: Iterable[NDArray[np.uint8]], repeats: int = 40) -> Path:
    """What Chromium's camera shows over and over: RGB frames as one JPEG after the other."""
    import cv2

    with path.open("wb") as file:
        for pixels in frames:
            _, jpeg = cv2.imencode(".jpg", pixels[:, :, ::-1])
            file.write(jpeg.tobytes() * repeats)
    return path
