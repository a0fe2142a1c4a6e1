"""Writing a video as MP4 (MPEG-4 Part 2), whole or not at all.

Frames may come at any time; how videos are read is in `video.py`.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import published, scratch_folder
from fer_pipeline.core.video import open_video

SUFFIX = ".mp4"
_CODEC = "mp4v"
_LONGEST_GAP = 10.0
"""Seconds that one frame stays at most, whatever the times of the frames are."""


class VideoWriter:
    """A video that is being written, with as many frames a second as it was begun with."""

    def __init__(self, path: Path, fps: float) -> None:
        """Write to `path`, which ends in .mp4; see `writing_video`."""
        self._path = path
        self._fps = fps
        self._writer: Any = None
        self._size: tuple[int, int] | None = None
        self._start = 0.0
        self._last: NDArray[np.uint8] | None = None
        self.frames = 0
        """Frames written so far, repeated ones among them."""

    def add(self, pixels: NDArray[np.uint8], seconds: float) -> None:
        """Add a frame, uint8 BGR (height, width, 3), at its time.

        A frame is repeated until the next one's time, so that the video is as long as what it
        shows; of frames that come faster than the video's rate some are left out.
        Raises ValueError for a frame of another size than the first.
        """
        size = (pixels.shape[1], pixels.shape[0])
        if self._writer is None:
            self._open(size)
            self._start = seconds
        if size != self._size:
            raise ValueError(f"a frame of {size} pixels in a video of {self._size}")
        wanted = round((seconds - self._start) * self._fps) + 1
        longest = round(_LONGEST_GAP * self._fps)
        if wanted - self.frames > longest:
            self._start += (wanted - self.frames - longest) / self._fps
            wanted = self.frames + longest
        while self.frames < wanted - 1:
            self._write(self._last)
        if self.frames < wanted:
            self._write(pixels)
        self._last = pixels

    def close(self) -> None:
        """Write what ends the file."""
        if self._writer is not None:
            self._writer.release()

    def _write(self, pixels: NDArray[np.uint8] | None) -> None:
        self._writer.write(pixels)
        self.frames += 1

    def _open(self, size: tuple[int, int]) -> None:
        import cv2

        codec = cv2.VideoWriter.fourcc(*_CODEC)
        self._writer = cv2.VideoWriter(str(self._path), cv2.CAP_FFMPEG, codec, self._fps, size)
        self._size = size
        if not self._writer.isOpened():
            raise InputError(
                f"no video of {size[0]}x{size[1]} pixels can be written: OpenCV has no encoder "
                "for it here"
            )


@contextmanager
def writing_video(path: Path, fps: float) -> Iterator[VideoWriter]:
    """A video that stands at `path`, in place of what was there, when the block succeeds.

    Without a frame nothing is written. Raises InputError for another suffix than .mp4, a place
    where nothing can be written, and a video that wasn't written whole.
    """
    if path.suffix.lower() != SUFFIX:
        raise InputError(f"{path} must end in {SUFFIX}: videos are written as MP4 only")
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a video")
    with ExitStack() as stack:
        # OpenCV chooses the container by the suffix, which the names of `published` don't have.
        try:
            folder = stack.enter_context(scratch_folder(path.parent))
        except OSError as error:
            raise InputError(
                f"{path} can't be written ({error.strerror}): give another place"
            ) from error
        file = folder / f"video{SUFFIX}"
        writer = VideoWriter(file, fps)
        try:
            yield writer
        finally:
            writer.close()
        if writer.frames:
            _check_whole(file, writer.frames, path)
            with published(path) as temporary:
                file.replace(temporary)


def _check_whole(file: Path, frames: int, path: Path) -> None:
    """OpenCV's writer is silent about a full disk: raise InputError where frames are missing."""
    try:
        with open_video(file) as video:
            found = video.frames or 0
    except InputError:
        found = 0
    if abs(found - frames) > 1:
        raise InputError(f"{path} can't be written whole: is there room left in its folder?")
