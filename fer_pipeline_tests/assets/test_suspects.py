"""From suspected labels to a corrected manifest."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fer_pipeline.assets import suspects
from fer_pipeline.assets.manifest import LABEL_CORRECTIONS
from fer_pipeline.assets.suspects import suspect_assets
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.manifest import read_manifest
from fer_pipeline.core.predictions import read_predictions
from fer_pipeline.core.study import read_study
from fer_pipeline.people import label_issues_file, out_of_fold_file
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.graph import Ended

STREAM = "three_class"
FACES = 6


@pytest.fixture(scope="module")
def made(
    drawn_release: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Settings, dict[str, Any]]:
    """A finished home in which the label issues were made, and what they tell."""
    home = tmp_path_factory.mktemp("suspects") / "home"
    settings = (
        graph.finished(drawn_release)
        .copy(home)
        .settings(suspects=FACES, label_issue_folds=2, minutes=0.02, relabel_repeats=0)
    )
    (label_issues,) = suspect_assets(settings, STREAM)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_asset_context(instance=instance)
        result: Any = label_issues(context, settings=settings)
    return settings, {
        name: getattr(value, "value", value) for name, value in result.metadata.items()
    }


def _rows(settings: Settings) -> list[dict[str, str]]:
    with label_issues_file(settings, STREAM).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_makes_label_issues_only_when_they_are_asked_for(made: Any) -> None:
    settings, _ = made
    on_demand = {name for name, state in graph.states(settings).items() if state.on_demand}
    assert on_demand == {f"{stream}/label_issues" for stream in graph.STREAMS}


def test_every_face_of_training_and_dev_is_ranked_by_models_that_never_saw_it(made: Any) -> None:
    settings, told = made
    rows = _rows(settings)
    manifest = read_manifest(settings.manifest_folder, ["face_id", "split"]).to_pylist()
    kept = {row["face_id"] for row in manifest if row["split"] in ("train", "dev")}
    ranked = [row["face_id"] for row in rows]
    assert len(set(ranked)) == len(ranked) == told["dagster/row_count"] > 20
    assert set(ranked) <= kept
    assert {row["split"] for row in rows} <= {"train", "dev"}
    quality = [float(row["quality"]) for row in rows]
    assert quality == sorted(quality)
    assert len(read_predictions(out_of_fold_file(settings, STREAM))) == len(rows)


def test_finished_folds_are_kept_until_the_study_of_the_suspects_is_there(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> str:
        raise InputError("a photo is gone")

    settings, _ = made
    folds = settings.report_folder(STREAM) / "folds"
    assert list(folds.glob("fold-*")) == []
    # A training by the clock ranks anew; what the other tests look at stays.
    ranking = label_issues_file(settings, STREAM)
    before = ranking.read_bytes()
    monkeypatch.setattr(suspects, "_study", stopped)
    (label_issues,) = suspect_assets(settings, STREAM)
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(dg.Failure, match="photo"):
        label_issues(dg.build_asset_context(instance=instance), settings=settings)
    assert len(list(folds.glob("fold-*"))) == 2
    ranking.write_bytes(before)


@pytest.mark.usefixtures("own_environment")
def test_what_people_say_of_suspects_becomes_the_label_and_leaves_a_trace(
    made: Any, here: Callable[..., Ended]
) -> None:
    settings, told = made
    study = read_study(settings.studies_folder / f"{told['study']}.parquet")
    assert study.kind == "suspects"
    assert set(study.items["face_id"].to_pylist()) == {
        row["face_id"] for row in _rows(settings)[:FACES]
    }
    listed = study.items.to_pylist()
    other = {name: study.classes[(at + 1) % 3] for at, name in enumerate(study.classes)}
    given = {item["item"]: other[item["expression"]] for item in listed}
    graph.store_answers(settings, study, "Ann", given)
    ended = here("study", "correct", study.key, "--home", settings.home, "--json")
    assert ended.code == 0, ended.err

    assert graph.states(settings)["class_manifest"].reason == "the corrections changed"
    with graph.instance_of(settings.home) as instance:
        # Its checks may fail: with so few faces a class can leave a split with them.
        graph.materialize(settings, ["class_manifest"], instance)
        event = instance.get_latest_materialization_event(dg.AssetKey("class_manifest"))
        (seen,) = instance.fetch_observations(LABEL_CORRECTIONS, limit=2).records
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["corrected"].value == FACES
    assert seen.asset_observation is not None
    assert seen.asset_observation.metadata["faces"].value == FACES
    now = {
        row["face_id"]: row
        for row in read_manifest(settings.manifest_folder).to_pylist()
        if row["listed_expression"] is not None
    }
    assert set(now) == {item["face_id"] for item in listed}
