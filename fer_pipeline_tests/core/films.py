"""Short videos of drawn faces for the tests, written with OpenCV."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.drawing import draw_group

WIDTH, HEIGHT, RATE = 320, 240, 25.0
CODECS = {".mp4": "mp4v", ".avi": "MJPG"}


def drawn_frames(count: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> list[NDArray[np.uint8]]:
    """Frames, BGR, of a drawn face that moves to and fro; a red square marks the upper left."""
    image, _ = draw_group(np.random.default_rng(3), ("Happiness",), size=size)
    frames = []
    for number in range(count):
        frame = np.roll(image, round(8 * np.sin(number / 5)), axis=1)[:, :, ::-1].copy()
        frame[:40, :40] = (0, 0, 255)
        frames.append(frame)
    return frames


def write_film(path: Path, count: int = 50) -> Path:
    """A video of drawn frames, 25 a second."""
    import cv2

    codec = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, RATE, (WIDTH, HEIGHT))
    for frame in drawn_frames(count):
        writer.write(frame)
    writer.release()
    return path
