"""What is current and what isn't, and the reason that is given."""

import os
import shutil
from pathlib import Path

import dagster as dg
import pytest

from fer_pipeline.build import PIPELINE_JOB, build_definitions
from fer_pipeline.core.crop_set import read_crop_set
from fer_pipeline.core.manifest import MANIFEST_FILE, read_manifest
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph

TRAINED = ("three_class/trained_model", "three_class/evaluation_report")


def _reasons(settings: Settings) -> dict[str, str | None]:
    return {name: state.reason for name, state in graph.states(settings).items()}


def _root(settings: Settings) -> Path:
    assert settings.root is not None
    return settings.root


@pytest.fixture(scope="session")
def early(drawn_release: Path) -> Settings:
    return graph.early(drawn_release)


def test_nothing_is_current_in_a_new_home(early: Settings, tmp_path: Path) -> None:
    settings = early.model_copy(update={"home": tmp_path})
    assert set(_reasons(settings).values()) == {"never made"}


def test_upstream_comes_before_downstream(early: Settings) -> None:
    states = graph.states(early)
    names = list(states)
    for name, state in states.items():
        for parent in state.parents:
            assert names.index(parent.to_user_string()) < names.index(name)


def test_what_was_made_is_current_and_the_rest_is_not(early: Settings) -> None:
    reasons = _reasons(early)
    assert {name for name, reason in reasons.items() if reason is None} == set(graph.EARLY_ASSETS)
    assert {reasons[name] for name in TRAINED} == {"never made"}


def test_another_seed_remakes_what_depends_on_it(early: Settings) -> None:
    reasons = _reasons(early.model_copy(update={"seed": 1}))
    assert reasons["file_list_index"] is None
    assert reasons["expression_summary"] == "settings or code changed"
    assert reasons["class_manifest"] == "settings or code changed"
    assert reasons["face_crops"] == "class_manifest is remade"


def test_other_crop_settings_remake_crops_but_not_the_manifest(early: Settings) -> None:
    reasons = _reasons(early.model_copy(update={"crop_margin": 0.3}))
    assert reasons["class_manifest"] is None
    assert reasons["face_crops"] == "settings or code changed"
    assert reasons["crop_report"] == "face_crops is remade"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, drawn_release: Path) -> Settings:
    """A home and a release of its own, free to be changed; `_make` begins each test."""
    folder = tmp_path_factory.mktemp("own")
    root = folder / "release"
    shutil.copytree(drawn_release, root)
    return graph.small_settings(root, folder / "home")


def _make(settings: Settings) -> None:
    """Make index and manifest, and so everything that the tests below look at, current."""
    with graph.instance_of(settings.home) as instance:
        made = graph.materialize(settings, ["file_list_index", "class_manifest"], instance)
    assert made.success
    assert _reasons(settings)["class_manifest"] is None


def test_deleted_file_remakes_its_asset(own: Settings) -> None:
    _make(own)
    (own.manifest_folder / MANIFEST_FILE).unlink()
    reasons = _reasons(own)
    assert reasons["file_list_index"] is None
    assert reasons["class_manifest"] == f"{MANIFEST_FILE} is gone"


def test_edited_list_remakes_the_index(own: Settings) -> None:
    _make(own)
    path = next(iter(own.open_dataset().lists().values()))[0]
    kept = path.read_bytes()
    path.write_bytes(kept + b"\r\n")
    assert _reasons(own)["file_list_index"] == "the list files changed"
    assert _reasons(own)["class_manifest"] == "file_list_index is remade"


def test_touched_list_of_the_same_content_remakes_nothing(own: Settings) -> None:
    _make(own)
    for path in next(iter(own.open_dataset().lists().values())):
        os.utime(path)
    assert _reasons(own)["file_list_index"] is None


def test_deleted_shard_remakes_the_crops(early: Settings, tmp_path: Path) -> None:
    settings = graph.early_copy(_root(early), tmp_path / "home")
    assert _reasons(settings)["face_crops"] is None
    (shard,) = settings.crops_folder.glob("shard-*.parquet")
    shard.unlink()
    assert _reasons(settings)["face_crops"] == f"{shard.name} is gone"


@pytest.mark.parametrize("pattern", ["shard-*.parquet", "crops.json"])
def test_damaged_crops_are_told_and_made_again(
    early: Settings, tmp_path: Path, pattern: str
) -> None:
    settings = graph.early_copy(_root(early), tmp_path / "home")
    (damaged,) = settings.crops_folder.glob(pattern)
    damaged.write_bytes(damaged.read_bytes()[:20])
    reasons = _reasons(settings)
    assert reasons["class_manifest"] is None
    assert reasons["face_crops"] == f"{damaged.name} was changed"
    with graph.instance_of(settings.home) as instance:
        assert graph.materialize(settings, ["face_crops"], instance).success
    assert _reasons(settings)["face_crops"] is None


