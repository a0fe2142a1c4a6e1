"""A line of the log for each request; what is counted of them stands in `metrics.py`.

Where nobody asked for a log of level info there are none, and they cost nothing.
"""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger(__name__)

_LONGEST_PATH = 200
_ACCEPTED, _REFUSED, _FAILED = 101, 403, 500


class LogRequests:
    """ASGI middleware: logs method, path, status and milliseconds of what is answered.

    Never what was sent, neither header nor query nor body: they hold tokens and pictures. Nor who
    asked: behind a proxy that is the proxy, whose log says it.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Log what `app` answers."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; a connection of a camera is one, told when it ends."""
        if scope["type"] == "lifespan" or not _log.isEnabledFor(logging.INFO):
            await self._app(scope, receive, send)
            return
        status, start = _FAILED, time.perf_counter()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "websocket.accept":
                status = _ACCEPTED
            elif message["type"] == "websocket.close" and status == _FAILED:
                status = _REFUSED
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            _tell(scope, status, time.perf_counter() - start)


def _tell(scope: Scope, status: int, seconds: float) -> None:
    method, path = scope.get("method", "GET"), scope["path"][:_LONGEST_PATH]
    level = logging.WARNING if status >= _FAILED else logging.INFO
    if path == "/health" and level == logging.INFO:
        # Asked every few seconds, for as long as the service lives.
        level = logging.DEBUG
    fields = {"method": method, "path": path, "status": status, "ms": round(seconds * 1000, 1)}
    _log.log(level, "%s %s %d", method, path, status, extra=fields)
