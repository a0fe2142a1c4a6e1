"""A video that is sent in a form: straight into a temporary file, never whole into memory."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from fastapi import HTTPException, Request
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect

from fer_pipeline.service.limits import Limits
from fer_pipeline.service.multipart import Form

VIDEO = "video"
"""The form's field that holds it."""

_PIECE = 1 << 20
_LEAST_RATE = 64 * 1024
"""Bytes a second; whoever sends a byte now and then would keep a place for days."""
_FIELD_BYTES = 100


class Upload:
    """A video in a folder of its own, which only the service's user may look into."""

    def __init__(self) -> None:
        """Make the folder; whoever does must call `remove`. Raises HTTPException without room."""
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="fer-video-"))
        except OSError as error:
            raise _no_room(error) from error
        self.path = self._folder / VIDEO

    async def receive(
        self, request: Request, fields: Sequence[str], limits: Limits
    ) -> dict[str, str]:
        """Take the video and the other fields of a form.

        Returns the fields that are there. Raises HTTPException for all that is wrong with it.
        """
        most = limits.video_bytes
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if kind != b"multipart/form-data":
            raise HTTPException(415, "send a video as the field `video` of multipart/form-data")
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > most:
            raise _too_large(most)
        try:
            with self.path.open("wb") as file:
                form = _VideoForm(options.get(b"boundary", b""), (VIDEO, *fields), file.write)
                async for piece in _pieces(request, limits):
                    # The disk may be slow, and others wait for the loop.
                    await asyncio.to_thread(form.feed, piece)
                form.close()
        except ClientDisconnect as error:
            raise HTTPException(400, "the body ended before its end") from error
        except OSError as error:
            raise _no_room(error) from error
        if VIDEO not in form.parts or not self.path.stat().st_size:
            raise HTTPException(422, "the form has no field `video` with a video")
        return {name: _text(name, form.parts[name]) for name in fields if name in form.parts}

    def remove(self) -> None:
        """Remove the video and its folder."""
        shutil.rmtree(self._folder, ignore_errors=True)


class _VideoForm(Form):
    """Keeps the fields, and passes the video on."""

    def __init__(
        self, boundary: bytes, known: Sequence[str], write: Callable[[bytes], object]
    ) -> None:
        super().__init__(boundary, known)
        self._write = write

    def take(self, data: bytes, start: int, end: int) -> None:
        if self.field == VIDEO:
            self._write(data[start:end])
            return
        super().take(data, start, end)
        if len(self._content) > _FIELD_BYTES:
            raise HTTPException(422, f"{self.field} is longer than {_FIELD_BYTES} bytes")


async def _pieces(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """The body in pieces of about a mebibyte; all of it may take long, but not at any pace."""
    size, piece, began = 0, bytearray(), time.monotonic()
    chunks = aiter(request.stream())
    while True:
        try:
            left = began + limits.seconds + size / _LEAST_RATE - time.monotonic()
            async with asyncio.timeout(min(left, limits.seconds)):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            raise HTTPException(
                408, "the video comes too slowly, or not at all", {"Connection": "close"}
            ) from error
        if chunk is None:
            break
        size += len(chunk)
        if size > limits.video_bytes:
            raise _too_large(limits.video_bytes)
        piece += chunk
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise HTTPException(422, f"{name} is no text") from error


def _no_room(error: OSError) -> HTTPException:
    return HTTPException(507, f"the video can't be kept: {error.strerror}")


def _too_large(most: int) -> HTTPException:
    return HTTPException(413, f"a video of more than {most:,} bytes")
