"""Runs, workers and daemons that are killed without warning, and what must be as if they weren't.

Tests and the soak (`python -m fer_pipeline_tests.soak`) share it; what is claimed belongs to them.
"""

import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import psutil

from fer_pipeline.build import PIPELINE_JOB
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph

PATIENCE = 240
SHARD_ROWS = 15
PUBLISHED = ("index", "manifest", "crops", "reports")
IN_PROGRESS = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
Reached = TypeVar("Reached")
_FORKSERVER = "multiprocessing.forkserver"
_DAEMON = "dagster._daemon"
_HANDED_OVER = 0.1
"""Processor seconds of a worker that surely has its step, and a part of what a step takes."""
_LAUNCH = """mutation($given: ExecutionParams!) { launchRun(executionParams: $given) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


class Command:
    """A command in a process group of its own, to be killed."""

    def __init__(self, *words: object, **variables: str) -> None:
        # A file takes any amount of words, where a pipe that nobody reads would block.
        self._words = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            graph.command(*words),
            env=graph.environment(**variables),
            stdout=subprocess.DEVNULL,
            stderr=self._words,
            start_new_session=True,
        )

    @property
    def said(self) -> str:
        """What it wrote to stderr so far, line breaks taken out."""
        self._words.seek(0)
        return " ".join(self._words.read().decode(errors="replace").split())

    def wait_until(self, reached: Callable[[], Reached]) -> Reached:
        """Wait until it is at some point, and give what was seen; it must not have ended before."""
        deadline = time.monotonic() + PATIENCE
        while not (seen := reached()):
            code = self.process.poll()
            assert code is None, f"it ended with {code} before: {self.said}"
            assert time.monotonic() < deadline, f"it never came to that point: {self.said}"
            time.sleep(0.05)
        return seen

    def others(self) -> list[psutil.Process]:
        """The processes that it started."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def workers(self, *, but: Collection[psutil.Process] = ()) -> list[psutil.Process]:
        """The processes in which its steps work, but those: children of the one that forks them.

        A worker that is seen late may have done its work, and to kill it then proves nothing.
        """
        forked = [one for one in self.others() if _is(one, _FORKSERVER) and one not in but]
        return [one for one in forked if _is_child_of_its_kind(one) and _has_begun(one)]

    def daemon(self) -> psutil.Process:
        """Its Dagster daemon."""
        (found,) = (one for one in self.others() if _is(one, _DAEMON))
        return found

    def kill(self, whole_group: bool) -> list[psutil.Process]:
        """SIGKILL to it alone or to its group; gives the processes that it had started."""
        others = self.others()
        assert others
        if whole_group:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        assert self.process.wait() == -signal.SIGKILL
        return others

    def end(self) -> None:
        """Whatever is left of it."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait()


def all_end(processes: list[psutil.Process]) -> bool:
    """Whether these processes end within 20 seconds; one that nobody has reaped has ended."""
    deadline = time.monotonic() + 20
    while any(map(_lives, processes)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def crops(folder: Path) -> Mapping[str, bytes]:
    """The bytes of every shard and of the list that names them."""
    files = [*sorted(folder.glob("shard-*.parquet")), folder / "crops.json"]
    return {path.name: path.read_bytes() for path in files if path.is_file()}


@functools.cache
def undisturbed(root: Path) -> Mapping[str, bytes]:
    """The shards of a release, and their list, after a run that was alone; in shards of 15 faces.

    Made once a session in this process.
    """
    settings = without_crops(root, root.with_name("undisturbed-home"))
    make_crops(settings)
    made = crops(settings.crops_folder)
    assert len(made) > 4
    return made


def without_crops(root: Path, home: Path) -> Settings:
    """A home at `home` whose crops are yet to be made, its settings remembered."""
    settings = graph.early_copy(root, home)
    settings.remember()
    shutil.rmtree(settings.crops_folder)
    return settings


def make_crops(settings: Settings) -> None:
    """Make the crops that a home still lacks, in this process; what is there already is kept."""
    small = settings.model_copy(update={"shard_rows": SHARD_ROWS})
    with graph.instance_of(settings.home) as instance:
        assert graph.materialize(small, ["face_crops"], instance).success


def shards(folder: Path) -> Mapping[str, bytes]:
    """The bytes of every shard."""
    return {name: data for name, data in crops(folder).items() if name.startswith("shard-")}


def traces(home: Path) -> list[str]:
    """What no killed process may leave: half-written files, processes, runs in progress."""
    found = [str(path) for name in PUBLISHED for path in (home / name).rglob("*.part")]
    living = processes_of(home)
    if not all_end(living):
        found += [f"process {one.pid}" for one in living if _lives(one)]
    with graph.instance_of(home) as instance:
        runs = instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS))
    return found + [f"run {run.run_id} {run.status}" for run in runs]


def processes_of(home: Path) -> list[psutil.Process]:
    """The processes of this machine that work on a home."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            known = process.environ()
            if str(home) in (known.get("FER_HOME"), *process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


class Pages:
    """`fer-pipeline ui` on a home, with its daemon, that launches runs of `face_crops`."""

    def __init__(self, home: Path, **variables: str) -> None:
        self._home = home
        with socket.socket() as free, socket.socket() as other:
            free.bind(("127.0.0.1", 0))
            other.bind(("127.0.0.1", 0))
            port, mlflow_port = free.getsockname()[1], other.getsockname()[1]
        self._address = f"http://127.0.0.1:{port}"
        # Nothing is trained here: a database by its address needs no server to start first.
        tracking = f"sqlite:///{home / 'mlflow-of-the-pages.db'}"
        self.command = Command(
            *("ui", "--home", home, "--port", port, "--mlflow-port", mlflow_port),
            FER_MLFLOW_TRACKING_URI=tracking,
            **variables,
        )
        self.command.wait_until(self._answers)

    def _answers(self) -> bool:
        try:
            self._ask("{ version }", {})
        except (urllib.error.URLError, OSError):
            return False
        return True

    def _ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        asked = urllib.request.Request(  # noqa: S310 - an address of this machine
            f"{self._address}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)["data"]
        return found

    def launch(self) -> str:
        """Launch a run of face_crops, which the daemon takes from the queue; gives its id."""
        given = {
            "mode": "default",
            "runConfigData": {},
            "selector": {
                "repositoryLocationName": "fer_pipeline.definitions",
                "repositoryName": "__repository__",
                "pipelineName": PIPELINE_JOB,
                "assetSelection": [{"path": ["face_crops"]}],
            },
        }
        answer = self._ask(_LAUNCH, {"given": given})["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def kill_daemon(self) -> None:
        """SIGKILL to the daemon; the pages end by themselves then, with what they started."""
        self.command.daemon().kill()
        assert self.command.process.wait(timeout=PATIENCE) != 0

    def wait_until_idle(self) -> None:
        """Wait until no run is in progress any more."""
        with graph.instance_of(self._home) as instance:
            self.command.wait_until(
                lambda: not instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS), limit=1)
            )

    def end(self) -> None:
        """End the pages as a service manager does."""
        others = self.command.others()
        self.command.process.send_signal(signal.SIGTERM)
        try:
            self.command.process.wait(timeout=60)
        finally:
            self.command.end()
            for left in others:
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is(process: psutil.Process, words: str) -> bool:
    try:
        return words in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _has_begun(process: psutil.Process) -> bool:
    """Whether it was given its step: one that ends before is no worker's death but the run's."""
    try:
        used = process.cpu_times()
        return used.user + used.system > _HANDED_OVER
    except psutil.Error:
        return False


def _is_child_of_its_kind(process: psutil.Process) -> bool:
    try:
        parent = process.parent()
    except psutil.Error:
        return False
    return parent is not None and _is(parent, _FORKSERVER)
