"""What a training keeps of its settings, and the settings of a run that is to be like it."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from fer_pipeline import tracking, versions
from fer_pipeline.core.errors import InputError
from fer_pipeline.repeat import (
    OF_THE_PLACE,
    TRAINING_SETTINGS,
    PastTraining,
    differences,
    like,
    settings_like,
    training_settings,
)
from fer_pipeline.settings import RUN_OPTIONS, Settings
from fer_pipeline.source_commit import git_commit
from fer_pipeline_tests.graph import Ended

DAGSTER_RUN = "0b7f4c4e-58a2-4f6e-9a4c-3f1f6f2f7a11"
NOBODY = "0" * 32


def _trained(
    settings: Settings, asset: str, dagster_run: str, kept: Mapping[str, Any] | None
) -> str:
    tags = {tracking.DAGSTER_RUN_TAG: dagster_run, tracking.MANIFEST_TAG: "abc"}
    with tracking.training_run(settings, asset, tags, "name") as run:
        if kept is not None:
            run.log_json(kept, TRAINING_SETTINGS)
    return run.run_id


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with nothing but MLflow's database."""
    return Settings.fresh(home=tmp_path_factory.mktemp("tracking"), seed=3, dev_share=0.2)


@pytest.fixture
def past(store: Settings) -> PastTraining:
    kept = json.loads(json.dumps(training_settings(store)))
    return PastTraining("of a test", kept, {"five_class": NOBODY}, "abc", "commit")


def test_every_setting_is_kept_but_those_of_the_place(store: Settings) -> None:
    assert set(training_settings(store)) == Settings.model_fields.keys() - OF_THE_PLACE
    assert Settings.model_fields.keys() >= OF_THE_PLACE
    assert not OF_THE_PLACE & set(RUN_OPTIONS)


def test_no_setting_that_a_result_depends_on_is_left_out() -> None:
    read = {name for version in versions._VERSIONS.values() for name in version.settings}
    assert len(read) > 10
    assert not read & OF_THE_PLACE


def test_no_password_is_kept(store: Settings) -> None:
    secrets = {
        name
        for name, field in Settings.model_fields.items()
        if SecretStr in (field.annotation, *getattr(field.annotation, "__args__", ()))
    }
    assert {"review_password"} <= secrets <= OF_THE_PLACE
    secret = store.model_copy(
        update={"review_password": SecretStr("owl"), "answers_url": "postgresql://ann:owl@db/fer"}
    )
    assert "owl" not in json.dumps(training_settings(secret))


def test_training_is_found_by_its_mlflow_run_and_by_its_dagster_run(store: Settings) -> None:
    kept = training_settings(store)
    five = _trained(store, "five_class/trained_model", DAGSTER_RUN, kept)
    three = _trained(store, "three_class/trained_model", DAGSTER_RUN, kept)
    _trained(store, "three_class/trained_model", "another run", kept)

    by_mlflow = like(store, three)
    assert by_mlflow.runs == {"three_class": three}
    assert by_mlflow.settings == json.loads(json.dumps(kept))
    assert by_mlflow.manifest_hash == "abc"
    assert by_mlflow.git_commit == git_commit()
    assert like(store, DAGSTER_RUN).runs == {"five_class": five, "three_class": three}


def test_step_that_was_tried_again_counts_once(store: Settings) -> None:
    run = DAGSTER_RUN.replace("0b", "0c")
    _trained(store, "five_class/trained_model", run, training_settings(store))
    second = _trained(store, "five_class/trained_model", run, training_settings(store))
    assert like(store, run).runs == {"five_class": second}


def test_run_that_is_unknown_or_no_id_or_kept_no_settings_is_wrong_input(store: Settings) -> None:
    with pytest.raises(InputError, match=f"no training of run {NOBODY} is known"):
        like(store, NOBODY)
    with pytest.raises(InputError, match="'latest' is no id of a run"):
        like(store, "latest")
    old = _trained(store, "five_class/trained_model", "older", None)
    with pytest.raises(InputError, match=f"run {old} kept no training_settings.json"):
        like(store, old)


def test_home_that_never_trained_knows_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training of run"):
        like(Settings.fresh(home=tmp_path), NOBODY)


@pytest.mark.usefixtures("own_environment")
def test_unknown_run_ends_the_command_with_one_sentence_and_code_2(
    here: Callable[..., Ended], tmp_path: Path
) -> None:
    ended = here("run", "--home", tmp_path, "--like", NOBODY, "--json")
    assert ended.code == 2
    assert f"no training of run {NOBODY} is known" in ended.answer["error"]
    assert "give --home" in ended.words


