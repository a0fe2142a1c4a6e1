"""Every check: what it lets pass, what it stops, and how severely."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fer_pipeline.checks import crop_checks, index_checks, manifest_checks, stream_checks
from fer_pipeline.core.crop_set import CROPS_LIST
from fer_pipeline.core.files import publish_json
from fer_pipeline.core.index import INDEX_FILE, REJECTED_FILE
from fer_pipeline.core.labels import CODES
from fer_pipeline.core.manifest import MANIFEST_FILE
from fer_pipeline.reports import metrics_file
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


@pytest.fixture
def settings(tmp_path: Path, drawn_release: Path) -> Settings:
    return graph.early_copy(drawn_release, tmp_path / "home")


def _results(
    checks: Sequence[dg.AssetChecksDefinition], settings: Settings
) -> dict[str, dg.AssetCheckResult]:
    """The results of one checks definition, by name, called directly."""
    (definition,) = checks
    made: Any = definition(settings=settings)
    made = [made] if isinstance(made, dg.AssetCheckResult) else list(made)
    names = [spec.name for spec in definition.check_specs]
    return {result.check_name or names[0]: result for result in made}


def _rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def _with(table: pa.Table, name: str, values: Iterable[object]) -> pa.Table:
    place = table.schema.get_field_index(name)
    field = table.schema.field(place)
    return table.set_column(place, field, pa.array(list(values), field.type))


def test_every_check_of_index_manifest_and_crops_is_blocking() -> None:
    specs = [
        spec
        for definition in (*index_checks(), *manifest_checks(), *crop_checks())
        for spec in definition.check_specs
    ]
    assert {spec.name for spec in specs} == {
        "every_row_accounted_for",
        "no_unknown_label",
        "no_group_on_two_sides",
        "every_class_in_every_split",
        "only_wanted_labels",
        "one_status_for_each_face",
    }
    assert all(spec.blocking for spec in specs)


def test_checks_of_a_report_stop_nothing() -> None:
    (definition,) = stream_checks("five_class")
    assert [spec.blocking for spec in definition.check_specs] == [False]


def test_rows_of_a_sound_index_add_up(settings: Settings) -> None:
    found = _results(index_checks(), settings)["every_row_accounted_for"]
    assert found.passed
    figures = {name: value.value for name, value in found.metadata.items()}
    assert figures["rows_in_files"] == figures["rows_indexed"] + figures["rows_rejected"]
    assert figures["rows_rejected"] > 0


def _drop_last(table: pa.Table) -> pa.Table:
    return table.slice(0, table.num_rows - 1)


def _repeat_first(table: pa.Table) -> pa.Table:
    """As many rows as before, one of them twice and another gone."""
    return pa.concat_tables([table.slice(0, 1), table.slice(0, table.num_rows - 1)])


@pytest.mark.parametrize(
    ("file", "change"),
    [(INDEX_FILE, _drop_last), (REJECTED_FILE, _drop_last), (INDEX_FILE, _repeat_first)],
)
def test_lost_row_fails_the_index(
    settings: Settings, file: str, change: Callable[[pa.Table], pa.Table]
) -> None:
    _rewrite(settings.index_folder / file, change)
    found = _results(index_checks(), settings)["every_row_accounted_for"]
    assert not found.passed
    assert found.severity == ERROR
    assert "lists don't add up" in (found.description or "")


def test_unknown_label_stops_when_told_to(settings: Settings) -> None:
    stopping = settings.model_copy(update={"unknown_labels": "stop"})
    found = _results(index_checks(), stopping)["no_unknown_label"]
    assert not found.passed
    assert found.severity == ERROR
    assert "training.csv, row " in (found.description or "")
    assert "'11'" in (found.description or "")
    assert "set unknown_labels to reject" in (found.description or "")


def test_unknown_label_only_warns_when_its_row_is_rejected(settings: Settings) -> None:
    found = _results(index_checks(), settings)["no_unknown_label"]
    assert not found.passed
    assert found.severity == WARN


def test_index_without_unknown_labels_passes(settings: Settings) -> None:
    _rewrite(
        settings.index_folder / REJECTED_FILE,
        lambda table: table.filter(pa.compute.not_equal(table["reason"], "unknown_label")),
    )
    stopping = settings.model_copy(update={"unknown_labels": "stop"})
    assert _results(index_checks(), stopping)["no_unknown_label"].passed


def test_sound_manifest_passes(settings: Settings) -> None:
    found = _results(manifest_checks(), settings)
    assert [name for name, result in found.items() if not result.passed] == []
    assert len(found) == 3


def test_group_on_two_sides_fails_the_manifest(settings: Settings) -> None:
    path = settings.manifest_folder / MANIFEST_FILE
    table = pq.read_table(path)
    split = np.array(table["split"].to_pylist())
    groups = table["group_id"].to_pylist()
    test, train = np.flatnonzero(split == "test")[0], np.flatnonzero(split == "train")[0]
    groups[train] = groups[test]
    _rewrite(path, lambda table: _with(table, "group_id", groups))
    found = _results(manifest_checks(), settings)["no_group_on_two_sides"]
    assert not found.passed
    assert found.severity == ERROR
    assert groups[test] in (found.description or "")


def test_excluded_copy_is_on_no_side(settings: Settings) -> None:
    path = settings.manifest_folder / MANIFEST_FILE
    table = pq.read_table(path)
    split, groups = table["split"].to_pylist(), table["group_id"].to_pylist()
    train = split.index("train")
    groups[train], split[train] = groups[split.index("test")], "excluded"
    _rewrite(path, lambda table: _with(_with(table, "group_id", groups), "split", split))
    assert _results(manifest_checks(), settings)["no_group_on_two_sides"].passed


@pytest.mark.parametrize("side", ["train", "dev", "test"])
def test_class_missing_on_one_side_fails_the_manifest(settings: Settings, side: str) -> None:
    path = settings.manifest_folder / MANIFEST_FILE
    table = pq.read_table(path)
    split = [
        "excluded" if (of, code) == (side, CODES["Surprise"]) else of
        for of, code in zip(
            table["split"].to_pylist(), table["expression"].to_pylist(), strict=True
        )
    ]
    _rewrite(path, lambda table: _with(table, "split", split))
    found = _results(manifest_checks(), settings)["every_class_in_every_split"]
    assert not found.passed
    assert found.severity == ERROR
    assert f"Surprise (three_class) in {side}" in (found.description or "")


def test_code_in_no_table_fails_the_manifest(settings: Settings) -> None:
    path = settings.manifest_folder / MANIFEST_FILE
    codes = pq.read_table(path)["expression"].to_pylist()
    _rewrite(path, lambda table: _with(table, "expression", [11, *codes[1:]]))
    found = _results(manifest_checks(), settings)["only_wanted_labels"]
    assert not found.passed
    assert found.severity == ERROR
    assert "code 11" in (found.description or "")


def test_face_listed_twice_fails_the_manifest(settings: Settings) -> None:
    path = settings.manifest_folder / MANIFEST_FILE
    faces = pq.read_table(path)["face_id"].to_pylist()
    _rewrite(path, lambda table: _with(table, "face_id", [faces[1], *faces[1:]]))
    found = _results(manifest_checks(), settings)["only_wanted_labels"]
    assert not found.passed
    assert "listed twice" in (found.description or "")


def test_crops_of_this_manifest_pass(settings: Settings) -> None:
    found = _results(crop_checks(), settings)["one_status_for_each_face"]
    assert found.passed
    assert found.metadata["faces_ok"].value > 0


def test_crops_of_another_manifest_fail(settings: Settings) -> None:
    path = settings.manifest_folder / MANIFEST_FILE
    weights = pq.read_table(path)["weight"].to_pylist()
    _rewrite(path, lambda table: _with(table, "weight", [0.25, *weights[1:]]))
    found = _results(crop_checks(), settings)["one_status_for_each_face"]
    assert not found.passed
    assert found.severity == ERROR
    assert "another manifest" in (found.description or "")


def test_face_without_a_status_fails_the_crops(settings: Settings) -> None:
    (shard,) = settings.crops_folder.glob("shard-*.parquet")
    _rewrite(shard, _drop_last)
    found = _results(crop_checks(), settings)["one_status_for_each_face"]
    assert not found.passed
    assert "not the manifest's faces" in (found.description or "")


def test_crops_without_a_single_face_fail(settings: Settings) -> None:
    path = settings.crops_folder / CROPS_LIST
    listed = json.loads(path.read_text())
    for shard in listed["shards"]:
        shard["statuses"] = {"missing": shard["rows"]}
    path.write_text(json.dumps(listed))
    found = _results(crop_checks(), settings)["one_status_for_each_face"]
    assert not found.passed
    assert "is --root right?" in (found.description or "")


@pytest.mark.parametrize(
    ("low", "majority", "passes"), [(0.31, 0.3, True), (0.3, 0.3, False), (0.1, 0.3, False)]
)
def test_report_warns_unless_its_interval_is_above_the_majority(
    settings: Settings, low: float, majority: float, passes: bool
) -> None:
    publish_json(
        metrics_file(settings, "three_class"),
        {
            "accuracy": 0.4,
            "accuracy_low": low,
            "accuracy_high": 0.5,
            "majority_accuracy": majority,
            "n": 12.0,
        },
    )
    found = _results(stream_checks("three_class"), settings)["above_the_majority_class"]
    assert found.passed is passes
    assert found.severity == WARN


def test_check_of_what_was_never_made_fails_with_the_remedy(settings: Settings) -> None:
    with pytest.raises(dg.Failure, match="materialize three_class/evaluation_report first"):
        _results(stream_checks("three_class"), settings)
