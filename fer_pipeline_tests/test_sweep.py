"""The command `sweep` on drawn faces: what is trained, logged and taken up again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fer_pipeline import sweep as sweeping
from fer_pipeline import tracking
from fer_pipeline.build import PIPELINE_JOB
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.sweep import Trained, read_tries
from fer_pipeline.instance import locked_home
from fer_pipeline.settings import Settings
from fer_pipeline.sweep import TRY_TAG, sweep
from fer_pipeline_tests import graph
from fer_pipeline_tests.automation.ticks import unfinished_run
from fer_pipeline_tests.graph import Ended

STREAM = "three_class"


@pytest.fixture(scope="module")
def home(drawn_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with crops and no model."""
    folder = tmp_path_factory.mktemp("sweep") / "home"
    graph.early_copy(drawn_release, folder).remember()
    return folder


def _sweep(run: Callable[..., Ended], home: Path, *words: object) -> dict[str, Any]:
    ended = run("sweep", "--stream", STREAM, "--home", home, "--epochs", "1", "--json", *words)
    assert ended.code == 0, ended.err
    return ended.answer


@pytest.fixture(scope="module")
def first(home: Path) -> dict[str, Any]:
    return _sweep(graph.fer_pipeline, home, "--try", "ema=0.9,flip_at_test=true")


def _tries(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["try"]: one for one in found["tries"]}


def _runs(found: dict[str, Any]) -> dict[str, list[tuple[str, bool]]]:
    return {
        name: [(run["mlflow_run_id"], run["was_there"]) for run in one["runs"]]
        for name, one in _tries(found).items()
    }


def test_tries_are_trained_scored_on_dev_and_sorted(first: dict[str, Any]) -> None:
    assert set(_tries(first)) == {"preset", "ema=0.9,flip_at_test=true"}
    scores = [one["dev_macro_f1"] for one in first["tries"]]
    assert scores == sorted(scores, reverse=True)
    assert first["best"] == first["tries"][0]["try"]
    for one in first["tries"]:
        assert one["epochs"] == 1
        assert 0 < one["dev_nll"] < 5
        assert [run["was_there"] for run in one["runs"]] == [False]


def test_every_try_is_a_run_in_an_experiment_of_its_own_and_no_model(
    home: Path, first: dict[str, Any]
) -> None:
    client = tracking.connect(Settings.load(home=home))
    assert client.get_experiment_by_name(tracking.EXPERIMENT) is None
    experiment = client.get_experiment_by_name(tracking.SWEEPS)
    logged = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    assert client.search_registered_models() == []
    for name, runs in _runs(first).items():
        ((run_id, _),) = runs
        run = logged[run_id]
        assert run.info.status == "FINISHED"
        assert run.data.params["try"] == name
        assert run.data.tags[tracking.MANIFEST_TAG] == first["manifest_hash"]
        assert run.data.metrics["final_dev_macro_f1"] == _tries(first)[name]["dev_macro_f1"]
        assert not [metric for metric in run.data.metrics if "test" in metric]
    averaged = logged[_runs(first)["ema=0.9,flip_at_test=true"][0][0]]
    assert averaged.data.params["recipe.ema"] == "0.9"


@pytest.mark.usefixtures("own_environment")
def test_a_try_that_is_logged_is_not_trained_again(
    home: Path, first: dict[str, Any], here: Callable[..., Ended]
) -> None:
    again = _sweep(here, home, "--try", "flip_at_test=true,ema=0.90", "--repeats", "2")
    before, now = _runs(first), _runs(again)
    assert [there for _, there in now["preset"]] == [True, False]
    assert now["preset"][0][0] == before["preset"][0][0]
    # Written another way it is the same try.
    renamed = now["ema=0.90,flip_at_test=true"]
    assert renamed[0] == (before["ema=0.9,flip_at_test=true"][0][0], True)
    assert _tries(again)["preset"]["dev_macro_f1_spread"] is not None


