"""What the process that steps are forked from is to load before the first of them."""

from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from fer_pipeline.build import PIPELINE_JOB, build_definitions
from fer_pipeline.executors import executor_for
from fer_pipeline.settings import Settings


@pytest.mark.parametrize(
    ("asset", "more"),
    [
        ("face_crops", []),
        ("three_class/relabel_sample", []),
        ("three_class/trained_model", ["fer_pipeline.preload_models"]),
        ("three_class/evaluation_report", ["fer_pipeline.preload_models"]),
        ("three_class/label_issues", ["fer_pipeline.preload_models"]),
    ],
)
def test_modules_of_training_are_loaded_for_a_run_that_trains_or_scores(
    tmp_path: Path, asset: str, more: list[str]
) -> None:
    settings = Settings.fresh(home=tmp_path, streams=("three_class",))
    job = build_definitions(settings).resolve_job_def(PIPELINE_JOB)
    chosen = job.get_subset(asset_selection={dg.AssetKey.from_user_string(asset)})
    create = executor_for(settings).executor_creation_fn
    assert create is not None
    made = create(SimpleNamespace(job=SimpleNamespace(get_definition=lambda: chosen)))
    assert made._explicit_forkserver_preload == ["fer_pipeline.preload", *more]
