"""Who becomes the champion: whole materializations against a real MLflow server."""

import itertools
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import numpy as np
import pytest

from fer_pipeline import tracking
from fer_pipeline.assets import champion as step
from fer_pipeline.champion import promote, read_champion, roll_back
from fer_pipeline.core.challenge import Verdict
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.manifest import read_manifest
from fer_pipeline.registry import (
    DEMOTED_TAG,
    VERDICT_TAG,
    WHY_TAG,
    AliasMovedError,
    Registry,
)
from fer_pipeline.reports import metrics_file
from fer_pipeline.settings import Settings
from fer_pipeline_tests import contenders, graph, mlflow_server
from fer_pipeline_tests.assets.arena import CLASSES, Arena

STREAM = "three_class"
EARLY = ("file_list_index", "class_manifest", "face_crops")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server.running(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


@pytest.fixture(scope="module")
def cropped(drawn_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with crops, most of them of dev faces."""
    home = tmp_path_factory.mktemp("champion") / "home"
    settings = graph.small_settings(drawn_release, home, dev_share=0.95, threads=None)
    with graph.instance_of(home) as instance:
        assert graph.materialize(settings, EARLY, instance).success
    return settings


@pytest.fixture
def arena(
    cropped: Settings, served: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Arena]:
    stream = re.sub(r"\W", "_", request.node.name.removeprefix("test_"))
    settings = cropped.model_copy(
        update={
            "streams": (stream,),
            "stream_classes": {stream: CLASSES},
            "mlflow_tracking_uri": served,
        }
    )
    with dg.DagsterInstance.ephemeral() as instance:
        yield Arena(settings, instance, tmp_path)


@pytest.fixture
def champion(arena: Arena) -> Arena:
    """An arena whose first version is the champion: wrong on four dev faces of ten."""
    arena.train(arena.model(wrong=0.4))
    assert arena.challenge()["verdict"] == Verdict.FIRST
    return arena


def test_first_model_becomes_the_champion_and_says_so(champion: Arena) -> None:
    assert champion.registry.champion() == "1"
    assert champion.passed("beats_champion")
    assert champion.passed("may_be_champion")
    tags = champion.registry.version("1").tags
    assert tags[VERDICT_TAG] == "first"
    assert tags[WHY_TAG] == "no version was the champion"


def test_champion_that_was_trained_on_drawn_faces_gives_way_to_the_first_that_was_not(
    arena: Arena,
) -> None:
    arena.train(arena.model(wrong=0), drawn=True)
    assert arena.challenge()["verdict"] == Verdict.FIRST
    arena.train(arena.model(wrong=0.1, seed=1), drawn=True)
    assert arena.challenge()["verdict"] == Verdict.REFUSED
    arena.train(arena.model(wrong=0.9))
    decision = arena.challenge()
    assert decision["verdict"] == Verdict.FIRST
    assert decision["why"] == "the champion before, version 1, was trained on drawn faces"
    assert arena.registry.champion() == "3"


def test_worse_challenger_is_refused_by_a_run_that_succeeds(champion: Arena) -> None:
    champion.train(champion.model(wrong=0.9))
    decision = champion.challenge()
    assert decision["verdict"] == Verdict.REFUSED
    assert decision["why"].startswith("it is worse: macro-F1")
    assert decision["compared"]["macro_f1_gain_high"] < 0
    assert champion.registry.champion() == "1"
    assert champion.registry.version("2").tags[VERDICT_TAG] == "refused"
    warned = champion.checks["beats_champion"]
    assert not warned.passed
    assert warned.severity == dg.AssetCheckSeverity.WARN
    assert champion.passed("may_be_champion")


def test_better_challenger_is_promoted_whatever_the_test_split_says(champion: Arena) -> None:
    made = champion.train(champion.model(wrong=0))
    figures = {"accuracy": 0.01, "accuracy_low": 0.0, "accuracy_high": 0.02, "macro_f1": 0.01}
    path = metrics_file(champion.settings, champion.stream)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**figures, "model_uri": made["model_uri"]}))
    decision = champion.challenge()
    assert decision["verdict"] == Verdict.PROMOTED
    assert decision["compared"]["challenger_macro_f1"] == 1
    assert decision["compared"]["macro_f1_gain_low"] > 0
    assert decision["compared"]["accuracy"]["mcnemar"]["p_value"] < 0.05
    assert decision["test"]["challenger"] == figures
    assert (decision["before"], decision["after"]) == ("1", "2")
    assert champion.registry.champion() == "2"
    assert champion.passed("beats_champion")
    client = tracking.connect(champion.settings)
    logged = client.get_run(made["mlflow_run_id"])
    assert logged.data.metrics["macro_f1_gain"] == decision["compared"]["macro_f1_gain"]
    files = {f.path for f in client.list_artifacts(made["mlflow_run_id"], "evaluation")}
    assert files == {"evaluation/champion.json"}


def test_models_are_compared_in_full_precision_where_training_was_not(
    cropped: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(True)
    rounded = []

    def predict(*_: Any) -> np.ndarray[Any, Any]:
        rounded.append(tf.config.experimental.tensor_float_32_execution_enabled())
        return np.eye(3)

    monkeypatch.setattr("fer_pipeline.core.model_file.load_model", lambda _: (None, None))
    monkeypatch.setattr("fer_pipeline.core.train.predict", predict)
    registry = mock.create_autospec(Registry, instance=True)
    faces = contenders.dev_faces(cropped, "five_class")
    assert step._predicted(registry, "1", faces).tolist() == [0, 1, 2]
    assert rounded == [False]


def test_tie_is_refused(champion: Arena) -> None:
    champion.train(champion.model(wrong=0.4))
    decision = champion.challenge()
    assert decision["verdict"] == Verdict.REFUSED
    assert decision["why"].startswith("no gain that holds")
    assert decision["compared"]["macro_f1_gain"] == 0
    assert champion.registry.champion() == "1"


def test_another_label_order_is_never_promoted(champion: Arena) -> None:
    turned = (CLASSES[1], CLASSES[0], CLASSES[2])
    champion.train(champion.model(wrong=0), classes=turned)
    decision = champion.challenge()
    assert decision["verdict"] == Verdict.BLOCKED
    assert f"its label order is {', '.join(turned)}" in decision["why"]
    assert champion.registry.champion() == "1"
    blocking = champion.checks["may_be_champion"]
    assert not blocking.passed
    assert blocking.severity == dg.AssetCheckSeverity.ERROR
    with pytest.raises(InputError, match="can't be the champion: its label order is"):
        promote(champion.settings, champion.stream, 2, "I want it", "Ann")
    assert champion.registry.champion() == "1"


def test_other_crop_settings_are_blocked(champion: Arena) -> None:
    crop = replace(champion.settings.crop_settings, margin=0.3)
    champion.train(champion.model(wrong=0), crop=crop)
    decision = champion.challenge()
    assert decision["verdict"] == Verdict.BLOCKED
    assert "(margin 0.3, not 0.12)" in decision["why"]
    assert not champion.passed("may_be_champion")
    with pytest.raises(InputError, match="crop settings"):
        promote(champion.settings, champion.stream, 2, "I want it", "Ann")
    assert champion.registry.champion() == "1"


@pytest.mark.parametrize("split", ["dev", "test"])
def test_challenger_that_was_trained_on_held_out_photos_is_blocked(
    champion: Arena, split: str
) -> None:
    manifest = read_manifest(champion.settings.manifest_folder).to_pylist()
    held_out = [row["group_id"] for row in manifest if row["split"] == split]
    trained = [row["group_id"] for row in manifest if row["split"] == "train"]
    before = champion.registry.champion()
    champion.train(champion.model(wrong=0), trained_groups=[*trained, held_out[0]])
    decision = champion.challenge()
    assert decision["verdict"] == Verdict.BLOCKED
    assert "a leak: it was trained on 1 photos of today's dev and test" in decision["why"]
    assert held_out[0] in decision["why"]
    assert champion.registry.champion() == before
    assert not champion.passed("may_be_champion")


def test_photos_the_champion_was_trained_on_are_left_out_and_counted(arena: Arena) -> None:
    groups = sorted(set(arena.faces.group_id.tolist()))
    arena.train(arena.model(wrong=0.4), trained_groups=groups[:3])
    # As if the splits had been dealt anew since it was promoted.
    _set_alias(arena, "1")
    arena.train(arena.model(wrong=0))
    decision = arena.challenge()
    assert decision["verdict"] == Verdict.PROMOTED
    seen = int(np.isin(arena.faces.group_id.astype(str), groups[:3]).sum())
    assert decision["compared"]["left_out"] == seen >= 3
    assert decision["compared"]["faces"] == len(arena.faces) - seen
    assert decision["compared"]["photos"] == len(groups) - 3


def test_decision_says_that_a_model_may_have_seen_the_faces_before_it_was_trained(
    arena: Arena,
) -> None:
    arena.train(arena.model(wrong=0.4), unknown_start="starter")
    first = arena.challenge()
    assert first["verdict"] == Verdict.FIRST
    assert first["why"] == (
        "no version was the champion; what the model it started from (starter) was trained on "
        "isn't known, so its figures on dev may be of faces it has seen"
    )
    arena.train(arena.model(wrong=0))
    decision = arena.challenge()
    assert decision["verdict"] == Verdict.PROMOTED
    assert "; what the model the champion started from (starter) was trained" in decision["why"]
    assert arena.registry.champion() == "2"


def test_comparison_on_a_handful_of_photos_promotes_nothing(arena: Arena) -> None:
    groups = sorted(set(arena.faces.group_id.tolist()))
    arena.train(arena.model(wrong=0.9), trained_groups=groups[5:])
    _set_alias(arena, "1")
    arena.train(arena.model(wrong=0))
    decision = arena.challenge()
    assert decision["verdict"] == Verdict.REFUSED
    assert decision["why"].startswith("5 photos of the dev split can be compared")
    assert arena.registry.champion() == "1"


def test_version_that_a_person_took_the_alias_from_is_promoted_by_no_run(champion: Arena) -> None:
    settings, stream = champion.settings, champion.stream
    champion.train(champion.model(wrong=0))
    assert champion.challenge()["after"] == "2"
    moved = roll_back(settings, stream, "it fails on real faces", "Ann")
    assert (moved.before, moved.after) == ("2", "1")
    assert champion.registry.champion() == "1"
    assert "it fails on real faces" in champion.registry.version("2").tags[DEMOTED_TAG]
    decision = champion.challenge()
    assert decision["verdict"] == Verdict.REFUSED
    assert "by Ann: it fails on real faces" in decision["why"]
    assert champion.registry.champion() == "1"
    with pytest.raises(InputError, match="before version 1: there is nothing to roll back to"):
        roll_back(settings, stream, "further", "Ann")
    again = promote(settings, stream, 2, "it was the camera", "Bob")
    assert again is not None
    assert champion.challenge()["verdict"] == Verdict.KEPT
    history = read_champion(settings, stream)["history"]
    assert [(one["verdict"], one["before"], one["after"]) for one in history] == [
        ("first", None, "1"),
        ("promoted", "1", "2"),
        ("rolled_back", "2", "1"),
        ("refused", "1", "1"),
        ("promoted_by_hand", "1", "2"),
    ]
    assert [one["by"] for one in history[2:]] == ["Ann", history[3]["by"], "Bob"]
    assert history[3]["by"].startswith("run ")
    assert history[2]["why"] == "it fails on real faces"


def test_alias_that_somebody_moved_in_mlflow_is_not_moved_back_by_a_run(champion: Arena) -> None:
    champion.train(champion.model(wrong=0))
    assert champion.challenge()["after"] == "2"
    _set_alias(champion, "1")
    for _ in range(2):
        decision = champion.challenge()
        assert decision["verdict"] == Verdict.REFUSED
        assert "by somebody who gave it to version 1 in MLflow" in decision["why"]
        assert champion.registry.champion() == "1"
    client = tracking.connect(champion.settings)
    client.delete_registered_model_alias(champion.registry.name, "champion")
    decision = champion.challenge()
    assert decision["verdict"] == Verdict.REFUSED
    assert "by somebody who took it away in MLflow" in decision["why"]
    assert champion.registry.champion() is None


def test_version_that_was_deleted_before_it_could_challenge_is_told_of(champion: Arena) -> None:
    champion.train(champion.model(wrong=0))
    client = tracking.connect(champion.settings)
    client.delete_model_version(champion.registry.name, "2")
    result = graph.materialize(
        champion.settings, [f"{champion.stream}/champion"], champion.instance
    )
    (failed,) = result.get_step_failure_events()
    said = failed.step_failure_data.user_failure_data
    assert said is not None
    assert f"version 2 of {champion.registry.name} was deleted in MLflow" in str(said.description)
    assert champion.registry.champion() == "1"


def test_refusal_that_says_the_same_again_is_not_written_again(champion: Arena) -> None:
    champion.train(champion.model(wrong=0.4))
    first, second = champion.challenge(), champion.challenge()
    assert first == second
    assert len(champion.registry.history()) == 2


def test_alias_that_moved_since_it_was_looked_at_is_not_moved_again(champion: Arena) -> None:
    champion.train(champion.model(wrong=0))
    _set_alias(champion, "2")
    with pytest.raises(AliasMovedError, match="went from version 1 to version 2 meanwhile"):
        champion.registry.decide(
            Verdict.PROMOTED, "1", before="1", by="run of another home", why="it is better"
        )
    assert champion.registry.champion() == "2"
    assert len(champion.registry.history()) == 1
    # A move that left no word can be taken back like any other.
    assert roll_back(champion.settings, champion.stream, "who did that?", "Ann").after == "1"


def test_of_several_people_at_once_each_sees_the_alias_that_they_move(champion: Arena) -> None:
    champion.train(champion.model(wrong=0.1))
    champion.train(champion.model(wrong=0.2))
    ended: list[str] = []

    def person(number: int) -> None:
        try:
            promote(champion.settings, champion.stream, number, "mine", f"person {number}")
            ended.append("moved")
        except AliasMovedError:
            ended.append("told")

    people = [threading.Thread(target=person, args=(number,)) for number in (2, 3, 2, 3)]
    for one in people:
        one.start()
    for one in people:
        one.join()
    moves = champion.registry.history()
    assert len(ended) == 4
    assert ended.count("moved") >= len(moves) - 1 >= 1
    assert all(one.after == two.before for one, two in itertools.pairwise(moves))
    assert champion.registry.champion() == moves[-1].after


def test_model_of_the_alias_is_found_by_its_address(champion: Arena) -> None:
    address = f"models:/fer-{champion.stream}@champion"
    assert tracking.model_file(champion.settings, address).is_file()


@pytest.mark.parametrize("why", ["", "  ", "x" * 1001])
def test_person_has_to_give_a_reason(cropped: Settings, why: str) -> None:
    with pytest.raises(InputError, match="--why needs a reason of 1 to 1000 characters"):
        promote(cropped, STREAM, 1, why, "Ann")


def _set_alias(arena: Arena, version: str) -> None:
    """As somebody does in MLflow's own pages."""
    client = tracking.connect(arena.settings)
    client.set_registered_model_alias(arena.registry.name, "champion", version)
