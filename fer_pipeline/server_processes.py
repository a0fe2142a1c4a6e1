"""Servers as child processes: started together, ended together, with nothing left behind."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType

import typer
from rich.console import Console

from fer_pipeline.core.errors import InputError
from fer_pipeline.terminal import say

_START_SECONDS = 120
_END_SECONDS = 20
_SET_PARENT_DEATH_SIGNAL = 1
"""Of prctl(2)."""


def run_servers(
    commands: Mapping[str, Sequence[str]],
    variables: Mapping[str, str],
    addresses: Mapping[str, str],
    advice: str,
    console: Console,
) -> None:
    """Run a command for each address it listens on, until Ctrl-C, SIGTERM, or one of them ends.

    When all listen, `addresses` (by what stands there) and `advice` are printed. Raises
    `typer.Exit(1)` when one doesn't start or ends by itself; the others are then ended.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    servers = [
        # A session of its own, so that a server's own children can be ended with it.
        subprocess.Popen(  # noqa: S603
            command, env=variables, start_new_session=True, preexec_fn=_heed_interrupts
        )
        for command in commands.values()
    ]
    try:
        if not all(_listens(address, servers) for address in commands):
            say(console, "a server didn't start; its last words stand above", style="red")
            raise typer.Exit(1)
        for head, address in addresses.items():
            say(console, address, head=head, style="bold")
        say(console, advice)
        while all(server.poll() is None for server in servers):
            time.sleep(0.5)
        say(console, "a server ended by itself; its last words stand above", style="red")
        raise typer.Exit(1)
    except KeyboardInterrupt:
        say(console, "ending")
    finally:
        _end(servers)


def _heed_interrupts() -> None:
    """In a new server: heed Ctrl-C's signal, and have it sent when this process is killed.

    A shell's background commands, and so their children, are told to ignore it. Who is killed can
    be seen on Linux only: elsewhere a killed command leaves its servers, and their ports are taken.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGINT)


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


def check_free(host: str, port: int, remedy: str) -> None:
    """Raise InputError, with what to give instead, when a port can't be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"port {port} on {host} can't be used ({error.strerror}): give {remedy}"
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
