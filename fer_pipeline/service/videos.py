"""Videos over HTTP: a file in, a line of JSON for each moment that is read, as soon as it is.

How the file comes is in `uploads.py`, how it is decoded in `core/video.py`. The first line tells of
the video, the last one how its reading ended.
"""

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, TypeVar

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.types import Message, Receive, Scope, Send

from fer_pipeline.core.bounds import Bounds, UnreadableError
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.tracks import FaceTracks
from fer_pipeline.core.video import Frame, Video, open_video
from fer_pipeline.service.limits import Limits
from fer_pipeline.service.schemas import (
    EndLine,
    FollowedFace,
    MomentLine,
    VideoEnd,
    VideoFacts,
    VideoLine,
)
from fer_pipeline.service.uploads import VIDEO, Upload
from fer_pipeline.service.work import Work

T = TypeVar("T")

EVERY = 0.5
"""Seconds between two readings, where nothing else is asked."""
LEAST, MOST = 0.1, 60.0

NDJSON = "application/x-ndjson"
_RETRY = {"Retry-After": "10"}
_TOO_LATE = 408
_CLOSE = 1e-6
_TURN = 0.5
"""Seconds after which a thread turns to others, though no moment was due yet."""
_PATIENCE = 2.5
"""Readings for which a face may be away before it counts as another one."""
_REMEDY = ": give the path of a video"
_FORM = {
    "type": "object",
    "properties": {
        VIDEO: {"type": "string", "format": "binary", "description": "A video's bytes."},
        "every": {
            "type": "string",
            "description": f"Seconds between two readings, {LEAST:g} to {MOST:g}; else {EVERY:g}.",
        },
    },
    "required": [VIDEO],
    "additionalProperties": False,
}
_BODY = {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}
LINES = {
    "description": "A line of JSON with `video`, one for each moment with `time` and `faces`, and "
    "one with `end`.",
    "content": {NDJSON: {"schema": {"type": "string"}}},
}
"""The answer, as OpenAPI describes it."""


def video_routes(limits: Limits, settings: Mapping[str, Any]) -> APIRouter:
    """The route `/video`, with these settings of FastAPI; the application's state has `Work`."""
    router = APIRouter()
    places = threading.BoundedSemaphore(limits.videos)

    @router.post("/video", openapi_extra={"requestBody": _BODY}, **settings)
    async def video(request: Request) -> StreamingResponse:
        """Find the faces of a video and tell their expressions, one moment after another."""
        work: Work = request.app.state.work
        if not places.acquire(blocking=False):
            work.metrics.refused.inc()
            count = "1 video is" if limits.videos == 1 else f"{limits.videos} videos are"
            raise HTTPException(503, f"{count} read already: ask again later", _RETRY)
        try:
            upload = Upload()
        except BaseException:
            places.release()
            raise
        reading = _Reading(work, limits, upload, places.release)
        try:
            first = await reading.begin(request)
        except BaseException as error:
            if isinstance(error, HTTPException) and error.status_code == _TOO_LATE:
                work.metrics.timed_out.inc()
            reading.end()
            raise
        return _Lines(first, reading, limits.seconds)

    return router


