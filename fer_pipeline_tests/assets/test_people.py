"""The sample people label, and the report on what they said."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from fer_pipeline.assets.people import people_assets, votes_beside
from fer_pipeline.core.index import build_index
from fer_pipeline.core.labels import CODES, VOTE_NAMES
from fer_pipeline.core.manifest import build_manifest, read_manifest
from fer_pipeline.core.predictions import Predictions, write_predictions
from fer_pipeline.core.study import Study, study_path
from fer_pipeline.people import (
    answers_digest,
    out_of_fold_file,
    predictions_beside_people,
    stream_study,
)
from fer_pipeline.reports import people_report_file, read_people_figures
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.core.datasets.tree_releases import affectnet_plus
from fer_pipeline_tests.core.parquet_faces import write_split
from fer_pipeline_tests.core.small_study import small_study
from fer_pipeline_tests.graph import Finished

STREAM = "three_class"


@pytest.fixture(scope="module")
def done(drawn_release: Path) -> Finished:
    return graph.finished(drawn_release)


@pytest.fixture
def settings(done: Finished, tmp_path: Path) -> Settings:
    """A finished home of one's own, on which people may answer."""
    return done.copy(tmp_path / "home").settings()


def _call(asset: int, settings: Settings) -> Any:
    """Draw the sample (0) or report on people (1), called directly."""
    function = people_assets(settings, STREAM)[asset]
    with dg.DagsterInstance.ephemeral() as instance:
        return function(dg.build_asset_context(instance=instance), settings=settings)


def _study(settings: Settings) -> Study:
    study = stream_study(settings, STREAM)
    assert study is not None
    return study


def test_sample_of_a_run_takes_the_test_split_first_and_tells_its_share(done: Finished) -> None:
    study = _study(done.settings())
    with graph.instance_of(done.home) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey([STREAM, "relabel_sample"]))
    assert event is not None
    assert event.asset_materialization is not None
    shown = event.asset_materialization.metadata
    splits = study.items["split"].to_pylist()
    in_test = sum(split == "test" for split in splits)
    assert in_test > 0
    assert shown["sample"].value == study.sample
    assert shown["faces"].value + shown["shown_twice"].value == len(study)
    assert 0 < float(str(shown["test_share"].value)) < 1


def test_a_study_stays_as_it_is_whatever_the_settings_of_another_would_be(
    settings: Settings,
) -> None:
    before = _study(settings)
    stamp = before.path.stat().st_mtime_ns
    changed = settings.model_copy(update={"relabel_per_class": 3, "seed": 9})
    result = _call(0, changed)
    assert result.data_version == dg.DataVersion(before.sample)
    assert _study(changed).path.stat().st_mtime_ns == stamp
    named = changed.model_copy(update={"study": "second"})
    assert _call(0, named).data_version != dg.DataVersion(before.sample)
    assert set(_study(named).items["expression"].to_pylist()) == set(before.classes)
    assert _study(named).items["repeat_of"].null_count <= 9
    # Once it was drawn, it needs no crops, which may be many.
    shutil.rmtree(settings.crops_folder)
    assert _call(0, changed).data_version == result.data_version


def test_without_answers_the_report_says_so_and_needs_no_database(done: Finished) -> None:
    found = read_people_figures(done.settings(), STREAM)
    assert found["people"]["answers"] == 0
    assert found["votes"] is None
    assert not (done.home / "studies.db").exists()
    assert "review" in people_report_file(done.settings(), STREAM).read_text()


def test_report_sets_people_beside_the_model_on_the_same_test_faces(settings: Settings) -> None:
    graph.store_answers(settings, _study(settings), "Ann")
    result = _call(1, settings)
    assert result.metadata["agreement"] == 1.0
    assert result.metadata["answers_digest"] == answers_digest(settings, STREAM) != ""
    study = _study(settings)
    faces = study.items.filter(study.items["repeat_of"].is_null())
    in_test = sum(split == "test" for split in faces["split"].to_pylist())
    found = read_people_figures(settings, STREAM)
    (test,) = found["people"]["model"]
    assert (test["kind"], test["faces"]) == ("test", in_test)
    assert test["decided"]["people"] == 1.0
    assert found["people"]["decided"]["agreement"] == 1.0


def test_a_study_of_other_classes_is_refused_by_name(settings: Settings) -> None:
    other = settings.model_copy(update={"stream_classes": {STREAM: ("Happiness", "Sadness")}})
    with pytest.raises(dg.Failure, match="set FER_STUDY to another name"):
        _call(0, other)


def test_a_study_of_another_data_set_is_refused_by_name(settings: Settings) -> None:
    study_path(settings.studies_folder, STREAM, settings.study).unlink()
    small_study(settings.studies_folder)
    with pytest.raises(dg.Failure, match="of another data set, set FER_STUDY"):
        _call(0, settings)