def test_photo_that_comes_later_is_cropped_on_the_next_run(
    drawn_release: Path, tmp_path: Path
) -> None:
    root = tmp_path / "release"
    shutil.copytree(drawn_release, root)
    settings = graph.small_settings(root, tmp_path / "home")
    faces = graph.early(drawn_release)
    row = read_manifest(faces.manifest_folder).slice(0, 1).to_pylist()[0]
    (gone,) = root.rglob(Path(row["image_path"]).name)
    away = gone.rename(tmp_path / gone.name)
    names = ["file_list_index", "class_manifest", "face_crops"]
    with graph.instance_of(settings.home) as instance:
        assert graph.materialize(settings, names, instance).success
    before = read_crop_set(settings.crops_folder).statuses
    assert _reasons(settings)["face_crops"] is None
    away.rename(gone)
    reasons = _reasons(settings)
    # It may be a copy of a photo on another side, which the manifest finds out.
    assert "came or changed" in str(reasons["class_manifest"])
    assert reasons["face_crops"] == "class_manifest is remade"
    with graph.instance_of(settings.home) as instance:
        assert graph.materialize(settings, names[1:], instance).success
    after = read_crop_set(settings.crops_folder).statuses
    assert after["missing"] < before["missing"]
    assert _reasons(settings)["face_crops"] is None


def test_photo_that_comes_before_there_are_crops_remakes_the_manifest(
    drawn_release: Path, tmp_path: Path
) -> None:
    root = tmp_path / "release"
    shutil.copytree(drawn_release, root)
    row = read_manifest(graph.early(drawn_release).manifest_folder).slice(0, 1).to_pylist()[0]
    (gone,) = root.rglob(Path(row["image_path"]).name)
    away = gone.rename(tmp_path / gone.name)
    settings = graph.small_settings(root, tmp_path / "home")
    with graph.instance_of(settings.home) as instance:
        assert graph.materialize(settings, ["file_list_index", "class_manifest"], instance).success
        assert _reasons(settings)["class_manifest"] is None
        away.rename(gone)
        assert _reasons(settings)["class_manifest"] == "1 photos came or changed"
        assert not graph.materialize(settings, ["face_crops"], instance).success


def test_moved_data_set_remakes_the_index(own: Settings) -> None:
    _make(own)
    root = own.root
    assert root is not None
    moved = root.rename(root.with_name("moved"))
    try:
        assert f"{root} is not a folder" in str(_reasons(own)["file_list_index"])
    finally:
        moved.rename(root)


def test_same_lists_over_other_photos_remake_manifest_and_crops(
    early: Settings, tmp_path: Path
) -> None:
    settings = graph.early_copy(_root(early), tmp_path / "home")
    shutil.copytree(_root(early), tmp_path / "other")
    other = settings.model_copy(update={"root": tmp_path / "other"})
    with graph.instance_of(settings.home) as instance:
        # As a run that was stopped after it, or that was asked for it alone, leaves them.
        assert graph.materialize(other, ["file_list_index"], instance).success
        assert _reasons(other)["file_list_index"] is None
        assert _reasons(other)["class_manifest"] == "file_list_index changed"
        assert graph.materialize(other, ["class_manifest"], instance).success
    reasons = _reasons(other)
    assert reasons["class_manifest"] is None
    assert reasons["face_crops"] == "photos are read from another place"
    with graph.instance_of(settings.home) as instance:
        assert graph.materialize(other, ["face_crops"], instance).success
    assert _reasons(other)["face_crops"] is None


def test_index_made_again_to_the_same_content_leaves_the_manifest_current(
    own: Settings,
) -> None:
    _make(own)
    with graph.instance_of(own.home) as instance:
        assert graph.materialize(own, ["file_list_index"], instance).success
    assert _reasons(own)["file_list_index"] is None
    assert _reasons(own)["class_manifest"] is None


def test_blocking_check_that_failed_makes_its_asset_again(own: Settings) -> None:
    _make(own)
    with graph.instance_of(own.home) as instance:
        stopping = own.model_copy(update={"unknown_labels": "stop"})
        result = graph.materialize(stopping, ["file_list_index", "class_manifest"], instance)
        assert not result.success
        made = {
            event.asset_key.to_user_string() for event in result.get_asset_materialization_events()
        }
    assert made == {"file_list_index"}
    assert _reasons(stopping)["file_list_index"] == "check no_unknown_label failed"
    # The same rows only warn when they may be rejected; the check is made again for that.
    assert _reasons(own)["file_list_index"] == "settings or code changed"


def test_asset_made_without_its_checks_is_made_again(own: Settings) -> None:
    _make(own)
    definitions = build_definitions(own)
    asset = definitions.get_assets_def("class_manifest")
    with graph.instance_of(own.home) as instance:
        made = dg.materialize([asset], instance=instance, resources={"settings": own})
    assert made.success
    assert _reasons(own)["class_manifest"] == (
        "check every_class_in_every_split is older than the asset"
    )


def test_asset_whose_checks_were_planned_and_never_made_is_made_again(own: Settings) -> None:
    _make(own)
    manifest = frozenset({dg.AssetKey("class_manifest")})
    with graph.instance_of(own.home) as instance:
        job = build_definitions(own).resolve_job_def(PIPELINE_JOB)
        # As of a run that is killed between an asset and its checks.
        instance.create_run_for_job(
            job.get_subset(asset_selection=manifest), asset_selection=manifest
        )
    assert _reasons(own)["class_manifest"] == "check every_class_in_every_split wasn't made"
