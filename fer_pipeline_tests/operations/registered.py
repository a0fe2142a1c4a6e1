"""A home with runs, models and versions in MLflow, without a training."""

import tempfile
from pathlib import Path

from fer_pipeline import tracking
from fer_pipeline.core.challenge import Verdict
from fer_pipeline.registry import Registry
from fer_pipeline.settings import Settings

STREAM = "three_class"


def register(settings: Settings, *, crops: str = "none", stream: str = STREAM) -> str:
    """Register one more version of a stream, with a model and a run of its own; its number."""
    registry = Registry(settings, stream)
    client = tracking.connect(settings)
    if not registry.versions() and not client.search_registered_models():
        client.create_registered_model(registry.name)
    with tracking.training_run(settings, f"{stream}/trained_model", {}, "a training") as run:
        run.log_parameters({"crop_settings": crops})
        run.log_metrics({"final_accuracy": 0.5})
        run.log_json({"seed": 1}, "training_settings.json")
        model = client.create_logged_model(
            client.get_run(run.run_id).info.experiment_id, name="model", source_run_id=run.run_id
        )
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "model.keras").write_bytes(run.run_id.encode() * 40)
            Path(folder, "MLmodel").write_text(f"artifact_path: {model.artifact_location}\n")
            client.log_model_artifacts(model.model_id, folder)
        client.finalize_logged_model(model.model_id, "READY")
    source, model_id = f"models:/{model.model_id}", model.model_id
    version = client.create_model_version(registry.name, source, run.run_id, model_id=model_id)
    return str(version.version)


def promote(settings: Settings, version: str) -> None:
    """Make a version the champion."""
    registry = Registry(settings, STREAM)
    before = registry.champion()
    verdict = Verdict.FIRST if before is None else Verdict.PROMOTED
    registry.decide(verdict, version, before=before, by="run a", why="the gain holds")


def model_bytes(settings: Settings, version: str) -> bytes:
    """What the model file of a version holds, as MLflow finds it."""
    import mlflow

    tracking.connect(settings)
    name = tracking.registered_name(STREAM)
    folder = mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{name}/{version}")
    return Path(folder, "model.keras").read_bytes()
