"""Dagster's web server, answering only to the names in FER_WEB_HOSTS; its log in FER_LOG_FORMAT.

A page of another site can have its own name resolve to this machine and would then be of one origin
with Dagster's pages, which launch runs. Dagster itself answers to any name.
"""

import os

from dagster_webserver import app, cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from fer_pipeline.logs import write_log_of_environment

_LOOPBACK = "localhost,127.0.0.1"


class _OwnNamesOnly(DagsterWebserver):  # type: ignore[type-arg]
    def build_middleware(self) -> list[Middleware]:
        """Dagster's own, behind one that refuses other names in the header Host with 400."""
        names = os.environ.get("FER_WEB_HOSTS") or _LOOPBACK
        hosts = [name.strip() for name in names.split(",") if name.strip()]
        return [Middleware(TrustedHostMiddleware, allowed_hosts=hosts), *super().build_middleware()]


def main() -> None:
    """Run `dagster-webserver` with the options of this process."""
    write_log_of_environment()
    app.DagsterWebserver = _OwnNamesOnly  # type: ignore[attr-defined]
    cli.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
