"""A real Ray cluster on this machine for the tests that need one: a head and nodes, with a token.

Its files stand in a short path of their own, since Ray puts sockets there, whose names are bounded.
"""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from fer_pipeline_tests.system import free_ports

_START_SECONDS = 120
_NODE = ("--object-store-memory=80000000", "--disable-usage-stats", "--block")
_NODE += ("--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0")


@dataclass(frozen=True)
class RayCluster:
    """A running cluster; `token` opens it."""

    address: str
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a command finds this cluster and is let in."""
        return {
            "RAY_ADDRESS": self.address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
        }

    def ask(self, path: str) -> Any:
        """The JSON answer of the cluster's dashboard."""
        request = urllib.request.Request(  # noqa: S310
            self.address + path, headers={"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.load(answer)

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that are alive, the head included."""
        found = self.ask("/api/v0/nodes?detail=1")["data"]["result"]["result"]
        return [node for node in found if node["state"] == "ALIVE"]


@contextmanager
def ray_cluster(nodes: int) -> Iterator[RayCluster]:
    """A head without CPUs and nodes of one CPU each; all their processes end with the block."""
    port, dashboard, client = free_ports(3)
    head_ip = _own_address()
    cluster = RayCluster(f"http://127.0.0.1:{dashboard}", secrets.token_hex(32))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-")))
        started: list[psutil.Process] = []
        stack.callback(_end, started)
        start = [
            *("--head", "--num-cpus=0", f"--port={port}", f"--temp-dir={folder / 'r'}"),
            *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
            f"--ray-client-server-port={client}",
        ]
        _start_node(start, cluster, folder / "head.log", started)
        _wait_for(cluster, 1, started, folder)
        for number in range(nodes):
            start = [f"--address={head_ip}:{port}", "--num-cpus=1"]
            _start_node(start, cluster, folder / f"node-{number}.log", started)
            # Two that start at once on one machine get in each other's way.
            _wait_for(cluster, number + 2, started, folder)
        yield cluster


def _start_node(
    words: list[str], cluster: RayCluster, log: Path, started: list[psutil.Process]
) -> None:
    programs = Path(sys.executable).parent
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = {
        **kept,
        "PATH": f"{programs}{os.pathsep}{kept.get('PATH', '')}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": cluster.token,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(programs / "ray"), "start", *words, *_NODE],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    started.append(psutil.Process(process.pid))


def _wait_for(cluster: RayCluster, nodes: int, started: list[psutil.Process], folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and all(
        one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in started
    ):
        try:
            if len(cluster.nodes()) == nodes:
                return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.3)
    said = "\n".join(log.read_text(errors="replace")[-1500:] for log in folder.glob("*.log"))
    raise RuntimeError(f"the Ray cluster of {nodes} nodes didn't start:\n{said}")


def _end(started: list[psutil.Process]) -> None:
    """Kill these processes and all that came of them."""
    doomed: list[psutil.Process] = []
    for process in started:
        if process.is_running():
            doomed += [*process.children(recursive=True), process]
    for process in doomed:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(doomed, timeout=10)


def _own_address() -> str:
    """The address under which Ray starts a head: never the loopback address."""
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())
