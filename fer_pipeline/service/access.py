"""Who may ask: a token for everybody else, the names of this machine for its own browsers."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, HTTPException
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Scope

from fer_pipeline.guard import Guard
from fer_pipeline.origins import host_of, is_foreign

_bearer = HTTPBearer(auto_error=False, description="The token that the service was started with.")


def token_check(token: str) -> Callable[..., Awaitable[None]]:
    """A dependency of routes that answers 401 to those who don't send this token."""

    async def check(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> None:
        if not is_token(None if given is None else given.credentials, token):
            raise HTTPException(
                401,
                "send the service's token as `Authorization: Bearer TOKEN`",
                {"WWW-Authenticate": "Bearer"},
            )

    return check


def is_token(sent: str | None, token: str) -> bool:
    """Whether what stood in a header is this token."""
    # The bytes of the header as they came, which clients write in UTF-8.
    return hmac.compare_digest((sent or "").encode("latin-1"), token.encode())


class OwnBrowsers(Guard):
    """Refuses what pages of other sites ask.

    A page of the open web whose name was made to point at this machine (DNS rebinding) is stopped
    by the name that it asks, where `names` are known. One that posts to this service's own name
    could read no answer, but keep the service busy and fill its disk: with no token where none is
    wanted, and where a proxy sends it, with the password that the browser keeps for the proxy.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str] | None) -> None:
        """Pass on to `app` what asks for one of these names, whatever the port; None: for any."""
        super().__init__(app)
        self._names = names

    def refusal(self, problem: str) -> ASGIApp:
        """As the service answers errors."""
        return JSONResponse({"detail": problem}, 400)

    def problem(self, scope: Scope) -> str | None:
        """Whether another name is asked, or a page of another origin asks."""
        headers = Headers(scope=scope)
        # Pages of other sites may lead here, and show what anybody may see.
        if scope.get("method") not in ("GET", "HEAD") and is_foreign(headers):
            return "a page of another site asks"
        if self._names is not None and host_of(headers) not in self._names:
            return f"unknown host: ask {', '.join(sorted(self._names))}"
        return None
