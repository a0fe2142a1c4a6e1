"""A training through the command line, and `run --like` it."""

import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.graph import Ended, fer_pipeline

STREAM = "three_class"
TRAINED = {
    f"{STREAM}/{name}"
    for name in ("trained_model", "evaluation_report", "human_error_report", "champion")
}
SEED, MARGIN = 4, 0.2
OWN = {
    "FER_RECIPE_OVERRIDES": '{"min_epochs": "2", "max_epochs": "2"}',
    "FER_CROP_MARGIN": str(MARGIN),
}
"""Given by the environment, and left out when the run is repeated."""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, drawn_release: Path) -> Path:
    """A release whose lists may be changed."""
    return Path(shutil.copytree(drawn_release, tmp_path_factory.mktemp("repeat") / "release"))


@pytest.fixture(scope="module")
def home(release: Path) -> Path:
    """A home with everything but a model, made as the training below wants it."""
    folder = release.with_name("home")
    settings = graph.small_settings(release, folder, seed=SEED, crop_margin=MARGIN)
    with graph.instance_of(folder) as instance:
        assert graph.materialize(settings, graph.EARLY_ASSETS, instance).success
    return folder


@pytest.fixture(scope="module")
def first(release: Path, home: Path) -> Ended:
    """A training of a stream with a seed and a recipe of its own."""
    words = graph.run_words(release, home, [STREAM])
    return fer_pipeline(*words, "--seed", SEED, "--json", timeout=900, **OWN)


def _mlflow_run(ended: Ended) -> str:
    return str(ended.answer["streams"][STREAM]["mlflow_run_id"])


@pytest.fixture(scope="module")
def again(home: Path, first: Ended) -> Ended:
    """The same once more, in a home where another seed was used last."""
    assert first.code == 0, first.err
    Settings.load(home=home).model_copy(update={"seed": 5, "minutes": 9}).remember()
    return fer_pipeline("run", "--home", home, "--like", _mlflow_run(first), "--json", timeout=900)


def test_run_like_another_trains_once_more_and_scores_exactly_the_same(
    first: Ended, again: Ended
) -> None:
    assert again.code == 0, again.err
    assert set(first.answer["made"]) == {*TRAINED, f"{STREAM}/relabel_sample"}
    found: dict[str, Any] = again.answer
    assert set(found["made"]) == TRAINED
    assert _mlflow_run(again) != _mlflow_run(first)
    assert found["like"]["run_id"] == _mlflow_run(first)
    assert found["like"]["same_manifest"]
    dev = found["like"]["dev"][STREAM]
    assert set(dev["was"]) == {"dev_accuracy", "dev_macro_f1", "dev_nll"}
    assert dev["now"] == dev["was"]
    assert "(as it was)" in again.words
    assert "will differ" not in again.words
    for name in ("accuracy", "macro_f1", "ece"):
        assert found["streams"][STREAM][name] == first.answer["streams"][STREAM][name]


def test_run_that_is_repeated_says_where_the_manifest_and_options_are_others(
    home: Path, first: Ended, again: Ended
) -> None:
    assert again.code == 0, again.err
    with graph.instance_of(home) as instance:
        key = dg.AssetKey([STREAM, "trained_model"])
        records = instance.fetch_materializations(key, limit=2).records
    dagster_run = records[-1].event_log_entry.run_id
    lists = next(iter(Settings.load(home=home).open_dataset().lists().values()))[0]
    rows = lists.read_bytes().splitlines(keepends=True)
    lists.write_bytes(b"".join([*rows[:2], *rows[3:]]))
    ended = fer_pipeline(
        *("run", "--home", home, "--like", dagster_run, "--minutes", 0.05, "--json"),
        *("--select", "class_manifest"),
    )
    assert ended.code == 0, ended.err
    assert set(ended.answer["made"]) == {"file_list_index", "class_manifest"}
    assert not ended.answer["like"]["same_manifest"]
    assert ended.answer["manifest_hash"] != first.answer["manifest_hash"]
    assert f"run {dagster_run} trained on {first.answer['manifest_hash']}" in ended.words
    assert "minutes 0.05, was not set" in ended.words
