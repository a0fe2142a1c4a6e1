"""The command `fer-pipeline serve`: the HTTP service of one model.

What it answers stands in `service/app.py`, how connections are served in
`service/connections.py`; here is how it starts and ends, and who may reach it.
"""

import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.starter import STARTER
from fer_pipeline.logs import write_log
from fer_pipeline.options import Home, Model
from fer_pipeline.origins import LOOPBACK_NAMES, is_loopback
from fer_pipeline.settings import Settings
from fer_pipeline.terminal import say
from fer_pipeline.tracking_server import asked_by_a_person

if TYPE_CHECKING:
    from fastapi import FastAPI

    from fer_pipeline.service.about import About
    from fer_pipeline.service.limits import Limits

_console = Console(stderr=True)


def serve(
    model: Model = STARTER,
    home: Home = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free one.")] = 8600,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures that are read at once; default: one for each core."),
    ] = None,
) -> None:
    """Answer over HTTP which faces are in a picture and with what expression, until Ctrl-C.

    FER_SERVE_TOKEN sets the token that must be sent then, as `Authorization: Bearer TOKEN`.
    """
    from fer_pipeline.service.app import create_app

    settings = Settings.load(home=home)
    write_log(settings.log_format)
    local = is_loopback(host)
    if not (local or settings.serve_token):
        raise InputError(
            f"others can reach {host}: set a token in FER_SERVE_TOKEN, or leave --host out"
        )
    # Taken before the model is read, so that a port that is in use is told at once.
    with _bound(host, port) as listening:
        with asked_by_a_person():
            file, about = _model(settings, model)
        app = create_app(
            _recogniser(file, threads),
            settings.service_limits,
            settings.serve_token.get_secret_value() if settings.serve_token else None,
            about=about,
            hosts=LOOPBACK_NAMES | {host} if local else None,
            threads=threads,
        )
        _serve(app, listening, settings.service_limits)
    say(_console, "ended")


def _model(settings: Settings, model: str) -> tuple[Path, "About"]:
    """The file of a model, and what is told of it."""
    from fer_pipeline.model_cards import card_text, version_of, with_version
    from fer_pipeline.recogniser import is_local
    from fer_pipeline.service.about import About, starter_model
    from fer_pipeline.tracking import model_file

    if model == STARTER:
        return model_file(settings, model), starter_model()
    address = with_version(settings, model)
    file = model_file(settings, address)
    if is_local(model):
        # Where it stands on this machine is nobody else's business.
        return file, About(Path(model).name)
    return file, About(model, version_of(address), card_text(settings, address))


def _recogniser(file: Path, threads: int | None) -> Any:
    import cv2

    from fer_pipeline.core.recogniser import Recogniser

    # Pictures are read at once in threads of our own.
    cv2.setNumThreads(1)
    return Recogniser.load(file, threads=threads)


def _bound(host: str, port: int) -> socket.socket:
    """A socket on this address that doesn't listen yet."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, UnicodeError) as error:
        # A name that is no name of a machine isn't even looked up.
        reason = error.strerror if isinstance(error, OSError) else "no name of a machine"
        raise InputError(
            f"port {port} on {host} can't be used ({reason}): give another --port, or "
            "another --host"
        ) from error
    return bound


def _serve(app: "FastAPI", listening: socket.socket, limits: "Limits") -> None:
    """Serve until a signal; the answers under way are given first."""
    import uvicorn

    from fer_pipeline.service.connections import server_config

    host, port = listening.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            say(_console, address, head="Service", style="bold")
            say(_console, "Ctrl-C ends it; what is under way is answered first.")

    # uvicorn raises the signal that ended it once more when it has ended.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    Server(server_config(app, limits)).run([listening])