def test_votes_of_fer2013_are_a_report_on_ten_annotators(real_data: Path, tmp_path: Path) -> None:
    settings = Settings.fresh(
        home=tmp_path,
        dataset="hf-parquet",
        root=real_data / "fer2013",
        streams=("seven_class",),
        resamples=100,
    )
    build_index(settings.open_dataset(), settings.index_folder)
    build_manifest(
        settings.open_dataset(),
        settings.index_folder,
        settings.manifest_folder,
        settings.wanted_classes,
        label_source="listed",
        dev_share=0.1,
        seed=0,
    )
    found = votes_beside(settings, "seven_class", read_manifest(settings.manifest_folder), {})
    assert found is not None
    assert found.faces > 30_000
    alone = found.leave_one_out
    by_class = dict(zip(found.classes, alone.by_class, strict=True))
    assert 0.7 < float(alone.decided.value or 0) < 0.85
    assert float(by_class["Happiness"].value or 0) > 0.85
    assert float(by_class["Disgust"].value or 1) < 0.65
    assert float(found.single.decided.value or 0) < float(alone.decided.value or 0)


def test_faces_without_votes_are_counted_beside_those_that_have_them(settings: Settings) -> None:
    manifest = read_manifest(settings.manifest_folder)
    place = manifest.schema.get_field_index("votes")
    votes = [[10] + [0] * 9 if at % 3 else None for at in range(manifest.num_rows)]
    column = pa.array(votes, manifest.schema.field(place).type)
    found = votes_beside(settings, STREAM, manifest.set_column(place, "votes", column), {})
    assert found is not None
    wanted = [CODES[name] for name in settings.all_streams[STREAM]]
    of_stream = [code in wanted for code in manifest["expression"].to_pylist()]
    assert found.without_votes == sum(of_stream[::3]) > 0
    assert found.faces == sum(of_stream) - found.without_votes


def test_soft_labels_are_no_annotators_also_in_a_mixture(tmp_path: Path) -> None:
    plus = affectnet_plus(tmp_path / "plus")
    votes = [[0, 8, 2, 0, 0, 0, 0, 0, 0, 0]] * 4
    write_split(tmp_path / "fer", "train", [3] * 4, votes=votes, vote_columns=VOTE_NAMES)
    two = [("affectnet-plus", plus), ("hf-parquet", tmp_path / "fer")]
    found = []
    for sets in (two[:1], two):
        settings = Settings.fresh(
            home=tmp_path / f"home-{len(sets)}",
            datasets=[{"dataset": name, "root": root} for name, root in sets],
            streams=("seven_class",),
            resamples=100,
        )
        dataset, index = settings.open_dataset(), settings.index_folder
        build_index(dataset, index)
        build_manifest(
            dataset,
            index,
            settings.manifest_folder,
            settings.wanted_classes,
            label_source="listed",
            dev_share=0.1,
            seed=0,
        )
        manifest = read_manifest(settings.manifest_folder)
        assert manifest["votes"].null_count == 0
        found.append(votes_beside(settings, "seven_class", manifest, {}))
    alone, mixed = found
    assert alone is None
    assert mixed is not None
    assert (mixed.faces, mixed.votes, mixed.without_votes) == (4, 40, 9)


def _out_of_fold(settings: Settings, classes: Sequence[str]) -> None:
    """Predictions out of fold of a few training faces, as `label_issues` leaves them."""
    columns = ["face_id", "group_id", "split"]
    rows = read_manifest(settings.manifest_folder, columns).to_pylist()
    rows = [row for row in rows if row["split"] == "train"][:5]
    write_predictions(
        out_of_fold_file(settings, STREAM),
        Predictions(
            tuple(classes),
            *(np.array([row[name] for row in rows], object) for name in columns),
            np.zeros(len(rows), np.int64),
            np.full((len(rows), len(classes)), 1 / len(classes), np.float32),
        ),
    )


def test_label_issues_made_anew_remake_the_report_and_nothing_else(settings: Settings) -> None:
    report = f"{STREAM}/human_error_report"
    _out_of_fold(settings, settings.all_streams[STREAM])
    assert graph.to_be_made(settings) == {report: "label_issues was made anew"}
    with graph.instance_of(settings.home) as instance:
        assert graph.materialize(settings, [report], instance).success
    assert graph.to_be_made(settings) == {}


def test_predictions_out_of_fold_of_other_classes_are_left_out(settings: Settings) -> None:
    graph.store_answers(settings, _study(settings), "Ann")
    _out_of_fold(settings, settings.all_streams[STREAM])
    assert set(predictions_beside_people(settings, STREAM)) == {"test", "out_of_fold"}
    _out_of_fold(settings, ("Anger", "Fear"))
    assert set(predictions_beside_people(settings, STREAM)) == {"test"}