def test_a_try_with_another_start_or_by_other_code_is_another_try(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []

    def trained(*_: object, seed: int, tags: dict[str, str], **__: object) -> Trained:
        keys.append(tags[TRY_TAG])
        return Trained(seed, "", None, was_there=False)

    def train_once() -> None:
        settings = Settings.load(home=home, init=str(tmp_path / "start.keras"))
        tries = read_tries([], settings.recipe, 0.0)
        sweeping.run_sweep(settings, STREAM, tries, repeats=1, minutes=None, tell=lambda *_: None)

    monkeypatch.setattr(sweeping, "_train", trained)
    (tmp_path / "start.keras").write_bytes(b"some weights")
    train_once()
    train_once()
    (tmp_path / "start.keras").write_bytes(b"other weights of the same name")
    train_once()
    monkeypatch.setattr(sweeping, "version_number", lambda _: -1)
    train_once()
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_a_finished_run_without_its_figures_is_not_taken_for_a_training(home: Path) -> None:
    settings = Settings.load(home=home)
    client = tracking.connect(settings)
    with tracking.training_run(settings, "a/sweep", {TRY_TAG: "k"}, "a", tracking.SWEEPS) as run:
        run.log_metrics({"final_dev_macro_f1": 0.5})
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert sweeping._made_before(settings, "k", 0) is None
    client.delete_run(run.run_id)


def test_a_sweep_and_another_command_never_work_on_one_home(
    home: Path, monkeypatch: pytest.MonkeyPatch, here: Callable[..., Ended]
) -> None:
    monkeypatch.delattr(sweeping, "_train")
    with locked_home(Settings.load(home=home)):
        ended = here("sweep", "--stream", STREAM, "--home", home, "--json")
    assert ended.code == 1
    assert "busy: another run (process" in ended.words
    assert ended.answer["error"].startswith("another run (process")


def test_a_sweep_is_refused_beside_a_run_of_the_pages(
    home: Path, monkeypatch: pytest.MonkeyPatch, here: Callable[..., Ended]
) -> None:
    monkeypatch.delattr(sweeping, "_train")
    run = unfinished_run(Settings.load(home=home), PIPELINE_JOB, ["class_manifest"])
    ended = here("sweep", "--stream", STREAM, "--home", home)
    with graph.instance_of(home) as instance:
        instance.delete_run(run.run_id)
    assert ended.code == 1
    assert f"run {run.run_id}, launched in Dagster's pages, works on" in ended.words


@pytest.mark.usefixtures("own_environment")
def test_what_a_killed_sweep_left_running_is_closed_by_the_next_one(
    home: Path, first: dict[str, Any], here: Callable[..., Ended]
) -> None:
    settings = Settings.load(home=home)
    client = tracking.connect(settings)
    experiment = client.get_experiment_by_name(tracking.SWEEPS).experiment_id
    tags = {tracking.HOME_TAG: tracking.home_id(settings), tracking.ASSET_TAG: "other/sweep"}
    left = client.create_run(experiment, tags=tags).info.run_id
    assert _runs(_sweep(here, home)) == {
        "preset": [(_runs(first)["preset"][0][0], True)],
    }
    assert client.get_run(left).info.status == "KILLED"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tries": ["emma=0.9"]}, "'emma' can't be tried"),
        ({"minutes": 1.0, "epochs": 1}, "give one"),
        ({"preset": "gpu"}, "holds no crops for preset gpu yet: run `fer-pipeline run"),
        ({"stream": "nobody"}, "'nobody' is no known stream"),
        ({"tries": ["vote_share=0.5"], "epochs": 7}, "leave vote_share at 0"),
    ],
)
def test_wrong_sweeps_are_one_clear_sentence(
    home: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    """They are told before anything is trained."""
    monkeypatch.delattr(sweeping, "_train")
    with pytest.raises(InputError, match=message):
        sweep(**{"stream": STREAM, "home": str(home), **options})
