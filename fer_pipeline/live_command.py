"""The command `fer-pipeline live`: expressions as a camera sees them, or as a video plays.

Which frames are read is decided in `core/live.py`, where the answers go in `live_outputs.py`.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.errors import InputError
from fer_pipeline.options import Home, Json, Model
from fer_pipeline.terminal import print_json, say

if TYPE_CHECKING:
    from fer_pipeline.core.live import ReadsFaces
    from fer_pipeline.core.video import Video
    from fer_pipeline.live_outputs import Outputs

_console = Console(stderr=True)


def live(
    source: Annotated[
        str | None,
        typer.Argument(metavar="CAMERA|VIDEO", help="Number of a camera (0), or a video file."),
    ] = None,
    camera: Annotated[
        str | None, typer.Option(metavar="CAMERA|VIDEO", help="The same, as an option.")
    ] = None,
    model: Model = "starter",
    home: Home = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.mp4", help="Write the annotated video.")
    ] = None,
    jsonl: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write a JSON line for each frame; - is stdout."),
    ] = None,
    page: Annotated[bool, typer.Option("--page", help="Show it in the browser.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")] = 8602,
    every_frame: Annotated[
        bool, typer.Option("--every-frame", help="Read a file as fast as it goes, dropping none.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads that compute; default: one a core.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="End after so many seconds of the video.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Recognise expressions as a camera sees them, or as a video plays, until Ctrl-C.

    Frames are dropped rather than answered late. Probabilities are smoothed over half a second.
    """
    from fer_pipeline.live_outputs import opened_outputs

    if source is not None and camera is not None:
        raise InputError(f"{source} and --camera {camera} both say what is read: give one")
    chosen = next(one for one in (source, camera, "0") if one is not None)
    with ExitStack() as stack:
        video = stack.enter_context(_opened(chosen))
        if every_frame and video.camera:
            raise InputError(f"{video.name} can't wait: --every-frame is for a file")
        recogniser = _recogniser(model, home, threads)
        outputs = stack.enter_context(
            opened_outputs(video, model, out=out, jsonl=jsonl, port=port if page else None)
        )
        if outputs.address:
            say(_console, outputs.address, head="Live page")
        stop = stack.enter_context(stopping())
        found = _watch(video, recogniser, outputs, stop, every_frame=every_frame, end=seconds)
    written = out if found["frames"] else None
    found = {"source": chosen, "model": model, **found, "out": written, "jsonl": jsonl}
    _tell(found)
    if as_json:
        print_json(found)


def _watch(
    video: "Video",
    recogniser: "ReadsFaces",
    outputs: "Outputs",
    stop: threading.Event,
    *,
    every_frame: bool,
    end: float | None,
) -> dict[str, Any]:
    """Read the frames until they end or someone stops it; the figures, and why it broke off.

    Raises InputError where not one frame could be read.
    """
    from fer_pipeline.core.live import EveryFrame, Figures, NewestFrames, answers
    from fer_pipeline.core.tracks import FaceTracks

    frames = EveryFrame(video, stop) if every_frame else NewestFrames(video, stop)
    figures, tracks = Figures(), FaceTracks()
    problem = None
    with (
        closing(answers(frames, recogniser, tracks)) as stream,
        Live(console=_console, transient=True, auto_refresh=_console.is_terminal) as line,
    ):
        try:
            for answer in stream:
                if end is not None and answer.frame.seconds >= end:
                    break
                figures.add(answer)
                words = figures.line(answer, frames.dropped)
                line.update(Text(words))
                if not outputs.take(answer, words):
                    break
        except UnreadableError as error:
            problem = str(error)
    if problem is not None and not figures.frames:
        raise InputError(problem)
    return {
        **figures.to_dict(),
        "dropped": frames.dropped,
        "tracks": tracks.count,
        "problem": problem,
    }


def _opened(source: str) -> "Video":
    from fer_pipeline.core.video import open_camera, open_video

    return open_camera(int(source)) if source.isdecimal() else open_video(source)


def _recogniser(model: str, home: str | None, threads: int | None) -> "ReadsFaces":
    from fer_pipeline.recogniser import Recogniser

    if threads is not None:
        import cv2

        cv2.setNumThreads(threads)
    return Recogniser.load(model, threads=threads, home=home)


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that files are closed whole; a second one ends."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(found: dict[str, Any]) -> None:
    if found["problem"] is not None:
        say(_console, found["problem"], head="ended early:", style="yellow")
    if not found["frames"]:
        say(_console, "no frame was read")
        return
    say(
        _console,
        f"{found['frames']:,} frames, {found['dropped']:,} dropped, {found['fps']:.1f} a second; "
        f"answered after {found['latency_ms_p50']:.1f} ms (median), "
        f"{found['latency_ms_p95']:.1f} ms (95%)",
    )
    labels = ", ".join(f"{name} {count:,}" for name, count in found["labels"].items())
    tracks = f"{found['tracks']:,} track{'' if found['tracks'] == 1 else 's'}"
    say(_console, f"{found['faces']:,} faces in {tracks}{': ' if labels else ''}{labels}")
    for what in ("out", "jsonl"):
        if found[what] not in (None, "-"):
            say(_console, f"{found[what]}", head=f"{what}:")
