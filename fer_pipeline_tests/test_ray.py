"""The graph on a real Ray cluster of two nodes, and what is said when there is none."""

import importlib.util
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._grpc.types import ExecuteStepArgs

from benchmarks.scale_cost import PAGE, Rates, cost_table, page_with
from fer_pipeline import cluster, executors, lease
from fer_pipeline.cluster import Cluster, check_nodes, find_cluster, node_environment
from fer_pipeline.core.errors import InputError
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.graph import Ended, fer_pipeline, run_words
from fer_pipeline_tests.ray_cluster import RayCluster, ray_cluster
from fer_pipeline_tests.system import REQUIRED

if importlib.util.find_spec("ray") is None and os.environ.get(REQUIRED) != "1":
    pytest.skip("Ray isn't installed: pip install 'fer_pipeline[ray]'", allow_module_level=True)

SELECTED = ("--select", "face_crops", "--json")
SMALL_SHARDS = {"FER_SHARD_ROWS": "25", "FER_WORKERS": "1"}


@pytest.fixture(scope="module")
def running(drawn_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster, and a home of this machine whose crops those of the cluster must equal."""
    home = tmp_path_factory.mktemp("local") / "home"
    settings = graph.early_copy(drawn_release, home).model_copy(
        update={"shard_rows": int(SMALL_SHARDS["FER_SHARD_ROWS"])}
    )
    shutil.rmtree(settings.crops_folder)
    with graph.instance_of(home) as instance:
        assert graph.materialize(settings, ["face_crops"], instance).success
    with ray_cluster(nodes=2) as started:
        yield started, home


@pytest.fixture(scope="module")
def spread(
    running: tuple[RayCluster, Path], drawn_release: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Ended]:
    """A home whose lists became crops on the cluster, and how that run ended."""
    home = tmp_path_factory.mktemp("spread") / "home"
    words = run_words(drawn_release, home, ["three_class"])
    more = SMALL_SHARDS | running[0].environment
    return home, fer_pipeline(*words, *SELECTED, "--executor", "ray", **more)


def _shards(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.glob("crops/*/shard-*.parquet")}


def test_crops_made_on_a_cluster_equal_the_local_ones_byte_for_byte(
    running: tuple[RayCluster, Path], spread: tuple[Path, Ended]
) -> None:
    home, ended = spread
    assert ended.code == 0, ended.err
    assert "face_crops" in ended.answer["made"]
    assert len(_shards(home)) >= 3
    assert _shards(home) == _shards(running[1])


def _nodes_of_jobs(running: RayCluster, run_id: str) -> dict[str, str]:
    """The node on which the job of each step of a run succeeded."""
    deadline = time.monotonic() + 60
    while True:
        jobs = [
            job
            for job in running.ask("/api/jobs/")
            if job["metadata"].get(cluster.RUN_ID) == run_id
        ]
        # The last step's process ends a moment after what it had to say.
        if all(job["status"] != "RUNNING" for job in jobs) or time.monotonic() > deadline:
            return {
                job["metadata"]["dagster/op"]: job["driver_node_id"]
                for job in jobs
                if job["status"] == "SUCCEEDED"
            }
        time.sleep(0.2)


def test_every_step_was_a_job_of_the_cluster_and_both_nodes_worked(
    running: tuple[RayCluster, Path], spread: tuple[Path, Ended]
) -> None:
    home, _ = spread
    with graph.instance_of(home) as instance:
        (run,) = instance.get_runs()
        ended = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)
    steps = {entry.step_key for entry in ended}
    nodes = _nodes_of_jobs(running[0], run.run_id)
    assert set(nodes) == steps
    shards = {step: node for step, node in nodes.items() if "crop_shard[" in step}
    assert len(shards) == len(_shards(home))
    workers = {node["node_id"] for node in running[0].nodes() if not node["is_head_node"]}
    assert set(shards.values()) == workers
    assert len(workers) == 2


@pytest.mark.usefixtures("own_environment")
def test_what_was_made_on_the_cluster_is_up_to_date_without_it(
    spread: tuple[Path, Ended], here: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SMALL_SHARDS.items():
        monkeypatch.setenv(name, value)
    ended = here("run", "--home", spread[0], *SELECTED)
    assert ended.code == 0, ended.err
    assert ended.answer["made"] == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"RAY_AUTH_TOKEN": "0" * 64}, "refuses this token"),
        ({"RAY_AUTH_MODE": "disabled"}, "refuses this token"),
        ({"RAY_ADDRESS": ""}, "set RAY_ADDRESS"),
    ],
    ids=["wrong token", "no token", "no address"],
)
def test_cluster_that_lets_nobody_in_is_one_sentence_and_exit_code_2(
    running: tuple[RayCluster, Path],
    drawn_release: Path,
    tmp_path: Path,
    changed: Mapping[str, str],
    words: str,
) -> None:
    ended = fer_pipeline(
        *run_words(drawn_release, tmp_path / "home", ["three_class"]),
        *("--executor", "ray", "--json"),
        timeout=240,
        **(running[0].environment | changed),
    )
    assert ended.code == 2, ended.err
    assert words in ended.answer["error"]
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("head:6379", "set it to the cluster's dashboard"),
        ("ray://head:10001", "set it to the cluster's dashboard"),
        ("http://127.0.0.1:1", "no Ray cluster answers"),
        ("http://127.0.0.1:port", "no Ray cluster answers"),
    ],
)
def test_address_without_a_dashboard_is_refused(
    monkeypatch: pytest.MonkeyPatch, address: str, words: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match=words):
        find_cluster()


class _OldCluster(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"version": "4", "ray_version": "2.9.0"}')

    def log_message(self, *_words: object) -> None:
        pass


def test_cluster_of_another_ray_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), _OldCluster) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(InputError, match=r"runs Ray 2\.9\.0 .* install the same version"):
            find_cluster()
        server.shutdown()


class _Client:
    """A cluster's client whose one job said `said` and is in the given state."""

    def __init__(self, said: str = "", state: str = "SUCCEEDED") -> None:
        from ray.job_submission import JobStatus

        self.said, self.state = said, JobStatus(state)
        self.reachable = True

    def submit_job(self, **_options: object) -> str:
        return "job"

    def get_job_status(self, _job: str) -> Any:
        if not self.reachable:
            raise ConnectionError
        return self.state

    def get_job_logs(self, _job: str) -> str:
        return self.said

    def get_job_info(self, _job: str) -> Any:
        return SimpleNamespace(message="killed")


def _small_cluster(client: _Client) -> Cluster:
    return Cluster(client, "http://head:8265", cpus=6, largest=4, nodes=2)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"python": "3.9"}, "has python 3.9 and this machine"),
        ({"fer_pipeline": "missing"}, "has fer_pipeline missing"),
        ({"home": "none"}, "put the home on storage all nodes share"),
        ({"data set": "x is not there"}, "can't open the data set: x is not there"),
        (None, "can't run fer_pipeline .*sh: python: not found"),
    ],
)
def test_node_that_cannot_do_the_work_is_refused_before_it_starts(
    drawn_release: Path, tmp_path: Path, changed: dict[str, str] | None, words: str
) -> None:
    settings = graph.small_settings(drawn_release, tmp_path / "home")
    settings.home.mkdir()
    settings.remember()
    said = "sh: python: not found"
    if changed is not None:
        said = json.dumps({**cluster._report(settings), **changed})
    with pytest.raises(InputError, match=words):
        check_nodes(_small_cluster(_Client(said)), settings)


