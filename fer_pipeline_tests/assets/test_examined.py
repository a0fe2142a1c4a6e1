"""The champion beside a new model in its report: compared where it can be, never in the way."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from fer_pipeline import tracking
from fer_pipeline.assets import examined
from fer_pipeline.champion import Registry
from fer_pipeline.core.crop_set import read_crop_set
from fer_pipeline.core.datasets.affectnet import AffectNet
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.examination import BesideChampion
from fer_pipeline.core.examples import select_examples
from fer_pipeline.core.latency import PHOTOS
from fer_pipeline.core.manifest import read_manifest
from fer_pipeline.core.model_file import read_card
from fer_pipeline.core.predictions import read_predictions
from fer_pipeline.core.slices import face_subjects
from fer_pipeline.people import predictions_file
from fer_pipeline_tests import graph
from fer_pipeline_tests.graph import Finished

STREAM = "three_class"
NEWER = f"models:/fer-{STREAM}/999"


@pytest.fixture(scope="module")
def done(drawn_release: Path) -> Finished:
    return graph.finished(drawn_release)


def beside(done: Finished, model_uri: str, **card_changes: Any) -> BesideChampion | None:
    """What stands beside the run's own predictions, taken for those of `model_uri`."""
    settings = done.settings()
    registry = Registry(settings, STREAM)
    held = registry.champion()
    assert held is not None
    card = read_card(tracking.model_file(settings, registry.model_uri(held)))
    test = select_examples(
        read_crop_set(settings.crops_folder).paths,
        read_manifest(settings.manifest_folder),
        card.classes,
        "test",
        settings.label_source,
    )
    predictions = read_predictions(predictions_file(settings, STREAM))
    assert predictions.face_id.tolist() == test.face_id.tolist()
    return examined._champion(
        dg.build_asset_context(),
        settings,
        {"model_uri": model_uri},
        replace(card, **card_changes),
        predictions,
        test,
    )


def test_champion_that_is_as_good_shows_no_difference(done: Finished) -> None:
    found = beside(done, NEWER)
    assert found is not None
    assert found.name == f"the champion, fer-{STREAM} version 1"
    assert found.seen == 0
    assert found.comparison.difference.value == 0
    assert found.comparison.first.value == done.ended.answer["streams"][STREAM]["accuracy"]


def test_champion_is_not_compared_with_itself(done: Finished) -> None:
    assert beside(done, done.ended.answer["streams"][STREAM]["model_uri"]) is None


def test_champion_of_other_classes_is_not_compared(done: Finished) -> None:
    assert beside(done, NEWER, classes=("Happiness", "Sadness", "Anger")) is None


def test_champion_whose_file_is_gone_does_not_keep_the_report_from_a_new_model(
    done: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = read_card(tracking.model_file(done.settings(), f"models:/fer-{STREAM}/1"))

    def gone(*_: object) -> Path:
        raise InputError("it was deleted")

    monkeypatch.setattr(examined.tracking, "model_file", gone)
    found = examined._champion(
        dg.build_asset_context(), done.settings(), {"model_uri": NEWER}, card, None, None
    )
    assert found is None


def test_soft_labels_of_the_test_faces_are_no_agreement_of_annotators(
    done: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = done.settings()
    manifest = read_manifest(settings.manifest_folder)
    place = manifest.schema.get_field_index("votes")
    column = pa.array([[90, 10] + [0] * 8] * len(manifest), manifest.schema.field(place).type)
    manifest = manifest.set_column(place, "votes", column)
    classes = settings.all_streams[STREAM]
    shards = read_crop_set(settings.crops_folder).paths
    test = select_examples(shards, manifest, classes, "test", "listed")
    made = done.ended.answer["streams"][STREAM]
    trained = {
        "model_id": made["model_uri"].removeprefix("models:/"),
        "model_uri": made["model_uri"],
    }
    card = read_card(tracking.model_file(settings, made["model_uri"]))
    subjects = []

    class _AskedError(Exception):
        pass

    def asked(*words: Any, **_: object) -> None:
        subjects.append(face_subjects(test, words[5]))
        raise _AskedError

    monkeypatch.setattr(examined, "examine", asked)
    for count_people in (True, False):
        monkeypatch.setattr(AffectNet, "votes_count_people", count_people)
        with pytest.raises(_AskedError):
            examined.examined(
                dg.build_asset_context(), settings, trained, None, card, None, test, test, manifest
            )
    annotators = "Agreement of annotators"
    assert [annotators in one for one in subjects] == [True, False]


def test_photos_to_time_are_those_of_test_faces(done: Finished) -> None:
    settings = done.settings()
    manifest = read_manifest(settings.manifest_folder)
    classes = settings.all_streams[STREAM]
    shards = read_crop_set(settings.crops_folder).paths
    test = select_examples(shards, manifest, classes, "test", settings.label_source)
    photos = list(examined._photos(settings, test, manifest))
    assert len(photos) == min(PHOTOS, len(test))
    assert all(isinstance(data, bytes) for data in photos)
