"""The class manifest, called directly."""

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fer_pipeline.assets import manifest as manifest_asset
from fer_pipeline.assets.manifest import manifest_assets
from fer_pipeline.core.corrections import (
    Correction,
    append_corrections,
    corrections_digest,
    read_corrections,
)
from fer_pipeline.core.labels import CODES
from fer_pipeline.core.manifest import FILE_LIST, manifest_hash, read_manifest
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph


def _make(settings: Settings) -> tuple[str, dict[str, Any]]:
    """Data version and metadata of the manifest, called directly."""
    made = manifest_assets(settings)[0](dg.build_asset_context(), settings=settings)
    assert isinstance(made, dg.MaterializeResult)
    assert made.data_version is not None
    return made.data_version.value, {
        name: getattr(value, "value", value) for name, value in (made.metadata or {}).items()
    }


@pytest.fixture
def settings(tmp_path: Path, drawn_release: Path) -> Settings:
    return graph.early_copy(drawn_release, tmp_path / "home")


def test_content_hash_of_the_manifest_is_its_data_version(settings: Settings) -> None:
    version, metadata = _make(settings)
    assert version == manifest_hash(read_manifest(settings.manifest_folder))
    assert metadata["manifest_hash"] == version
    assert _make(settings)[0] == version


def test_another_seed_is_another_data_version(settings: Settings) -> None:
    assert _make(settings)[0] != _make(settings.model_copy(update={"seed": 1}))[0]


def test_manifest_holds_the_streams_classes_and_no_other(settings: Settings) -> None:
    _, metadata = _make(settings)
    manifest = read_manifest(settings.manifest_folder)
    wanted = {CODES[name] for name in ("Happiness", "Sadness", "Surprise")}
    assert set(manifest["expression"].to_pylist()) == wanted
    assert metadata["dagster/row_count"] == manifest.num_rows
    assert metadata["class_by_split"].startswith("| class |")


def test_rows_left_out_are_told_with_their_reason(settings: Settings) -> None:
    _, metadata = _make(settings)
    summary = metadata["summary"]
    assert summary["rows"] + sum(summary["left_out"].values()) == summary["rows_indexed"]
    assert summary["left_out"]["other_class"] > 0


def test_file_list_names_every_face_and_its_expression(settings: Settings) -> None:
    _make(settings)
    with (settings.manifest_folder / FILE_LIST).open(newline="") as file:
        rows = list(csv.DictReader(file))
    manifest = read_manifest(settings.manifest_folder)
    assert [row["face_id"] for row in rows] == manifest["face_id"].to_pylist()
    assert {row["expression_name"] for row in rows} == {"Happiness", "Sadness", "Surprise"}


def test_votes_of_a_data_set_without_votes_fail_with_the_remedy(settings: Settings) -> None:
    with pytest.raises(dg.Failure, match="use --label-source listed") as caught:
        _make(settings.model_copy(update={"label_source": "votes"}))
    assert "wrong_input" in caught.value.metadata


def test_a_correction_added_while_the_file_is_read_is_new_to_the_next_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = settings.corrections_file
    header = "face_id,old,new,who,when,study\n"
    path.write_text(header)
    before = corrections_digest(path)

    def overtaken(path: Path) -> list[Correction]:
        found = read_corrections(path)
        path.write_text(header + "\n")
        return found

    monkeypatch.setattr(manifest_asset, "read_corrections", overtaken)
    assert _make(settings)[1]["corrections_digest"] == before != corrections_digest(path)


def test_a_correction_of_a_test_face_remakes_nothing_and_one_of_training_does(
    settings: Settings,
) -> None:
    def reason() -> str | None:
        return graph.states(settings)["class_manifest"].reason

    columns = ["face_id", "expression", "split"]
    rows = read_manifest(settings.manifest_folder, columns).to_pylist()
    happy = [row for row in rows if row["expression"] == CODES["Happiness"]]
    assert reason() is None
    for split, expected in (("test", None), ("train", "the corrections changed")):
        face = next(row["face_id"] for row in happy if row["split"] == split)
        line = Correction(face, "Happiness", "Sadness", "Ann", datetime.now(UTC), "a/b")
        assert append_corrections(settings.corrections_file, [line]) == 1
        assert reason() == expected
    settings.corrections_file.unlink()
    assert reason() is None