def test_node_that_answers_as_this_machine_does_is_taken(
    drawn_release: Path, tmp_path: Path
) -> None:
    settings = graph.small_settings(drawn_release, tmp_path / "home")
    answer = f"a note\n{json.dumps(dict(cluster._report(settings)))}\n"
    check_nodes(_small_cluster(_Client(answer)), settings)


def test_nodes_get_every_setting_and_no_secret(
    drawn_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = graph.small_settings(drawn_release, tmp_path / "home", minutes=0.5)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hidden")
    monkeypatch.setenv("FSSPEC_S3_SECRET", "hidden")
    given = node_environment(settings)
    assert given["KERAS_BACKEND"] == "jax"
    assert "hidden" not in given.values()
    for name in list(os.environ):
        if name.startswith("FER_"):
            monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert Settings.load() == settings


def test_nodes_get_no_password_of_a_setting_and_keep_their_own(
    drawn_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_ALERT_URL", "https://hook.example/hidden")
    monkeypatch.setenv("FER_SERVE_TOKEN", "hidden")
    settings = graph.small_settings(
        drawn_release,
        tmp_path / "home",
        mlflow_database="postgresql://fer:hidden@db/mlflow",
        mlflow_files=tmp_path,
        answers_url="postgresql://fer:hid%2Fden:x@db:5432/answers",
        mlflow_tracking_uri="https://ann:hidden@mlflow.example:5000/x",
    )
    given = node_environment(settings)
    assert not [name for name, value in given.items() if "hid" in value or "**" in value]
    assert given["FER_ANSWERS_URL"] == "postgresql://fer@db:5432/answers"
    assert given["FER_MLFLOW_TRACKING_URI"] == "https://ann@mlflow.example:5000/x"
    for name, value in {**given, "FER_ALERT_URL": "https://hook.example/own"}.items():
        monkeypatch.setenv(name, value)
    own = Settings.load().alert_url
    assert own is not None
    assert own.get_secret_value() == "https://hook.example/own"


@pytest.mark.parametrize(
    ("pool", "threads", "cpus"), [(None, 3, 1), ("training", 3, 3), ("training", None, 4)]
)
def test_training_asks_for_its_threads_or_a_whole_node_other_steps_for_one_cpu(
    drawn_release: Path, tmp_path: Path, pool: str | None, threads: int | None, cpus: int
) -> None:
    settings = graph.small_settings(drawn_release, tmp_path / "home")
    settings = settings.model_copy(update={"threads": threads})
    assert executors.needed_cpus(settings, pool, largest=4) == cpus


def _context() -> Any:
    arguments = SimpleNamespace(step_keys_to_execute=["step"], run_id="run", known_state=None)
    return SimpleNamespace(execute_step_args=arguments)


def test_step_whose_job_was_stopped_is_lost_at_the_second_look(tmp_path: Path) -> None:
    client = _Client(state="STOPPED")
    handler = executors._step_handler(Settings.fresh(home=tmp_path), _small_cluster(client))
    assert handler.check_step_health(_context()).is_healthy
    found = handler.check_step_health(_context())
    assert not found.is_healthy
    assert "ended (STOPPED) before its step did: killed" in found.unhealthy_reason


def test_step_is_lost_when_the_cluster_stays_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = _Client(state="RUNNING")
    handler = executors._step_handler(Settings.fresh(home=tmp_path), _small_cluster(client))
    client.reachable = False
    assert handler.check_step_health(_context()).is_healthy
    monkeypatch.setattr(executors, "_SILENCE_SECONDS", 0.0)
    found = handler.check_step_health(_context())
    assert not found.is_healthy
    assert "hasn't answered" in found.unhealthy_reason


def test_cost_table_of_the_page_follows_from_its_rates() -> None:
    page = PAGE.read_text()
    assert page == page_with(page, cost_table(Rates()))
    rates = Rates(1e6, 1e6, 1000, start=2, photo_bytes=1e5, crop_bytes=2500, shards=20)
    table = cost_table(rates, cpus=(10,))
    assert "| core-hours | 0.29 |" in table
    assert "| on 10 CPUs | 1.8 minutes, reading 962 MB/s |" in table


def test_step_ends_when_its_run_gives_no_more_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(lease, "PATIENCE", 1.0)
    monkeypatch.setattr(lease, "_RENEWAL", 0.05)
    monkeypatch.setattr(os, "_exit", lambda _code: ended.set())
    job = ReconstructableJob(
        ReconstructableRepository.for_module("fer_pipeline.definitions", "defs"), "pipeline"
    )
    with graph.instance_of(tmp_path / "home") as instance:
        arguments = ExecuteStepArgs(
            job_origin=job.get_python_origin(),
            run_id="a-run",
            step_keys_to_execute=["step"],
            instance_ref=instance.get_ref(),
            retry_mode=None,
            known_state=None,
            should_verify_step=True,
            print_serialized_events=False,
        )
        (variable,) = arguments.get_command_env()
        monkeypatch.setenv(variable["name"], variable["value"])
        lease.follow()
        for sign in range(20):
            instance.daemon_cursor_storage.set_cursor_values({"fer/alive/a-run": str(sign)})
            assert not ended.wait(0.1)
        assert ended.wait(10)
