"""Homes, runs and the command line for the tests of the graph.

What several test modules share belongs here; what they claim belongs to them. The one whole run
through the command line is made once a session, on the first demand.
"""

import contextlib
import functools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from fer_pipeline.build import PIPELINE_JOB, build_definitions
from fer_pipeline.core.answers import AnswerStore
from fer_pipeline.core.study import Study, order_for
from fer_pipeline.plan import AssetState, asset_states
from fer_pipeline.settings import Settings
from fer_pipeline_tests.core.small_study import answer_to

OWN_STREAM = "mood"
OWN_CLASSES = ("Happiness", "Sadness")
STREAMS = ("three_class", OWN_STREAM)
SMALL: Mapping[str, str] = {
    "FER_DEV_SHARE": "0.35",
    "FER_RESAMPLES": "200",
    "FER_WORKERS": "2",
    "FER_THREADS": "1",
}
"""Settings that make a hundred photos enough; given by the environment, to every command."""
SECRET = "a-secret-that-shows-nowhere"  # noqa: S105
SECRETS: Mapping[str, str] = {
    **dict.fromkeys(("FER_SERVE_TOKEN", "FER_REVIEW_PASSWORD", "PGPASSWORD"), SECRET),
    **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"), SECRET),
    "MLFLOW_TRACKING_PASSWORD": SECRET,
    # Nobody listens there, which stops no run.
    "FER_ALERT_URL": f"http://127.0.0.1:9/{SECRET}",
    "FER_ALERT_MAIL": f"smtp://ann:{SECRET}@127.0.0.1:9/?to=ann@example.org",
    "FER_MLFLOW_DATABASE": f"postgresql://fer:{SECRET}@127.0.0.1:9/mlflow",
    "FER_MLFLOW_FILES": "/nowhere",
}
"""What the one whole run has in its environment and must keep to itself."""
EARLY_ASSETS = (
    "file_list_index",
    "expression_summary",
    "class_manifest",
    "face_crops",
    "crop_report",
)
"""What needs no training framework."""


@dataclass(frozen=True)
class Ended:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        """The JSON object on the last line of stdout."""
        found: dict[str, Any] = json.loads(self.out.strip().splitlines()[-1])
        return found

    @property
    def words(self) -> str:
        """What was said to people, with the line breaks of the terminal taken out."""
        return " ".join(self.err.split())


def environment(**more: str) -> dict[str, str]:
    """This process' environment without anything that chooses a home, and the small settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FER_", "DAGSTER_", "MLFLOW_"))
    }
    return {**kept, "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "200", **SMALL, **more}


def command(*words: object) -> list[str]:
    """The command line of the fer-pipeline that is installed beside this Python."""
    return [str(Path(sys.executable).with_name("fer-pipeline")), *map(str, words)]


def fer_pipeline(*words: object, timeout: float = 500, **more: str) -> Ended:
    """Run a command to its end; `more` are variables of its environment."""
    ended = subprocess.run(
        command(*words),
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def run_words(root: Path, home: Path, streams: Sequence[str] = STREAMS) -> list[object]:
    """The words of a `run` on a drawn release."""
    chosen = [word for stream in streams for word in ("--stream", stream)]
    return [
        *("run", "--dataset", "affectnet", "--root", root, "--home", home),
        *("--preset", "smoke", "--unknown-labels", "reject", *chosen),
    ]


def new_home(folder: Path) -> Path:
    """A home with nothing but a stream of the user's own in its settings.toml."""
    folder.mkdir(parents=True)
    classes = ", ".join(f'"{name}"' for name in OWN_CLASSES)
    (folder / "settings.toml").write_text(f"[stream_classes]\n{OWN_STREAM} = [{classes}]\n")
    return folder


@dataclass(frozen=True)
class Finished:
    """A home on which the whole graph ran once, and how that run ended."""

    home: Path
    root: Path
    ended: Ended

    def copy(self, folder: Path) -> "Finished":
        """The same home in another place, free to be changed."""
        shutil.copytree(self.home, folder)
        return Finished(folder, self.root, self.ended)

    def settings(self, **options: Any) -> Settings:
        """The settings of this home, the small ones included."""
        return remembered(self.home, **options)


