"""The page of `fer-pipeline live`: annotated frames as they come, on this machine's own address.

The frames are Motion JPEG, one picture after another in one answer, which browsers show without a
script. What is recognised, and when, is decided elsewhere.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.pages import render_page
from fer_pipeline.server_processes import check_free

if TYPE_CHECKING:
    from fastapi import FastAPI

HOST = "127.0.0.1"
"""A camera is shown to this machine only."""
_QUALITY = 85
_LOOK_UP = 0.01
"""Seconds after which a stream looks for a new frame."""
_START_SECONDS = 20
_END_SECONDS = 2


class LivePage:
    """What the page shows: the newest frame, and a line of figures."""

    def __init__(self, source: str, model: str) -> None:
        """Say on the page that `source` is read with `model`."""
        self._html = render_page("live.html.j2", source=source, model=model)
        self._watching = 0
        self._jpeg = b""
        self._number = 0
        self._line = ""
        self._ended = False

    @property
    def watched(self) -> bool:
        """Whether anyone looks; else there is no need to draw."""
        return self._watching > 0

    def show(self, pixels: NDArray[np.uint8]) -> None:
        """Show a frame, uint8 BGR (height, width, 3)."""
        import cv2

        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        self._jpeg, self._number = data.tobytes(), self._number + 1

    def say(self, line: str) -> None:
        """Show a line below the frame."""
        self._line = line

    def end(self) -> None:
        """End the streams of all who look."""
        self._ended = True

    def app(self) -> "FastAPI":
        """The page, its stream and its line as an ASGI application."""
        from fastapi import FastAPI
        from fastapi.responses import HTMLResponse, StreamingResponse
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        app = FastAPI(openapi_url=None)
        # Another site's page must not reach the camera under a name that it made lead here.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
        shut = {"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store"}

        @app.get("/")
        async def page() -> HTMLResponse:
            return HTMLResponse(self._html, headers=shut)

        @app.get("/state")
        async def state() -> dict[str, str]:
            return {"line": self._line}

        @app.get("/stream")
        async def stream() -> StreamingResponse:
            kind = "multipart/x-mixed-replace; boundary=frame"
            return StreamingResponse(self._parts(), media_type=kind, headers=shut)

        return app

    async def _parts(self) -> AsyncIterator[bytes]:
        self._watching += 1
        shown = 0
        try:
            yield b"--frame\r\n"
            while not self._ended:
                if self._number == shown:
                    await asyncio.sleep(_LOOK_UP)
                    continue
                shown, data = self._number, self._jpeg
                # A browser shows a picture when the line that ends it is there.
                length = f"{len(data)}".encode()
                yield (
                    b"Content-Type: image/jpeg\r\nContent-Length: " + length + b"\r\n\r\n"
                    + data + b"\r\n--frame\r\n"
                )  # fmt: skip
        finally:
            self._watching -= 1


@contextmanager
def serving(page: LivePage, port: int) -> Iterator[str]:
    """Serve the page while the block runs, and give its address.

    Raises InputError when the port is taken.
    """
    import uvicorn

    check_free(HOST, port, "another --port")
    config = uvicorn.Config(
        page.app(),
        host=HOST,
        port=port,
        log_level="error",
        lifespan="off",
        timeout_graceful_shutdown=_END_SECONDS,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="live page", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise InputError(f"the page didn't start on port {port}: give another --port")
            time.sleep(_LOOK_UP)
        yield f"http://{HOST}:{port}"
    finally:
        page.end()
        server.should_exit = True
        thread.join(2 * _END_SECONDS)
