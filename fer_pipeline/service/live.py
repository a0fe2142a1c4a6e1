"""Frames of a camera over a WebSocket: one picture in, its faces out, followed over the frames.

The other end is `page/server.js` and `page/camera.js`. A connection begins with a text message,
`{"token": "..."}`, since a page can't send headers; where the handshake has the token as
`Authorization: Bearer`, which a proxy may add, it may be any. The service answers with its bounds.
Then each binary message, a picture, gets one answer, in turn: a client that sends the next frame
only when the answer is there loses frames and never lags.
"""

import asyncio
import functools
import hmac
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.tracks import FaceTracks
from fer_pipeline.service.access import is_token
from fer_pipeline.service.bodies import Asked
from fer_pipeline.service.limits import Limits
from fer_pipeline.service.room import FullError, Room
from fer_pipeline.service.schemas import FrameAnswer
from fer_pipeline.service.work import Work

POLICY = 1008
TOO_LARGE = 1009
TRY_LATER = 1013
WANTS_TOKEN = 4401
RESTED = 4408
"""Why a connection is closed; `page/server.js` knows the last two."""

_GREETING_SECONDS = 10.0


class _EndError(Exception):
    """Why a connection is closed: a code, and one sentence of at most 123 bytes."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def live_routes(room: Room, token: str | None, limits: Limits) -> APIRouter:
    """The route `/live`; the application's state has the `Work` that reads."""
    router = APIRouter()
    under_way = 0

    @router.websocket("/live")
    async def live(socket: WebSocket) -> None:
        nonlocal under_way
        # Who went away may do so at any moment, also while it is told why it is to go.
        with suppress(WebSocketDisconnect):
            await socket.accept()
            try:
                await _greeted(socket, token)
                if under_way >= limits.cameras:
                    socket.app.state.work.metrics.refused.inc()
                    raise _EndError(TRY_LATER, f"{limits.cameras} cameras are watched already.")
                under_way += 1
                try:
                    await _follow(socket, room, limits)
                finally:
                    under_way -= 1
            except _EndError as end:
                await socket.close(end.code, f"{end}")

    return router


async def _greeted(socket: WebSocket, token: str | None) -> None:
    """Take the first message; ends where neither it nor the handshake has the token."""
    try:
        async with asyncio.timeout(_GREETING_SECONDS):
            message = await _received(socket)
    except TimeoutError as error:
        raise _EndError(POLICY, "The first message didn't come.") from error
    try:
        given = json.loads(message.get("text") or "")["token"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _EndError(POLICY, 'The first message is {"token": "..."}.') from error
    # JSON may hold halves of letters, which have no bytes.
    sent = given.encode(errors="replace") if isinstance(given, str) else b""
    if token is None or _knows(socket.headers, token):
        return
    if not hmac.compare_digest(sent, token.encode()):
        raise _EndError(WANTS_TOKEN, "That is not the token of this service.")


def _knows(headers: Mapping[str, str], token: str) -> bool:
    """Whether the handshake has the token: a proxy adds it for those who gave it a password."""
    scheme, _, sent = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and is_token(sent, token)


async def _follow(socket: WebSocket, room: Room, limits: Limits) -> None:
    bounds = {"frames_per_second": limits.frames_per_second, "frame_bytes": limits.frame_bytes}
    await socket.send_json(bounds)
    tracks = FaceTracks()
    work: Work = socket.app.state.work
    async for frame in _frames(socket, limits):
        start = time.perf_counter()
        ask = functools.partial(Asked, frame, whole=False, small=False)
        try:
            with room.enter() as place:
                async with asyncio.timeout(limits.seconds):
                    found = await work.read(ask, place)
        except TimeoutError as error:
            work.metrics.timed_out.inc()
            raise _EndError(TRY_LATER, "The server takes too long: try again later.") from error
        except FullError as error:
            work.metrics.refused.inc()
            raise _EndError(TRY_LATER, "The server is busy: try again in a moment.") from error
        except UnreadableError as error:
            await socket.send_json({"problem": f"The frame can't be read: {error}."})
            continue
        faces = tracks.update(found.reading.faces, start)
        milliseconds = 1000 * (time.perf_counter() - start)
        answer = FrameAnswer.of(found.reading, faces, milliseconds)
        await socket.send_text(answer.model_dump_json())


async def _frames(socket: WebSocket, limits: Limits) -> AsyncIterator[bytes]:
    """Frames as they come, no faster than is read."""
    due = 0.0
    while True:
        try:
            async with asyncio.timeout(limits.silence):
                frame = (await _received(socket)).get("bytes")
        except TimeoutError as error:
            raise _EndError(RESTED, f"No frame came for {limits.silence:g} seconds.") from error
        if not frame:
            raise _EndError(POLICY, "A frame is a binary message: the bytes of a picture.")
        if len(frame) > limits.frame_bytes:
            raise _EndError(TOO_LARGE, f"A frame of more than {limits.frame_bytes:,} bytes.")
        await asyncio.sleep(due - time.monotonic())
        due = time.monotonic() + 1 / limits.frames_per_second
        yield frame


async def _received(socket: WebSocket) -> Mapping[str, Any]:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005), message.get("reason"))
    return message
