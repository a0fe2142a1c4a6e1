"""Many pictures and videos read side by side, in the order in which they were given.

What is read is listed in `recognition_inputs.py`, what is told of it in `recognition_table.py`;
one picture is the work of `recogniser.py`.
"""

import io
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.annotate import annotated
from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.decode import decode
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import publish_bytes
from fer_pipeline.core.read_ahead import local_files
from fer_pipeline.core.recogniser import Reading, Recogniser
from fer_pipeline.core.recognition_inputs import STDIN, Input, as_png
from fer_pipeline.core.recognition_table import Row, rows_of
from fer_pipeline.core.video import open_video, spaced

_TOGETHER = 8
"""Pictures that a thread reads before it tells of them."""
_FRAMES = 16
"""Frames of a video that are held at once."""
_LONGEST_JPEG = 65_500
"""The longest side of a JPEG, in pixels, that libjpeg writes."""


@dataclass(frozen=True)
class Work:
    """How inputs are read: `whole` as `Recogniser.read` has it, a frame `every` so many seconds
    of a video (0: each frame), copies with boxes below `annotate`, `stdin` what came there."""

    recogniser: Recogniser
    whole: bool | None = None
    every: float = 1.0
    annotate: Path | None = None
    stdin: bytes = b""

    def rows(self, inputs: Sequence[Input], stop: threading.Event) -> list[list[Row]]:
        """The rows of each input, at least one each; once `stop` is set, videos are cut short."""
        found: dict[str, list[Row]] = {}
        pictures = [one for one in inputs if not one.video]
        images = [self._stored(one) for one in pictures]
        readings = self.recogniser.read_many(images, whole=self.whole)
        for one, image, reading in zip(pictures, images, readings, strict=True):
            found[one.path] = rows_of(one.path, reading)
            if self.annotate is not None and isinstance(image, bytes) and reading.reason is None:
                pixels = decode(image, self.recogniser.bounds)
                write_picture(annotated(pixels, reading.faces), self.annotate / one.place)
        for one in inputs:
            if one.video:
                found[one.path] = self._video(one, stop)
        return [found[one.path] for one in inputs]

    def _stored(self, one: Input) -> bytes | Path:
        """Bytes where they are needed once more, for the copy, else the path."""
        if one.path == STDIN:
            return self.stdin
        path = Path(one.path)
        if self.annotate is None:
            return path
        (found,) = local_files([one.path], self.recogniser.bounds.max_file_bytes)
        return found if isinstance(found, bytes) else path

    def _video(self, one: Input, stop: threading.Event) -> list[Row]:
        """The rows of the frames that are read, and the reason where the video breaks off."""
        rows: list[Row] = []
        frames: list[tuple[float, NDArray[np.uint8]]] = []

        def read() -> None:
            readings = self.recogniser.read_many([pixels for _, pixels in frames], order="bgr")
            for (seconds, pixels), reading in zip(frames, readings, strict=True):
                rows.extend(rows_of(one.path, reading, seconds))
                if self.annotate is not None:
                    place = self.annotate / one.place / f"{seconds:010.3f}.jpg"
                    write_picture(annotated(pixels[:, :, ::-1], reading.faces), place)
            frames.clear()

        try:
            with open_video(one.path) as video:
                wanted = takewhile(lambda _: not stop.is_set(), video)
                for frame in spaced(wanted, self.every):
                    frames.append((frame.seconds, frame.pixels))
                    if len(frames) >= _FRAMES:
                        read()
            read()
        except (InputError, UnreadableError) as error:
            read()
            rows += rows_of(one.path, Reading((), None, None, str(error)))
        return rows


def recognise_all(
    work: Work, inputs: Sequence[Input], workers: int
) -> Iterator[tuple[Input, list[Row]]]:
    """Each input with its rows, in order, `workers` threads reading ahead of what is taken.

    When the caller goes away early, the threads end soon, in the middle of a video too.
    """
    stop = threading.Event()
    chunks = _chunks(inputs)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="recognise")
    ahead: deque[tuple[Sequence[Input], Future[list[list[Row]]]]] = deque()

    def ask() -> None:
        chunk = next(chunks, None)
        if chunk is not None:
            ahead.append((chunk, pool.submit(work.rows, chunk, stop)))

    try:
        for _ in range(workers + 1):
            ask()
        while ahead:
            chunk, future = ahead.popleft()
            rows = future.result()
            ask()
            yield from zip(chunk, rows, strict=True)
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def write_picture(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write uint8 RGB (height, width, 3) as JPEG or PNG, by the suffix of `path`.

    What is too long for JPEG becomes `NAME.png` beside it, see `as_png`.
    """
    import cv2

    if max(pixels.shape[:2]) > _LONGEST_JPEG:
        from PIL import Image

        # OpenCV's PNG has a bound too.
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        publish_bytes(as_png(path), buffer.getvalue())
        return
    kind = path.suffix.lower()
    options = [] if kind == ".png" else [cv2.IMWRITE_JPEG_QUALITY, 92]
    done, data = cv2.imencode(kind, pixels[:, :, ::-1], options)
    if not done:
        raise InputError(f"{path} can't be written: a picture of {pixels.shape} has no such format")
    publish_bytes(path, data.tobytes())


def _chunks(inputs: Sequence[Input]) -> Iterator[Sequence[Input]]:
    """Some pictures together, each video for itself."""
    chunk: list[Input] = []
    for one in inputs:
        if chunk and (one.video or len(chunk) >= _TOGETHER):
            yield chunk
            chunk = []
        if one.video:
            yield [one]
        else:
            chunk.append(one)
    if chunk:
        yield chunk
