"""Who may ask: a token for everybody else, the names of this machine for its own browsers."""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_bearer = HTTPBearer(auto_error=False, description="The token that the service was started with.")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address or name that is listened on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def token_check(token: str) -> Callable[..., Awaitable[None]]:
    """A dependency of routes that answers 401 to those who don't send this token."""
    wanted = token.encode()

    async def check(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> None:
        # The bytes of the header as they came, which clients write in UTF-8.
        sent = b"" if given is None else given.credentials.encode("latin-1")
        if not hmac.compare_digest(sent, wanted):
            raise HTTPException(
                401,
                "send the service's token as `Authorization: Bearer TOKEN`",
                {"WWW-Authenticate": "Bearer"},
            )

    return check


class OwnBrowsers:
    """ASGI middleware for a service without a token: refuses what pages of other sites ask.

    A page of the open web whose name was made to point at this machine (DNS rebinding) is stopped
    by the name that it asks. One that posts to this machine's own name could read no answer, but
    keep the service busy and fill its disk.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        """Pass on to `app` what asks for one of these names, whatever the port."""
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan" or (_host(scope) in self._names and not _foreign(scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            known = ", ".join(sorted(self._names))
            reason = (
                "a page of another site asks" if _foreign(scope) else f"unknown host: ask {known}"
            )
            answer = JSONResponse({"detail": reason}, 400)
            await answer(scope, receive, send)


def _foreign(scope: Scope) -> bool:
    """Whether a browser says that a page of another site asks for more than to be led here."""
    said = Headers(scope=scope).get("sec-fetch-site", "")
    return said == "cross-site" and scope.get("method") == "POST"


def _host(scope: Scope) -> str | None:
    """The name in the Host header, lower case; None where there is none that can be read."""
    try:
        return urlsplit(f"//{Headers(scope=scope).get('host', '')}").hostname
    except ValueError:
        return None