@functools.cache
def finished(root: Path) -> Finished:
    """The whole graph on a release, run once a session by the command line; not to be changed."""
    home = new_home(root.with_name("finished-home"))
    words = run_words(root, home)
    ended = fer_pipeline(*words, "--minutes", "0.05", "--json", timeout=500, **SECRETS)
    return Finished(home, root, ended)


def remembered(home: str | Path, **options: Any) -> Settings:
    """The settings that a home remembers, the small ones included, as a command would find them."""
    return Settings.load(home=home, **(_small() | options))


def small_settings(root: Path, home: Path, **options: Any) -> Settings:
    """Settings of a drawn release without what stands in the environment."""
    given: dict[str, Any] = {
        "home": home,
        "dataset": "affectnet",
        "root": root,
        "streams": ("three_class",),
        "preset": "smoke",
        "unknown_labels": "reject",
    }
    return Settings.fresh(**(given | _small() | options))


def materialize(
    settings: Settings, names: Sequence[str], instance: dg.DagsterInstance
) -> dg.ExecuteInProcessResult:
    """Make assets with their checks in this process."""
    job = build_definitions(settings).resolve_job_def(PIPELINE_JOB)
    return job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey.from_user_string(name) for name in names],
        raise_on_error=False,
    )


def make_behind(settings: Settings) -> set[str]:
    """Make in this process what the next run would make, and give the names.

    A run's own processes cost more than all that they do on so few photos: where a claim is about
    what comes out, and no command is looked at, this takes a third of the time.
    """
    behind = set(to_be_made(settings))
    if behind:
        with instance_of(settings.state_folder) as instance:
            assert materialize(settings, sorted(behind), instance).success
    return behind


@functools.cache
def early(root: Path) -> Settings:
    """A home with everything but models, made once a session in this process; not to be changed."""
    settings = small_settings(root, root.with_name("early-home"))
    with instance_of(settings.home) as instance:
        assert materialize(settings, EARLY_ASSETS, instance).success
    return settings


def early_copy(root: Path, folder: Path) -> Settings:
    """That home in another place, free to be changed."""
    settings = early(root)
    shutil.copytree(settings.home, folder)
    return settings.model_copy(update={"home": folder})


def instance_of(home: Path) -> dg.DagsterInstance:
    """The Dagster instance of a home, without a variable that names it."""
    configuration = home / "dagster" / "dagster.yaml"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    if not configuration.exists():
        configuration.write_text("telemetry: {enabled: false}\n")
    return dg.DagsterInstance.from_config(str(home / "dagster"))


def states(settings: Settings) -> dict[str, AssetState]:
    """The state of each asset of a home."""
    with instance_of(settings.state_folder) as instance:
        found = asset_states(build_definitions(settings), instance, settings)
    return {state.key.to_user_string(): state for state in found}


def to_be_made(settings: Settings) -> dict[str, str]:
    """What the next run would make, and why."""
    return {
        name: state.reason
        for name, state in states(settings).items()
        if state.reason and not state.on_demand
    }


def store_answers(
    settings: Settings, study: Study, annotator: str, answers: Mapping[int, str] | None = None
) -> None:
    """Answers of an annotator by item; without any, all items are answered with their labels."""
    order = order_for(study, annotator)
    answers = answers or dict(enumerate(study.items["expression"].to_pylist()))
    with contextlib.closing(AnswerStore(settings.answers_address)) as store:
        store.add_all(
            answer_to(study, item, text, annotator=annotator, shown_order=order.index(item))
            for item, text in answers.items()
        )


def tracked_runs(home: Path) -> dict[str, str]:
    """Status of each MLflow run of a home by its id, read past MLflow; none without its tables."""
    database = home / "mlflow" / "mlflow.db"
    if not database.is_file():
        return {}
    # A reader that may not write can't open what a process left that was killed in a write.
    address = f"{database.as_uri()}?mode=rw"
    with contextlib.closing(sqlite3.connect(address, uri=True, timeout=60)) as connection:
        tables = {name for (name,) in connection.execute("select name from sqlite_master")}
        if "runs" not in tables:
            return {}
        return dict(connection.execute("select run_uuid, status from runs").fetchall())


def _small() -> dict[str, Any]:
    return {name.removeprefix("FER_").lower(): json.loads(value) for name, value in SMALL.items()}
