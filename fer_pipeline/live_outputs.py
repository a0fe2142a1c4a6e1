"""Where the answers of `fer-pipeline live` go: an annotated video, JSON lines, the page.

What an answer is stands in `core/live.py`; how the page is served in `live_page.py`.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.annotate import annotated
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import append_whole, full_disk_named
from fer_pipeline.core.live import Answer
from fer_pipeline.core.video import USUAL_RATE, Video
from fer_pipeline.core.video_writing import VideoWriter, writing_video

if TYPE_CHECKING:
    from fer_pipeline.live_page import LivePage

STDOUT = "-"
_DIGITS = 4


@dataclass
class Outputs:
    """What is written and shown of each answer; None where that isn't wanted."""

    video: VideoWriter | None = None
    lines: FileIO | None = None
    page: "LivePage | None" = None
    address: str | None = None
    """Where the page is."""

    def take(self, answer: Answer, words: str) -> bool:
        """Write and show an answer, `words` below it; False when nobody reads stdout any more."""
        if self.page is not None:
            self.page.say(words)
        watched = self.page is not None and self.page.watched
        if self.video is not None or watched:
            pixels = drawn(answer)
            if self.video is not None:
                self.video.add(pixels, answer.frame.seconds)
            if self.page is not None and watched:
                self.page.show(pixels)
        if self.lines is None:
            return True
        try:
            # One call for each line: what is there are whole lines, whenever this ends.
            append_whole(self.lines, json.dumps(described(answer)).encode() + b"\n")
        except BrokenPipeError:
            return False
        return True


@contextmanager
def opened_outputs(
    video: Video, model: str, *, out: Path | None, jsonl: str | None, port: int | None
) -> Iterator[Outputs]:
    """Outputs of the frames of `video`; files are whole when the block ends, however it does.

    Raises InputError for a place where nothing can be written and a port that is taken.
    """
    with ExitStack() as stack:
        outputs = Outputs()
        for place in (out, jsonl):
            if place not in (None, STDOUT) and _same_file(str(place), video.name):
                raise InputError(f"{place} is the video that is read: write to another file")
        if out is not None and jsonl is not None and _same_place(out, jsonl):
            raise InputError(f"--out and --jsonl both name {out}: write to two files")
        if out is not None:
            outputs.video = stack.enter_context(writing_video(out, video.fps or USUAL_RATE))
        if port is not None:
            from fer_pipeline.live_page import LivePage, serving

            outputs.page = LivePage(video.name, model)
            outputs.address = stack.enter_context(serving(outputs.page, port))
        if jsonl is not None:
            # At last: what an earlier one left there is gone then.
            outputs.lines = stack.enter_context(_opened_lines(jsonl))
        yield outputs


def drawn(answer: Answer) -> NDArray[np.uint8]:
    """The frame with its faces as they are smoothed: uint8 BGR, as `core.annotate` draws it."""
    import cv2

    image = np.asarray(cv2.cvtColor(answer.frame.pixels, cv2.COLOR_BGR2RGB), np.uint8)
    picture = annotated(image, [one.face for one in answer.faces])
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), np.uint8)


def described(answer: Answer) -> dict[str, Any]:
    """An answer as plain values for JSON; probabilities and labels are the smoothed ones."""
    return {
        "frame": answer.frame.number,
        "seconds": round(answer.frame.seconds, _DIGITS),
        "latency_ms": round(1000 * answer.latency, 1),
        "faces": [
            {
                "track": one.track,
                "box": [round(side, 1) for side in one.face.box],
                "score": None if one.face.score is None else round(one.face.score, _DIGITS),
                "status": one.face.status.value,
                "label": one.face.label,
                "probabilities": one.face.probabilities
                and {name: round(value, _DIGITS) for name, value in one.face.probabilities.items()},
            }
            for one in answer.faces
        ],
    }


@contextmanager
def _opened_lines(jsonl: str) -> Iterator[FileIO]:
    if jsonl == STDOUT:
        if sys.stdout is None:
            raise InputError("standard output is closed: give --jsonl a file")
        sys.stdout.flush()
        with os.fdopen(os.dup(1), "wb", buffering=0) as stream:
            yield stream
        return
    path = Path(jsonl)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb", buffering=0)
    except OSError as error:
        raise InputError(
            f"{jsonl} can't be written ({error.strerror}): give another place"
        ) from error
    with file, full_disk_named(path):
        yield file


def _same_place(one: Path, other: str) -> bool:
    """Whether both would be written as one file, which need not be there yet."""
    return other != STDOUT and one.resolve() == Path(other).resolve()


def _same_file(place: str, source: str) -> bool:
    return Path(place).exists() and Path(source).exists() and Path(place).samefile(source)
