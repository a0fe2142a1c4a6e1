"""The index and its summary, called directly."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow.parquet as pq
import pytest

from fer_pipeline.assets.index import LISTS_DIGEST, index_assets
from fer_pipeline.assets.manifest import manifest_assets
from fer_pipeline.core.datasets.affectnet import AffectNet
from fer_pipeline.core.datasets.base import Photo
from fer_pipeline.core.index import INDEX_FILE, REJECTED_FILE, lists_digest
from fer_pipeline.core.labels import NAMES
from fer_pipeline.core.read_ahead import Stored
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph

COLUMNS = [
    "Expression Code",
    "Expression Name",
    "Count (Total)",
    "Count (Manually-Annotated)",
    "Count (Auto-Annotated)",
]


def _make(asset: int, settings: Settings) -> dict[str, Any]:
    """Metadata of one of the group's assets, called directly; pictures and tables as text."""
    made = index_assets(settings)[asset](dg.build_asset_context(), settings=settings)
    assert isinstance(made, dg.MaterializeResult)
    assert made.data_version is not None
    return {name: getattr(value, "value", value) for name, value in (made.metadata or {}).items()}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, drawn_release: Path) -> Settings:
    return graph.small_settings(drawn_release, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def index(settings: Settings) -> dict[str, Any]:
    return _make(0, settings)


@pytest.fixture(scope="module")
def summary(settings: Settings, index: dict[str, Any]) -> dict[str, Any]:
    assert index["rows_read"]
    return _make(1, settings)


def test_rows_told_are_the_rows_published(settings: Settings, index: dict[str, Any]) -> None:
    kept = pq.read_table(settings.index_folder / INDEX_FILE)
    rejected = pq.read_table(settings.index_folder / REJECTED_FILE)
    assert index["dagster/row_count"] == kept.num_rows
    assert index["rows_rejected"] == rejected.num_rows > 0
    assert index["rows_read"] == kept.num_rows + rejected.num_rows
    assert index["path"] == str(settings.index_folder / INDEX_FILE)


def test_state_of_the_lists_is_kept_with_the_index(
    settings: Settings, index: dict[str, Any]
) -> None:
    assert index[LISTS_DIGEST] == lists_digest(settings.open_dataset())


def test_reasons_of_rejection_are_shown_as_a_table(index: dict[str, Any]) -> None:
    assert "| unsafe_path | 1 |" in index["rejected_by_reason"]
    assert "| unknown_label | 1 |" in index["rejected_by_reason"]


def test_index_without_a_data_set_fails_with_the_remedy(tmp_path: Path) -> None:
    settings = Settings.fresh(home=tmp_path)
    with pytest.raises(dg.Failure, match="fer-pipeline run --dataset NAME --root DIR") as caught:
        _make(0, settings)
    assert not caught.value.allow_retries
    assert "wrong_input" in caught.value.metadata


def test_summary_has_the_columns_of_the_notebooks(
    settings: Settings, summary: dict[str, Any]
) -> None:
    table = pd.read_csv(summary["path"], keep_default_na=False)
    assert table.columns.tolist() == COLUMNS
    assert set(table["Expression Name"]) == set(NAMES)
    rows = pq.read_table(settings.index_folder / INDEX_FILE)
    assert table["Count (Total)"].sum() == rows.num_rows
    parts = table["Count (Manually-Annotated)"] + table["Count (Auto-Annotated)"]
    assert (parts == table["Count (Total)"]).all()
    assert table["Count (Total)"].is_monotonic_decreasing


def test_summary_shows_table_charts_and_sample_photos(
    settings: Settings, summary: dict[str, Any]
) -> None:
    assert summary["table"].startswith("| Expression Code | Expression Name | Count (Total) |")
    for name in ("all_classes", "wanted_classes", "sample_photos"):
        assert summary[name].startswith("![")
        assert ";base64," in summary[name]
        # The event log holds every picture of every materialization.
        assert len(summary[name]) < 300_000
        assert (settings.index_folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_photos_are_read_within_the_bound_of_their_bytes(
    settings: Settings, summary: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert summary
    read, asked = AffectNet.read_photos, []

    def noted(
        dataset: AffectNet, photos: Sequence[Photo], max_bytes: int | None = None
    ) -> Iterator[Stored]:
        asked.append(max_bytes)
        return read(dataset, photos, max_bytes)

    monkeypatch.setattr(AffectNet, "read_photos", noted)
    bounded = settings.model_copy(update={"max_file_bytes": 9_999})
    _make(1, bounded)
    manifest_assets(bounded)[0](dg.build_asset_context(), settings=bounded)
    assert len(asked) > 1
    assert set(asked) == {9_999}
