"""Each format through index, manifest and crops of the one graph, checks included."""

from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq

from fer_pipeline.core.crop_set import read_crop_set
from fer_pipeline.core.manifest import read_manifest
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.core.parquet_faces import FER, write_split


def _made(settings: Settings, *names: str) -> dict[str, dict[str, Any]]:
    """Metadata of these assets, made in this process; every check of them passed or warned."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = graph.materialize(settings, names, instance)
        assert result.success
        made = {
            event.asset_key.to_user_string(): event.materialization.metadata
            for event in result.get_asset_materialization_events()
            if event.asset_key is not None
        }
    return {
        name: {label: value.value for label, value in metadata.items()}
        for name, metadata in made.items()
    }


def test_pictures_that_are_faces_go_through_the_same_graph(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    votes = [[8 if place == label else 0 for place in range(7)] + [2, 0, 0] for label in range(7)]
    columns = [*FER, "contempt", "unknown", "NF"]
    write_split(root, "train", [*range(7)] * 12, votes=votes * 12, vote_columns=columns)
    write_split(root, "validation", [*range(7)] * 2, votes=votes * 2, vote_columns=columns)
    settings = graph.small_settings(
        root, tmp_path / "home", dataset="hf-parquet", streams=("seven_class",)
    )
    for label_source in ("listed", "votes"):
        chosen = settings.model_copy(update={"label_source": label_source})
        made = _made(chosen, *graph.EARLY_ASSETS)
        assert made["file_list_index"]["rows_read"] == 98
        manifest = read_manifest(chosen.manifest_folder).to_pandas()
        # Without a test file, validation is the locked test and dev is carved from train.
        assert set(manifest[manifest["list"] == "validation"]["split"]) == {"test"}
        assert set(manifest[manifest["list"] == "train"]["split"]) == {"train", "dev"}
        crop_set = read_crop_set(chosen.crops_folder, verify=True)
        assert crop_set.statuses["ok"] == 98
        assert crop_set.settings.detect == "whole"


def test_real_release_reaches_its_crops_with_every_row_accounted_for(
    real_data: Path, tmp_path: Path
) -> None:
    settings = Settings.fresh(
        home=tmp_path, dataset="affectnet", root=real_data / "affectnet-layout", preset="cpu"
    )
    made = _made(settings, *graph.EARLY_ASSETS)
    index = made["file_list_index"]
    assert index["rows_read"] == 1606
    assert index["dagster/row_count"] + index["rows_rejected"] == index["rows_read"]
    faces = read_crop_set(settings.crops_folder).statuses
    assert sum(faces.values()) == made["class_manifest"]["dagster/row_count"]
    assert faces["ok"] > 0.95 * sum(faces.values())
    assert faces["missing"] > 0
    assert faces["unreadable"] > 0


def test_fer2013_has_its_validation_list_locked_and_a_carved_dev(
    real_data: Path, tmp_path: Path
) -> None:
    settings = Settings.fresh(
        home=tmp_path,
        dataset="hf-parquet",
        root=real_data / "fer2013",
        streams=("seven_class",),
        preset="cpu",
    )
    made = _made(settings, "file_list_index", "class_manifest")
    assert made["file_list_index"]["rows_read"] == 28_709 + 3_589
    assert made["file_list_index"]["rows_rejected"] == 0
    manifest = pq.read_table(made["class_manifest"]["path"]).to_pandas()
    sides = manifest.groupby(["list", "split"]).size()
    assert sides["validation", "test"] > 3_300
    assert 0.08 < sides["train", "dev"] / sides["train"].sum() < 0.12
    assert ("train", "test") not in sides
