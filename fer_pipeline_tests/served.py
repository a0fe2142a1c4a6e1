"""`fer-pipeline ui` on a home, for the tests that look at its pages or at what its daemon does."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from fer_pipeline_tests import graph
from fer_pipeline_tests.system import answers, free_ports

_START_SECONDS = 150


@dataclass(frozen=True)
class Servers:
    """The running command, and where its two servers answer."""

    process: "subprocess.Popen[str]"
    dagster: str
    mlflow: str

    def ask(self, query: str) -> dict[str, Any]:
        """The answer of Dagster's GraphQL."""
        asked = urllib.request.Request(  # noqa: S310 - an address of this machine
            f"{self.dagster}/graphql",
            json.dumps({"query": query}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)["data"]
        return found


@contextmanager
def serving(home: Path, **more: str) -> Iterator[Servers]:
    """Both servers of a home, ended with the block; `more` are variables of their environment."""
    port, mlflow_port = free_ports(2)
    process = subprocess.Popen(
        graph.command("ui", "--home", home, "--port", port, "--mlflow-port", mlflow_port),
        env=graph.environment(**more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    started = Servers(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{mlflow_port}")
    deadline = time.monotonic() + _START_SECONDS
    try:
        while not (answers(f"{started.dagster}/server_info") and answers(started.mlflow)):
            assert process.poll() is None, "it ended by itself"
            assert time.monotonic() < deadline, "it doesn't answer"
            time.sleep(0.5)
        yield started
    finally:
        runs = process.poll() is None
        left = psutil.Process(process.pid).children(recursive=True) if runs else []
        process.kill()
        for child in left:
            # Most end with the command, at its death.
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.wait()
