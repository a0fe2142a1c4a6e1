"""Servers as child processes, and what a killed command leaves of them."""

import signal
import subprocess
import sys
import time

import pytest

from fer_pipeline_tests.system import answers, free_ports

SECONDS = 60
_CODE = """
import sys
from rich.console import Console
from fer_pipeline.server_processes import run_servers
port = sys.argv[1]
command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", port]
run_servers({f"http://127.0.0.1:{port}": command}, {}, {}, "", Console(stderr=True))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what the kernel of Linux does")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_server_outlives_the_command_that_started_it(how: signal.Signals) -> None:
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    command = subprocess.Popen(
        [sys.executable, "-c", _CODE, str(port)],
        # As a shell starts what it runs in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(address, answering=True)
    finally:
        command.send_signal(how)
        command.wait(timeout=SECONDS)
    _wait(address, answering=False)


def _wait(address: str, *, answering: bool) -> None:
    deadline = time.monotonic() + SECONDS
    while answers(address) != answering:
        assert time.monotonic() < deadline, f"{address} answers: {not answering}"
        time.sleep(0.1)
