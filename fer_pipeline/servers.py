"""The servers of one home as child processes: the Dagster UI with its daemon, and MLflow."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from types import FrameType

import typer
from rich.console import Console

from fer_pipeline.core.errors import InputError
from fer_pipeline.instance import close_runs_of_the_home, environment, prepare_home
from fer_pipeline.settings import Settings
from fer_pipeline.terminal import say
from fer_pipeline.tracking import artifact_root, tracking_uri

_START_SECONDS = 120
_END_SECONDS = 20
_LOOPBACK = ("127.0.0.1", "localhost")


def serve_ui(settings: Settings, host: str, port: int, mlflow_port: int, console: Console) -> None:
    """Run both servers until Ctrl-C or a signal ends them, or one of them ends by itself.

    Raises InputError when a port is taken.
    """
    for wanted in (port, mlflow_port):
        _check_free(host, wanted)
    prepare_home(settings)
    close_runs_of_the_home(settings)
    commands = {
        f"http://{host}:{port}": _dagster(host, port),
    }
    if settings.mlflow_tracking_uri is None:
        settings.mlflow_folder.mkdir(parents=True, exist_ok=True)
        commands[f"http://{host}:{mlflow_port}"] = _mlflow(settings, host, mlflow_port)
    signal.signal(signal.SIGTERM, _interrupt)
    # Runs launched in the pages link to MLflow where it stands now.
    variables = environment(settings)
    if settings.mlflow_tracking_uri is None:
        variables["FER_MLFLOW_UI_URL"] = f"http://{host}:{mlflow_port}"
    servers = [
        # A session of its own, so that a server's own children can be ended with it.
        subprocess.Popen(command, env=variables, start_new_session=True)  # noqa: S603
        for command in commands.values()
    ]
    try:
        if not all(_listens(address, servers) for address in commands):
            say(console, "a server didn't start; its last words stand above", style="red")
            raise typer.Exit(1)
        say(console, f"http://{host}:{port}", head="Dagster", style="bold")
        mlflow = settings.mlflow_tracking_uri or f"http://{host}:{mlflow_port}"
        say(console, mlflow, head="MLflow ", style="bold")
        say(console, "Ctrl-C ends both.")
        while all(server.poll() is None for server in servers):
            time.sleep(0.5)
        say(console, "a server ended by itself; its last words stand above", style="red")
        raise typer.Exit(1)
    except KeyboardInterrupt:
        say(console, "ending")
    finally:
        _end(servers)


def _end(servers: list[subprocess.Popen[bytes]]) -> None:
    """Ask the servers to end as Ctrl-C does, which alone `dagster dev` passes on; then insist."""
    for server in servers:
        _signal_group(server, signal.SIGINT)
    for server in servers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=_END_SECONDS)
        _signal_group(server, signal.SIGKILL)
        server.wait()


def _signal_group(server: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, number)


def _dagster(host: str, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "dagster", "dev", "-m", "fer_pipeline.definitions"),
        *("-h", host, "-p", str(port)),
    ]


def _mlflow(settings: Settings, host: str, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)),
        *(
            "--backend-store-uri",
            tracking_uri(settings),
            "--default-artifact-root",
            artifact_root(settings),
        ),
        *("--workers", "1"),
        # MLflow answers only to names it was told; by default those of this machine's loopback.
        *(() if host in _LOOPBACK else ("--allowed-hosts", "*")),
    ]


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"port {port} on {host} can't be used ({error.strerror}): give --port and "
                "--mlflow-port others"
            ) from error


def _listens(address: str, servers: list[subprocess.Popen[bytes]]) -> bool:
    """Wait until a server listens; False when one has ended, or time is up."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and all(server.poll() is None for server in servers):
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((host, int(port))) == 0:
                return True
        time.sleep(0.3)
    return False


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
