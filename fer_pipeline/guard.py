"""ASGI middleware that refuses requests before an application sees them."""

from abc import ABC, abstractmethod

from starlette.types import ASGIApp, Receive, Scope, Send

_POLICY = 1008
"""Why a WebSocket is closed that was never let in."""


class Guard(ABC):
    """Passes on what has no problem, and answers the rest itself."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        problem = None if scope["type"] == "lifespan" else self.problem(scope)
        if problem is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY})
        else:
            await self.refusal(problem)(scope, receive, send)

    @abstractmethod
    def problem(self, scope: Scope) -> str | None:
        """What is wrong with a request, in words for who asked; None where nothing is."""

    @abstractmethod
    def refusal(self, problem: str) -> ASGIApp:
        """The answer to a request with a problem."""
