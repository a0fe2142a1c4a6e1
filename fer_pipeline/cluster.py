"""The Ray cluster that RAY_ADDRESS names, as the machine sees it from which a run is started.

Reaching it, asking its nodes whether they can do the work, and ending jobs belong here; how Dagster
spreads steps over it stands in `executors.py`. Run as a module, this file is the question that
`check_nodes` puts to a node.
"""

import importlib.metadata
import json
import os
import re
import socket
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import file_digest
from fer_pipeline.settings import Settings

RUN_ID = "dagster/run-id"
"""Metadata key under which dagster-ray keeps the Dagster run of a Ray job."""

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 30
_CHECK_SECONDS = 90.0
_END_SECONDS = 15.0
_PASSED_ON = (
    *("FER_", "KERAS_", "TF_", "MLFLOW_", "FSSPEC_", "DAGSTER_HOME"),
    *("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"),
)
"""Beginnings of the names of variables that steps get from the machine that starts the run."""
_SECRET = ("TOKEN", "PASSWORD", "SECRET", "KEY")
_PASSWORD = re.compile(r"(://[^/:@\s]*):[^/\s]*@")
"""The password of an address, after what stands before it."""
_PACKAGES = ("dagster", "numpy", "opencv-python-headless", "pyarrow")
"""Packages whose version decides what a step writes, or whether it can be started at all."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers: CPUs of all its nodes, CPUs of the largest, number of nodes."""

    client: Any
    address: str
    cpus: int
    largest: int
    nodes: int


def find_cluster() -> Cluster:
    """The cluster at RAY_ADDRESS; never starts one.

    Raises InputError, within seconds, when Ray isn't installed, no cluster is named, it doesn't
    answer, refuses the token, runs another version of Ray, or has no CPU.
    """
    address = os.environ.get("RAY_ADDRESS", "").rstrip("/")
    if not address:
        raise InputError(
            "--executor ray needs a running cluster: set RAY_ADDRESS to its dashboard, "
            "such as http://HEAD:8265"
        )
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"RAY_ADDRESS is {address!r}: set it to the cluster's dashboard, "
            "such as http://HEAD:8265"
        )
    try:
        import dagster_ray  # noqa: F401
        import ray
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient
        from ray.util.state import list_nodes
        from ray.util.state.exception import RayStateApiException
    except ImportError as error:
        raise InputError(
            "--executor ray needs the packages of the extra: pip install 'fer_pipeline[ray]'"
        ) from error

    class Client(JobSubmissionClient):
        """Ray's own client waits for ever for a server that has stopped answering."""

        def _do_request(self, *words: Any, **more: Any) -> Any:
            return super()._do_request(*words, **{"timeout": _ANSWER_SECONDS, **more})

    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_SECONDS).close()
        client = Client(address)
        # Ray's client has just asked for the version, to compare it with a minimum of its own.
        running = client._server_ray_version
        if running != ray.__version__:
            raise InputError(
                f"the Ray cluster at {address} runs Ray {running} and this machine has "
                f"{ray.__version__}: install the same version on both"
            )
        found = list_nodes(address=address, detail=True, limit=10_000, timeout=_ANSWER_SECONDS)
    except AuthenticationError as error:
        raise InputError(
            f"the Ray cluster at {address} refuses this token: set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to the file that holds the cluster's token"
        ) from error
    except (OSError, ValueError, RuntimeError, RayStateApiException) as error:
        raise InputError(
            f"no Ray cluster answers at RAY_ADDRESS={address}: start its head with a dashboard, "
            "or mend the address"
        ) from error
    cpus = [int((n.resources_total or {}).get("CPU", 0)) for n in found if n.state == "ALIVE"]
    if not any(cpus):
        raise InputError(f"the Ray cluster at {address} has no CPU: start a node with --num-cpus")
    return Cluster(client, address, sum(cpus), max(cpus), len(cpus))


def check_nodes(cluster: Cluster, settings: Settings) -> None:
    """Ask a node, by a job, whether it has this package, the home and the data set.

    Raises InputError saying what it lacks, also when no CPU is free for a minute and a half.
    """
    client = cluster.client
    job = client.submit_job(
        entrypoint=f"python -m {__spec__.name}",
        entrypoint_num_cpus=1,
        runtime_env={"env_vars": node_environment(settings)},
    )
    deadline = time.monotonic() + _CHECK_SECONDS
    while not client.get_job_status(job).is_terminal():
        if time.monotonic() > deadline:
            client.stop_job(job)
            raise InputError(
                f"the Ray cluster at {cluster.address} had no CPU free for "
                f"{_CHECK_SECONDS:.0f} s: wait for its other jobs, or add nodes"
            )
        time.sleep(0.2)
    lines = client.get_job_logs(job).splitlines()
    answers = [line for line in lines if line.startswith("{")]
    if not answers:
        raise InputError(
            f"a node of the Ray cluster at {cluster.address} can't run fer_pipeline "
            f"({lines[-1] if lines else 'it said nothing'}): install it there, and start Ray with "
            "that environment's bin folder first in PATH"
        )
    there, here = json.loads(answers[-1]), _report(settings)
    for name in here:
        if there.get(name) == here[name]:
            continue
        if name == "home":
            problem = (
                f"doesn't see {settings.state_folder}: put the home on storage all nodes share"
            )
        elif name == "data set":
            problem = f"can't open the data set: {there.get(name)}"
        else:
            problem = (
                f"has {name} {there.get(name)} and this machine {here[name]}: "
                "install the same version on both"
            )
        raise InputError(f"a node of the Ray cluster at {cluster.address} {problem}")


def node_environment(settings: Settings) -> dict[str, str]:
    """The variables that a step needs on a node: all settings, and what frameworks read.

    Passwords and keys are left out, also those in addresses, since Ray shows a job's variables to
    everyone who may see the job: nodes have their own.
    """
    # As stars they would take the place of a node's own. These files go with such a setting.
    secret = {name for name, value in settings if isinstance(value, SecretStr)} | {"mlflow_files"}
    own = {f"FER_{name.upper()}" for name in secret}
    found = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_PASSED_ON)
        and name not in own
        and not any(word in name for word in _SECRET)
    }
    for name, value in settings.model_dump(mode="json", exclude=secret).items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            found[f"FER_{name.upper()}"] = _PASSWORD.sub(r"\1@", text)
    return found


def end_jobs(run_ids: Collection[str]) -> None:
    """End what still runs on the cluster for these Dagster runs; raises as `find_cluster`."""
    client = find_cluster().client

    def living() -> list[str]:
        return [
            job.submission_id
            for job in client.list_jobs()
            if (job.metadata or {}).get(RUN_ID) in run_ids and not job.status.is_terminal()
        ]

    for job in living():
        client.stop_job(job)
    deadline = time.monotonic() + _END_SECONDS
    while living() and time.monotonic() < deadline:
        time.sleep(0.5)


def _report(settings: Settings) -> Mapping[str, str]:
    """What must be the same on every machine that works on a run."""
    versions = {"python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
    for package in ("fer_pipeline", *_PACKAGES):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "missing"
    home = settings.home
    marked = home / "settings.toml"
    # The last run's settings: a home of the same name on another disk has others, or none.
    mark = file_digest(marked) if isinstance(home, Path) and marked.is_file() else "none"
    try:
        settings.open_dataset()
        data_set = "open"
    except InputError as error:
        data_set = str(error)
    return {**versions, "home": mark, "data set": data_set}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_report(Settings.load())) + "\n")
