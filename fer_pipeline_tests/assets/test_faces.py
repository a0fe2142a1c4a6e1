"""Crops and their report: through the graph, and each called directly."""

import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow.parquet as pq
import pytest

from fer_pipeline.assets.faces import (
    crop_shard,
    face_assets,
    plan_crop_shards,
    publish_crops,
    verified_crop_set,
)
from fer_pipeline.core.crop_set import CROPS_LIST, read_crop_set
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.manifest import manifest_hash, read_manifest
from fer_pipeline.core.worklist import read_slice
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph


@pytest.fixture(scope="module")
def early(drawn_release: Path) -> Settings:
    return graph.early(drawn_release)


@pytest.fixture
def settings(tmp_path: Path, drawn_release: Path) -> Settings:
    return graph.early_copy(drawn_release, tmp_path / "home")


def _crops(settings: Settings) -> dict[str, Any]:
    """Metadata of face_crops, made again in this process."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = graph.materialize(settings, ["face_crops"], instance)
        assert result.success
        (made,) = result.asset_materializations_for_node("face_crops.publish_crops")
    return {name: value.value for name, value in made.metadata.items()}


def _report(settings: Settings) -> dict[str, Any]:
    """Metadata of crop_report, called directly."""
    made = face_assets(settings)[1](settings=settings)
    assert isinstance(made, dg.MaterializeResult)
    return {name: getattr(value, "value", value) for name, value in (made.metadata or {}).items()}


def test_every_face_of_the_manifest_has_a_status(early: Settings) -> None:
    manifest = read_manifest(early.manifest_folder)
    crop_set = read_crop_set(early.crops_folder, verify=True)
    faces = [face for path in crop_set.paths for face in pq.read_table(path)["face_id"].to_pylist()]
    assert faces == manifest["face_id"].to_pylist()
    assert sum(crop_set.statuses.values()) == manifest.num_rows
    assert crop_set.statuses["ok"] > 0.8 * manifest.num_rows


def test_one_shard_is_planned_for_each_slice(settings: Settings) -> None:
    rows = read_manifest(settings.manifest_folder).num_rows
    smaller = settings.model_copy(update={"shard_rows": 30})
    outputs = list(plan_crop_shards(dg.build_op_context(), settings=smaller))
    parts = [read_slice(settings.crops_folder, number)[0] for number in range(len(outputs))]
    assert [output.value for output in outputs] == [
        {"number": part.number, "faces": part.rows} for part in parts
    ]
    assert sum(part.rows for part in parts) == rows
    assert len(outputs) > 1
    assert max(part.rows for part in parts) <= 30


def test_shards_that_a_retry_left_out_are_made_when_they_are_published(settings: Settings) -> None:
    smaller = settings.model_copy(update={"shard_rows": 30})
    whole = _crops(smaller)
    shutil.rmtree(settings.crops_folder)
    first, *rest = [
        output.value for output in plan_crop_shards(dg.build_op_context(), settings=smaller)
    ]
    assert rest
    # As Dagster retries from failure: shards that no step had begun are neither made nor told of.
    made = crop_shard(dg.build_op_context(), settings=smaller, part=first)
    (output,) = publish_crops(dg.build_op_context(), settings=smaller, shards=[made])
    assert output.data_version == dg.DataVersion(
        read_crop_set(settings.crops_folder, verify=True).content_hash
    )
    metadata = {name: getattr(one, "value", one) for name, one in output.metadata.items()}
    assert metadata["faces_made"] == metadata["dagster/row_count"] == whole["dagster/row_count"]
    assert metadata["shards"] == whole["shards"] == 1 + len(rest)


def test_shards_that_are_there_are_carried_over(settings: Settings) -> None:
    before = read_crop_set(settings.crops_folder).content_hash
    found = _crops(settings)
    assert (found["faces_made"], found["shards"]) == (0, 1)
    assert found["faces_carried_over"] == found["dagster/row_count"]
    assert "faces_per_second" not in found
    assert read_crop_set(settings.crops_folder, verify=True).content_hash == before


def test_only_a_damaged_shard_is_written_again(settings: Settings) -> None:
    settings = settings.model_copy(update={"shard_rows": 20})
    assert _crops(settings)["faces_made"] == 0
    before = read_crop_set(settings.crops_folder)
    shard = before.paths[1]
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    found = _crops(settings)
    assert found["faces_made"] == before.shards[1].rows
    assert found["faces_per_second"] > 0
    assert read_crop_set(settings.crops_folder, verify=True).content_hash == before.content_hash


def test_shards_of_another_slicing_are_removed(settings: Settings) -> None:
    _crops(settings.model_copy(update={"shard_rows": 20}))
    assert len(list(settings.crops_folder.glob("shard-*"))) > 1
    _crops(settings)
    assert len(list(settings.crops_folder.glob("shard-*"))) == 1


def test_report_lists_the_faces_that_have_no_crop(settings: Settings) -> None:
    metadata = _report(settings)
    crop_set = read_crop_set(settings.crops_folder)
    failed = pd.read_csv(metadata["path"])
    assert len(failed) == metadata["failed_faces"]
    assert len(failed) == sum(crop_set.statuses.values()) - crop_set.statuses["ok"] > 0
    assert failed["reason"].notna().all()
    assert set(failed["status"]) <= set(crop_set.statuses)
    assert f"| ok | {crop_set.statuses['ok']} |" in metadata["faces"]
    assert failed["image_path"][0] in metadata["first_failed"]


def test_report_shows_a_sheet_of_crops(settings: Settings) -> None:
    metadata = _report(settings)
    assert ";base64," in metadata["contact_sheet"]
    assert len(metadata["contact_sheet"]) < 300_000


def test_agreement_of_detector_and_list_is_told_where_both_speak(settings: Settings) -> None:
    both = settings.model_copy(update={"detect": "always"})
    _crops(both)
    metadata = _report(both)
    assert 0.4 < metadata["median_iou"] <= 1
    assert metadata["iou_over_0.4"] > 0.8
    assert "median_iou" not in _report(settings)


def test_report_without_crops_fails_with_the_remedy(settings: Settings) -> None:
    (settings.crops_folder / CROPS_LIST).unlink()
    with pytest.raises(dg.Failure, match="materialize face_crops first"):
        _report(settings)


def test_crops_of_another_manifest_are_refused(early: Settings) -> None:
    manifest = read_manifest(early.manifest_folder)
    crop_set = verified_crop_set(early, manifest_hash(manifest))
    assert crop_set.manifest_hash == manifest_hash(manifest)
    with pytest.raises(InputError, match="materialize face_crops again"):
        verified_crop_set(early, "0" * 16)


def test_changed_shard_is_refused(settings: Settings) -> None:
    manifest = read_manifest(settings.manifest_folder)
    (shard,) = settings.crops_folder.glob("shard-*.parquet")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(InputError, match="was changed: materialize face_crops again"):
        verified_crop_set(settings, manifest_hash(manifest))