class _Reading:
    """One video that is read, in the threads of the service, a moment at a time."""

    def __init__(
        self, work: Work, limits: Limits, upload: Upload, then: Callable[[], None]
    ) -> None:
        """`then` is called when the video is gone."""
        self._work, self._limits = work, limits
        self._due, self._readings = 0.0, 0
        self._step: Future[Any] | None = None
        self._kept = ExitStack()
        self._kept.callback(then)
        self._upload = upload
        self._kept.callback(upload.remove)

    async def begin(self, request: Request) -> Sequence[BaseModel]:
        """Take the video, and read its first moment; raises HTTPException for what is none."""
        fields = await self._upload.receive(request, ("every",), self._limits)
        self._every = _seconds(fields.get("every"))
        # Only to tell who is who: each moment is read for itself.
        self._tracks = FaceTracks(smoothing=0.0, patience=_PATIENCE * self._every)
        return await self._do(self._opened)

    async def lines(self, first: Sequence[BaseModel]) -> AsyncIterator[str]:
        """All lines, of which the first are there."""
        for line in first:
            yield f"{line.model_dump_json()}\n"
        while not isinstance(line, EndLine):
            found = await self._do(self._next)
            if found is not None:
                line = found
                yield f"{line.model_dump_json()}\n"

    def end(self) -> None:
        """Remove the video, once no thread reads it any more."""
        if self._step is None:
            self._kept.close()
        else:
            self._step.add_done_callback(lambda _: self._kept.close())

    async def _do(self, step: Callable[[], T]) -> T:
        self._step = self._work.submit(step)
        return await asyncio.wrap_future(self._step)

    def _opened(self) -> Sequence[BaseModel]:
        video = self._open()
        self._frames = iter(video)
        first = self._next()
        if isinstance(first, EndLine):
            raise HTTPException(422, self._told(first.end.reason or "it holds no frame"))
        facts = VideoFacts(
            width=video.width, height=video.height, seconds=video.seconds, every=self._every
        )
        return [VideoLine(video=facts), *([] if first is None else [first])]

    def _open(self) -> Video:
        try:
            video = self._kept.enter_context(open_video(self._upload.path))
        except InputError as error:
            raise HTTPException(422, self._told(f"{error}")) from error
        most = self._limits.video_seconds
        if video.seconds is not None and video.seconds > most:
            raise HTTPException(
                413, f"a video of {video.seconds:,.0f} seconds, more than {most:g}: send a part"
            )
        pixels = self._limits.pixels
        if video.width * video.height > pixels:
            raise HTTPException(
                413, f"frames of {video.width}x{video.height} pixels, more than {pixels}"
            )
        video.bounds = Bounds(max_pixels=pixels)
        return video

    def _next(self) -> MomentLine | EndLine | None:
        """The next moment that is due; None where it is still to come, and others have a turn."""
        reason, end = None, time.monotonic() + _TURN
        try:
            for frame in self._frames:
                if frame.seconds + _CLOSE < self._due:
                    if time.monotonic() > end:
                        return None
                    continue
                if frame.seconds > self._limits.video_seconds:
                    reason = f"only the first {self._limits.video_seconds:g} seconds were read"
                    break
                # After a gap the next reading is as far off as ever, see `video.spaced`.
                self._due = self._every * ((frame.seconds + _CLOSE) // self._every + 1)
                return self._read(frame)
        except UnreadableError as error:
            reason = self._told(f"{error}")
        return EndLine(end=VideoEnd(readings=self._readings, reason=reason))

    def _read(self, frame: Frame) -> MomentLine:
        self._readings += 1
        found = self._work.recogniser.read(frame.pixels, order="bgr", small=False)
        self._work.metrics.batches.observe(len(found))
        self._work.metrics.count_faces(found[: self._limits.faces])
        tracked = self._tracks.update(found[: self._limits.faces], frame.seconds)
        return MomentLine(
            time=frame.seconds, faces=[FollowedFace.followed(face) for face in tracked]
        )

    def _told(self, reason: str) -> str:
        """A reason for who sent the file: where it stands here is nobody else's business."""
        return reason.replace(str(self._upload.path), "the file").removesuffix(_REMEDY)


class _Lines(StreamingResponse):
    """The lines as they come; the video goes with them, however they end."""

    def __init__(self, first: Sequence[BaseModel], reading: _Reading, seconds: float) -> None:
        # A proxy that collects the answer would hide how far it is.
        super().__init__(
            reading.lines(first), media_type=NDJSON, headers={"X-Accel-Buffering": "no"}
        )
        self._reading, self._seconds = reading, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            # Whoever takes nothing any more would keep the video and its place.
            async with asyncio.timeout(self._seconds):
                await send(message)

        try:
            await super().__call__(scope, receive, sent)
        except TimeoutError:
            # uvicorn breaks an answer off that doesn't come to its end.
            return
        finally:
            self._reading.end()


def _seconds(every: str | None) -> float:
    try:
        seconds = EVERY if every is None else float(every)
    except ValueError:
        seconds = math.nan
    if not LEAST <= seconds <= MOST:
        raise HTTPException(422, f"every: give seconds from {LEAST:g} to {MOST:g}")
    return seconds
