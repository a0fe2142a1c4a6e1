"""What a model has learned from by what MLflow's runs tell: lists that go from model to model."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from fer_pipeline import tracking
from fer_pipeline.repeat import TRAINING_SETTINGS
from fer_pipeline.settings import Settings
from fer_pipeline.training_groups import (
    SCHEMA,
    TRAINING_GROUPS,
    UNKNOWN_START_TAG,
    Learned,
    joined,
    learned_by,
    unknown_start,
)

HERE, THERE = "/data/here", "/data/there"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with nothing but MLflow's database."""
    return Settings.fresh(home=tmp_path_factory.mktemp("tracking"))


def _rows(*rows: tuple[str, str, str]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)


def _run(
    store: Settings,
    groups: pa.Table | None,
    *,
    init: str | None = None,
    told: dict[str, Any] | None = None,
    **tags: str,
) -> str:
    """A run that kept a list, what it started from and its settings, as a training keeps them."""
    with tracking.training_run(store, "mood/trained_model", tags, "name") as run:
        run.log_parameters({"init": init})
        if told is not None:
            run.log_json(told, TRAINING_SETTINGS)
        if groups is not None:
            run.log_parquet(groups, TRAINING_GROUPS)
    return run.run_id


def _learned(store: Settings, run_id: str, **roots: str) -> tuple[list[tuple[str, ...]], bool]:
    """What the model of a run has learned from, seen from data sets of these names and roots."""
    parts = [SimpleNamespace(name=name, root=root) for name, root in roots.items()]
    dataset: Any = SimpleNamespace(parts=lambda: parts)
    found = learned_by(store, f"runs:/{run_id}/model", dataset)
    return [tuple(row.values()) for row in found.groups.to_pylist()], found.complete


def test_list_of_a_training_is_taken_over_whole(store: Settings) -> None:
    rows = [("a", "csv", HERE), ("b", "folders", THERE)]
    run_id = _run(store, _rows(*rows), init="models:/fer-mood/1")
    assert _learned(store, run_id, csv=HERE) == (rows, True)
    assert unknown_start(store, run_id) is None


def test_what_is_not_known_of_a_model_is_not_known_of_those_that_start_from_it(
    store: Settings,
) -> None:
    rows = [("a", "csv", HERE)]
    run_id = _run(store, _rows(*rows), init="starter", **{UNKNOWN_START_TAG: "starter"})
    assert unknown_start(store, run_id) == "starter"
    assert _learned(store, run_id, csv=HERE) == (rows, False)


def test_photos_of_another_data_set_of_the_same_name_are_not_taken_for_those_of_this_one(
    store: Settings,
) -> None:
    run_id = _run(store, _rows(("a", "csv", THERE), ("b", "fer2013", THERE)))
    assert _learned(store, run_id, csv=HERE) == ([("b", "fer2013", THERE)], False)
    assert _learned(store, run_id, csv=THERE, fer2013=THERE)[1]


def test_list_of_an_earlier_version_is_of_the_data_sets_of_its_settings(store: Settings) -> None:
    old = pa.table({"group_id": ["a", "b"]})
    told = {"dataset": "csv", "root": HERE, "datasets": []}
    run_id = _run(store, old, told=told)
    assert _learned(store, run_id, csv=HERE) == ([("a", "csv", HERE), ("b", "csv", HERE)], True)
    assert _learned(store, run_id, csv=THERE) == ([], False)
    mixed = {"datasets": [{"dataset": "csv", "root": HERE}, {"dataset": "csv", "root": THERE}]}
    run_id = _run(store, old.slice(0, 1), told=mixed)
    rows = [("a", "csv", HERE), ("a", "csv-2", THERE)]
    assert _learned(store, run_id, csv=HERE) == (rows, True)
    # It took over no list itself.
    run_id = _run(store, old, told=told, init="models:/fer-mood/1")
    assert unknown_start(store, run_id) == "models:/fer-mood/1"
    assert not _learned(store, run_id, csv=HERE)[1]


def test_of_a_model_without_a_list_nothing_is_known(store: Settings, tmp_path: Path) -> None:
    assert _learned(store, _run(store, None), csv=HERE) == ([], False)
    assert _learned(store, "0" * 32, csv=HERE) == ([], False)
    dataset: Any = SimpleNamespace(parts=tuple)
    for name in ("starter", str(tmp_path / "mine.keras")):
        assert learned_by(store, name, dataset) == Learned(SCHEMA.empty_table(), complete=False)


def test_two_lists_are_one_with_each_row_once() -> None:
    one, other = _rows(("b", "csv", HERE)), _rows(("a", "csv", HERE), ("b", "csv", HERE))
    assert joined(one, other).equals(other)
