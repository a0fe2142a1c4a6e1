"""How connections are served: uvicorn's settings, and the end of those that ask for nothing.

What is asked over them is answered in `app.py`; how the service starts and ends stands in
`serve_command.py`.
"""

import asyncio

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from fer_pipeline.service.limits import Limits

_SPARE_SECONDS = 5
_HEAD_BYTES = 64 * 1024


def server_config(app: ASGIApp, limits: Limits) -> uvicorn.Config:
    """How uvicorn serves the application within the limits."""

    class Connection(_Connection):
        seconds = limits.seconds

    return uvicorn.Config(
        app,
        # Its other parser takes heads of any length into memory, before anybody's token is seen.
        http=Connection,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=round(limits.seconds) + _SPARE_SECONDS,
        # Of each camera one frame is read and one waits: more would only be older.
        ws_max_size=limits.frame_bytes,
        ws_max_queue=2,
        # JPEG is compressed already.
        ws_per_message_deflate=False,
    )


class _Connection(H11Protocol):
    """Closes when the head of a request doesn't come to its end; uvicorn waits for ever."""

    seconds: float
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, and wait for its first request."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take what came; what belongs to no request that is under way isn't taken for long."""
        super().data_received(data)
        if self._asked:
            self._forget()
        elif self._patience is None:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of a connection."""
        self._forget()
        super().connection_lost(exc)

    @property
    def _asked(self) -> bool:
        """Whether a request is under way; the rest of one that was answered already is not."""
        answered = self.cycle is not None and self.cycle.response_complete
        return self.conn.their_state is not h11.IDLE and not answered

    def _await_head(self) -> None:
        self._patience = self.loop.call_later(self.seconds, self._end)

    def _end(self) -> None:
        self._patience = None
        if not self._asked:
            self.transport.abort()

    def _forget(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
