"""Dagster's web server, for its own pages only; its log in FER_LOG_FORMAT.

Dagster itself answers to any name and to any page, and does what a query asks however it comes: a
picture in a page of the web, whose address is a query to this machine, would start runs and delete
assets. A page whose own name was made to point at this machine would be of one origin with
Dagster's, and is refused by that name: FER_WEB_HOSTS lists those that are answered to, `*` any.
"""

import os

from dagster_webserver import app, cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Scope

from fer_pipeline.guard import Guard
from fer_pipeline.logs import write_log_of_environment
from fer_pipeline.origins import LOOPBACK_NAMES, host_of, is_foreign

HOSTS = "FER_WEB_HOSTS"
ANY = "*"


class OwnPagesOnly(Guard):
    """Refuses other names, and what pages of other origins ask for."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        """Pass on to `app` what asks for one of these names, whatever the port."""
        super().__init__(app)
        self._names = names

    def refusal(self, problem: str) -> ASGIApp:
        """One line of text."""
        return PlainTextResponse(f"{problem}\n", 400)

    def problem(self, scope: Scope) -> str | None:
        """Whether another name is asked, or a page of another origin asks."""
        headers = Headers(scope=scope)
        if not (ANY in self._names or host_of(headers) in self._names):
            return f"Unknown host: ask {', '.join(sorted(self._names))}, or list it in {HOSTS}."
        queried = scope["type"] == "websocket" or scope["path"].rstrip("/").endswith("/graphql")
        reads = scope.get("method") in ("GET", "HEAD")
        if is_foreign(headers) and (queried or not reads):
            return "A page of another site asks."
        if queried and reads and "text/html" not in headers.get("accept", ""):
            # Of pictures of a page, browsers don't say where they stand unless there is TLS.
            return "Send queries with POST."
        return None


class _OwnWebserver(DagsterWebserver):  # type: ignore[type-arg]
    def build_middleware(self) -> list[Middleware]:
        """Dagster's own, behind one that refuses what isn't asked by its pages."""
        listed = os.environ.get(HOSTS, "").split(",")
        names = frozenset(name.strip().lower() for name in listed if name.strip())
        own = Middleware(OwnPagesOnly, names=names or LOOPBACK_NAMES)
        return [own, *super().build_middleware()]


def main() -> None:
    """Run `dagster-webserver` with the options of this process."""
    write_log_of_environment()
    app.DagsterWebserver = _OwnWebserver  # type: ignore[attr-defined]
    cli.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
