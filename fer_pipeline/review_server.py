"""The labelling page of one home as a child process.

What the page shows is in `app`; here is how Streamlit is started, and who may reach it.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.study import studies_in
from fer_pipeline.logs import VARIABLE, write_log
from fer_pipeline.origins import is_loopback
from fer_pipeline.server_processes import check_free, run_servers
from fer_pipeline.settings import Settings

_OPTIONS = {
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.runOnSave": "false",
    "server.enableCORS": "true",
    "server.enableXsrfProtection": "true",
    "server.enableStaticServing": "false",
    "server.maxUploadSize": "1",
    # It would stand between a press and the next picture; Python collects by itself.
    "runner.postScriptGC": "false",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    "logger.hideWelcomeMessage": "true",
}


def serve_review(
    settings: Settings, host: str, port: int, console: Console, *, url: str | None = None
) -> None:
    """Show the labelling page until Ctrl-C or a signal ends it.

    `url` is the address at which a proxy shows it; the page then starts without a study too, which
    a later run may draw. Raises InputError when others could reach it and no password is set, when
    there is no study or a damaged one, the port is taken, or `url` is no address.
    """
    write_log(settings.log_format)
    behind = None if url is None else _public(url)
    if not (is_loopback(host) or settings.review_password):
        raise InputError(
            f"others can reach {host}: set a password in FER_REVIEW_PASSWORD, or leave --host out"
        )
    if not studies_in(settings.studies_folder) and behind is None:
        raise InputError(
            f"{settings.studies_folder} holds no study to label yet: `fer-pipeline study new` "
            "draws one, once `fer-pipeline run` has cropped the faces"
        )
    check_free(host, port, "another --port, or another --host")
    address = f"http://{host}:{port}"
    run_servers(
        {address: _streamlit(host, port, behind or {})},
        _environment(settings),
        {"Labelling page": url or address},
        "Ctrl-C ends it; what was answered is stored.",
        console,
    )


def _public(url: str) -> dict[str, str]:
    """Streamlit's options for a page that a proxy shows at `url`."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise InputError(f"--url takes an address such as https://example.org/label, not {url!r}")
    return {
        # Streamlit answers websockets from this origin only.
        "browser.serverAddress": parts.hostname,
        "browser.serverPort": str(port or (443 if parts.scheme == "https" else 80)),
        "server.baseUrlPath": parts.path.strip("/"),
    }


def _streamlit(host: str, port: int, behind: Mapping[str, str]) -> list[str]:
    script = Path(__file__).parent / "app" / "review.py"
    options = {**_OPTIONS, **behind, "server.address": host, "server.port": str(port)}
    return [
        *(sys.executable, "-m", "fer_pipeline.logged", "streamlit", "run", str(script)),
        *(f"--{name}={value}" for name, value in options.items()),
    ]


def _environment(settings: Settings) -> dict[str, str]:
    """This environment, with the settings that an option may have given; addresses are whole."""
    found = {**os.environ, "FER_HOME": str(settings.home), VARIABLE: settings.log_format}
    if settings.state is not None:
        found["FER_STATE"] = str(settings.state)
    return found
