"""`fer-pipeline serve` as a process of its own."""

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fer_pipeline_tests.graph import command, environment
from fer_pipeline_tests.service.running import Client

_START_SECONDS = 60
_ADDRESS = re.compile(r"http://\S+:(\d+)")
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


@dataclass(frozen=True)
class Service:
    """The running command, what it says, and a client of it."""

    process: "subprocess.Popen[bytes]"
    log: Path
    client: Client

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def peak_bytes(self) -> int:
        """The most memory it ever held (resident)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = _PEAK.search(status)
        assert found is not None
        return int(found.group(1)) * 1024


@contextmanager
def serving(*words: object, **variables: str) -> Iterator[Service]:
    """The command with these words on a free port; killed with the block if it still runs."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command("serve", "--port", 0, "--home", Path(folder) / "home", *words),
                env=environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield Service(process, log, Client(_port(process, log)))
        finally:
            process.kill()
            process.wait()


def _port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    end = time.monotonic() + _START_SECONDS
    while (found := _ADDRESS.search(log.read_text())) is None:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, "it doesn't start"
        time.sleep(0.05)
    return int(found.group(1))