@pytest.mark.usefixtures("own_environment")
class TestSettingsLike:
    """`settings_like`, in an environment of its own."""

    def test_steps_read_the_settings_of_the_past_run(
        self, past: PastTraining, tmp_path: Path
    ) -> None:
        settings = settings_like(tmp_path, past)
        assert (settings.seed, settings.dev_share) == (3, 0.2)
        settings.remember()
        steps = Settings.load(home=tmp_path)
        assert training_settings(steps) == training_settings(settings) == past.settings

    def test_they_go_before_environment_and_last_run(
        self, past: PastTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Settings.fresh(home=tmp_path, seed=8, minutes=5).remember()
        for name, value in {"SEED": "9", "THREADS": "1", "DEV_SHARE": "0.4"}.items():
            monkeypatch.setenv(f"FER_{name}", value)
        settings = settings_like(tmp_path, past)
        found = settings.seed, settings.minutes, settings.threads, settings.dev_share
        assert found == (3, None, None, 0.2)

    def test_options_go_before_them_and_are_told(self, past: PastTraining, tmp_path: Path) -> None:
        settings = settings_like(tmp_path, past, seed=4, minutes=None, preset="smoke")
        assert (settings.seed, settings.preset, settings.dev_share) == (4, "smoke", 0.2)
        assert differences(past, settings) == ["preset smoke, was cpu", "seed 4, was 3"]

    def test_data_set_that_is_given_replaces_a_mixture_and_a_mixture_replaces_one(
        self, past: PastTraining, tmp_path: Path
    ) -> None:
        two = [{"dataset": "affectnet", "root": "/a"}, {"dataset": "hf-parquet", "root": "/b"}]
        mixed = PastTraining("id", {**past.settings, "datasets": two}, {}, "abc", "commit")
        assert [one.dataset for one in settings_like(tmp_path, mixed).datasets] == [
            *("affectnet", "hf-parquet"),
        ]
        one = settings_like(tmp_path, mixed, dataset="affectnet", root="/c")
        assert (one.dataset, str(one.root), one.datasets) == ("affectnet", "/c", ())
        single = PastTraining(
            "id", {**past.settings, "dataset": "affectnet", "root": "/c"}, {}, "abc", "commit"
        )
        again = settings_like(tmp_path, single, datasets=tuple(two))
        assert (again.dataset, len(again.datasets)) == (None, 2)
        with pytest.raises(InputError, match="--dataset needs --root"):
            settings_like(tmp_path, mixed, dataset="affectnet")

    def test_place_and_password_stay_those_of_the_home(
        self, past: PastTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FER_WORKERS", "3")
        monkeypatch.setenv("FER_REVIEW_PASSWORD", "owl")
        settings = settings_like(tmp_path, past)
        assert (settings.home, settings.workers) == (tmp_path, 3)
        assert os.environ["FER_REVIEW_PASSWORD"] == "owl"  # noqa: S105

    def test_setting_that_the_home_insists_on_is_wrong_input(
        self, past: PastTraining, tmp_path: Path
    ) -> None:
        (tmp_path / "settings.toml").write_text("threads = 2\n")
        with pytest.raises(InputError, match=r"settings.toml in .* sets threads, which run"):
            settings_like(tmp_path, past)

    @pytest.mark.parametrize(
        ("gone", "words"),
        [
            ({"preset": "tpu"}, "setting preset"),
            ({"streams": ["six_class"]}, "'six_class' is no known stream"),
            ({"recipe_overrides": {"shear": "1"}}, "'shear' is no value of"),
            ({"dataset": "imagenet", "root": "/data"}, "'imagenet' is no known format"),
            ({"dev_share": 1.5}, "setting dev_share"),
        ],
    )
    def test_value_that_this_version_knows_no_more_is_told_of_with_the_run(
        self, past: PastTraining, tmp_path: Path, gone: Mapping[str, Any], words: str
    ) -> None:
        older = PastTraining("an id", {**past.settings, **gone}, {}, "abc", "commit")
        with pytest.raises(InputError, match=f"run an id can't be repeated .*{words}"):
            settings_like(tmp_path, older)

    def test_streams_made_up_since_stay_and_those_of_the_run_are_as_they_were(
        self, past: PastTraining, tmp_path: Path
    ) -> None:
        (tmp_path / "settings.toml").write_text(
            '[stream_classes]\nmood = ["Happiness", "Anger"]\nnew = ["Fear", "Anger"]\n'
        )
        own = {"streams": ["mood"], "stream_classes": {"mood": ["Happiness", "Sadness"]}}
        with_own = PastTraining("id", {**past.settings, **own}, {}, "abc", "commit")
        settings = settings_like(tmp_path, with_own)
        assert settings.active_streams == {"mood": ("Happiness", "Sadness")}
        assert settings.all_streams["new"] == ("Fear", "Anger")

    def test_setting_that_is_gone_since_is_left_out(
        self, past: PastTraining, tmp_path: Path
    ) -> None:
        older = PastTraining("id", {**past.settings, "gone": 1}, {}, "abc", "commit")
        assert settings_like(tmp_path, older) == settings_like(tmp_path, past)
