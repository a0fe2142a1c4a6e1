"""Where a setting comes from, what is refused, and what a home remembers."""

import tomllib
from pathlib import Path

import dagster as dg
import pytest

from fer_pipeline.build import build_definitions
from fer_pipeline.commands import run_settings
from fer_pipeline.core.bounds import Bounds
from fer_pipeline.core.errors import InputError
from fer_pipeline.settings import RUN_OPTIONS, Settings


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HOME", *(name.upper() for name in Settings.model_fields)):
        monkeypatch.delenv(f"FER_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


def _remembered(home: Path, text: str) -> Path:
    home.mkdir(exist_ok=True)
    (home / "settings.toml").write_text(text)
    return home


def test_default_holds_where_nothing_is_said(tmp_path: Path) -> None:
    found = Settings.load()
    assert found.home == tmp_path / "fer-home"
    assert found.streams == ("five_class", "three_class")
    assert (found.preset, found.seed, found.label_source) == ("cpu", 0, "listed")


def test_settings_file_comes_before_the_default(tmp_path: Path) -> None:
    home = _remembered(tmp_path / "home", 'preset = "gpu"\nseed = 5\n')
    found = Settings.load(home=home)
    assert (found.preset, found.seed) == ("gpu", 5)


def test_environment_comes_before_the_settings_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = _remembered(tmp_path / "home", 'preset = "gpu"\nseed = 5\n')
    monkeypatch.setenv("FER_SEED", "6")
    found = Settings.load(home=home)
    assert (found.preset, found.seed) == ("gpu", 6)


def test_option_comes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = _remembered(tmp_path / "home", "seed = 5\n")
    monkeypatch.setenv("FER_SEED", "6")
    assert Settings.load(home=home, seed=7).seed == 7


def test_home_of_the_environment_names_the_settings_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_HOME", str(_remembered(tmp_path / "elsewhere", "seed = 8\n")))
    found = Settings.load()
    assert (found.home, found.seed) == (tmp_path / "elsewhere", 8)


def test_run_with_a_data_set_starts_from_the_defaults(tmp_path: Path) -> None:
    home = _remembered(tmp_path / "home", 'preset = "gpu"\nseed = 5\nstreams = ["eight_class"]\n')
    found = run_settings(home, dataset="affectnet", root=tmp_path)
    assert (found.preset, found.seed) == ("cpu", 0)
    assert found.streams == ("five_class", "three_class")


def test_run_with_a_data_set_still_hears_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = _remembered(tmp_path / "home", "seed = 5\n")
    monkeypatch.setenv("FER_SEED", "6")
    assert run_settings(home, dataset="affectnet", root=tmp_path).seed == 6


def test_run_without_a_data_set_repeats_the_last_one(tmp_path: Path) -> None:
    last = Settings.fresh(
        home=tmp_path / "home",
        dataset="hf-parquet",
        root=tmp_path,
        streams=("seven_class",),
        preset="smoke",
        minutes=3,
        seed=9,
        label_source="votes",
        unknown_labels="reject",
    )
    last.remember()
    repeated = run_settings(tmp_path / "home")
    assert {name: getattr(repeated, name) for name in RUN_OPTIONS} == {
        name: getattr(last, name) for name in RUN_OPTIONS
    }
    assert run_settings(tmp_path / "home", seed=10).seed == 10


def test_run_with_a_data_set_and_no_root_takes_the_last_root(tmp_path: Path) -> None:
    Settings.fresh(home=tmp_path, dataset="affectnet", root=tmp_path / "data").remember()
    assert run_settings(tmp_path, dataset="affectnet", root=None).root == tmp_path / "data"


def test_options_of_a_data_set_hold_until_another_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {"csv.label": "mood"}
    last = {"dataset": "csv", "root": tmp_path, "dataset_options": chosen}
    Settings.fresh(home=tmp_path, **last).remember()
    assert run_settings(tmp_path, root=tmp_path / "moved").dataset_options == chosen
    assert run_settings(tmp_path, dataset="csv").dataset_options == {}
    # As in a container, whose environment names the data set for every process.
    monkeypatch.setenv("FER_DATASET", "csv")
    monkeypatch.setenv("FER_ROOT", str(tmp_path))
    assert Settings.load(home=tmp_path).dataset_options == chosen
    monkeypatch.setenv("FER_DATASET", "folders")
    assert Settings.load(home=tmp_path).dataset_options == {}


def test_first_run_without_a_root_is_told_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--dataset needs --root"):
        run_settings(tmp_path, dataset="affectnet")


def test_run_keeps_what_else_stands_in_the_settings_file(tmp_path: Path) -> None:
    home = _remembered(
        tmp_path / "home",
        "dev_share = 0.3\nseed = 4\nminutes = 2.0\n[stream_classes]\n"
        'mood = ["Happiness", "Sadness"]\n',
    )
    Settings.fresh(home=home, seed=1).remember()
    kept = tomllib.loads((home / "settings.toml").read_text())
    assert kept["dev_share"] == 0.3
    assert kept["stream_classes"] == {"mood": ["Happiness", "Sadness"]}
    assert kept["seed"] == 1
    assert "minutes" not in kept
    assert Settings.load(home=home).dev_share == 0.3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preset": "huge"}, ["preset", "'smoke', 'cpu' or 'gpu'"]),
        ({"seed": -1}, ["seed", "greater than or equal to 0"]),
        ({"minutes": 0}, ["minutes", "greater than 0"]),
        ({"dataset": "imagenet"}, ["dataset", "affectnet, affectnet-2021"]),
        ({"streams": ("six_class",)}, ["'six_class'", "five_class"]),
        ({"streams": ()}, ["streams", "at least one"]),
        ({"label_source": "rumour"}, ["label_source", "'listed' or 'votes'"]),
        ({"label_source": "votes", "vote_share": 0.5}, ["vote_share", "label_source votes"]),
        ({"vote_share": 1.5}, ["vote_share", "less than or equal to 1"]),
        ({"recipe_overrides": {"emma": "1"}}, ["recipe_overrides", "'emma' is no value of"]),
        ({"recipe_overrides": {"ema": "1"}}, ["recipe_overrides", "a number from 0 to below 1"]),
        ({"recipe_overrides": {"ema": [1]}}, ["recipe_overrides.ema", "valid string"]),
        ({"detect": "never"}, ["detect", "'missing' or 'always'"]),
        ({"unknown_labels": "guess"}, ["unknown_labels", "'stop' or 'reject'"]),
        ({"study": "../people"}, ["study", "can't name a study"]),
        ({"relabel_repeats": 1.5}, ["relabel_repeats", "less than or equal to 1"]),
        ({"label_issue_folds": 1}, ["label_issue_folds", "greater than or equal to 2"]),
        ({"suspects": 0}, ["suspects", "greater than or equal to 1"]),
        ({"stream_classes": {"mood": ("Happiness",)}}, ["stream_classes.mood", "two or more"]),
        ({"stream_classes": {"mood": ("Joy", "Sadness")}}, ["stream_classes.mood", "Joy"]),
        ({"stream_classes": {"mood": ("None", "Sadness")}}, ["stream_classes.mood", "None"]),
    ],
)
def test_wrong_value_is_one_sentence_that_names_the_setting(
    tmp_path: Path, options: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        Settings.load(home=tmp_path, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert [word for word in words if word not in sentence] == []


def test_wrong_value_of_the_settings_file_names_the_file(tmp_path: Path) -> None:
    home = _remembered(tmp_path / "home", 'preset = "huge"\n')
    with pytest.raises(InputError, match=r"preset: .*home/settings\.toml"):
        Settings.load(home=home)


def test_wrong_value_of_the_environment_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_SEED", "many")
    with pytest.raises(InputError, match="FER_SEED"):
        Settings.load(home=tmp_path)


def test_list_in_the_environment_that_is_no_json_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_STREAMS", "five_class")
    with pytest.raises(InputError, match=r"FER_STREAMS.*JSON") as caught:
        Settings.load(home=tmp_path)
    assert "settings.toml" not in str(caught.value)


def test_settings_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    home = _remembered(tmp_path / "home", "preset = \n")
    with pytest.raises(InputError, match=r"settings\.toml can't be read.*delete it"):
        Settings.load(home=home)


def test_stream_of_ones_own_becomes_assets_and_checks(tmp_path: Path) -> None:
    home = _remembered(
        tmp_path / "home",
        'streams = ["mood"]\n[stream_classes]\nmood = ["Contempt", "Disgust"]\n',
    )
    settings = Settings.load(home=home)
    # Dagster asks the instance in use for its state; an earlier test's may be gone.
    with dg.DagsterInstance.ephemeral():
        graph = build_definitions(settings).resolve_asset_graph()
    keys = {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}
    assert {name for name in keys if "/" in name} == {
        "mood/relabel_sample",
        "mood/trained_model",
        "mood/evaluation_report",
        "mood/human_error_report",
        "mood/label_issues",
        "mood/champion",
    }
    assert keys["mood/trained_model"].group_name == "mood"
    assert "Contempt, Disgust" in (keys["mood/trained_model"].description or "")
    checks = {str(check.asset_key.to_user_string()) for check in graph.asset_check_keys}
    assert "mood/evaluation_report" in checks
    assert settings.wanted_classes == ("Disgust", "Contempt")


def test_classes_wanted_are_the_union_of_the_streams(tmp_path: Path) -> None:
    found = Settings.load(
        home=tmp_path,
        streams=("three_class", "mood"),
        stream_classes={"mood": ("Fear", "Happiness")},
    )
    assert found.wanted_classes == ("Happiness", "Sadness", "Surprise", "Fear")


def test_pictures_that_are_faces_already_are_taken_whole(tmp_path: Path) -> None:
    whole = Settings.load(home=tmp_path, dataset="hf-parquet")
    with pytest.raises(InputError, match="pictures of hf-parquet are faces already"):
        Settings.load(home=tmp_path, dataset="hf-parquet", detect="always")
    assert whole.crop_settings.detect == "whole"
    photos = Settings.load(home=tmp_path, dataset="affectnet", detect="always")
    assert photos.crop_settings.detect == "always"
    assert whole.crops_folder != photos.crops_folder


def test_alignment_without_detection_is_refused_since_it_would_do_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="set detect to 'always' too, or leave align off"):
        Settings.load(home=tmp_path, dataset="affectnet", align=True)
    found = Settings.load(home=tmp_path, dataset="affectnet", align=True, detect="always")
    assert found.crop_settings.align


def test_bounds_of_a_photo_are_those_of_the_crops(tmp_path: Path) -> None:
    found = Settings.load(home=tmp_path, max_pixels=1, max_decoded_bytes=2, max_file_bytes=3)
    assert found.crop_settings.bounds == Bounds(1, 2, 3)


def test_home_at_an_address_keeps_its_state_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_STATE", str(tmp_path / "state"))
    found = Settings.load(home="memory://bucket/home")
    other = Settings.load(home="memory://bucket/other")
    assert str(found.index_folder) == "memory://bucket/home/index"
    assert str(found.mlflow_artifacts) == "memory://bucket/home/mlflow/artifacts"
    assert found.dagster_home == found.state_folder / "dagster"
    assert found.mlflow_folder == found.state_folder / "mlflow"
    assert found.state_folder.parent == tmp_path / "state"
    assert found.state_folder != other.state_folder


def test_empty_state_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unset = Settings.load(home="memory://bucket/home")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FER_STATE", "")
    assert Settings.load(home="memory://bucket/home").state_folder == unset.state_folder


def test_state_of_a_local_home_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_STATE", str(tmp_path / "state"))
    found = Settings.load(home=tmp_path / "home")
    assert found.state_folder == tmp_path / "home"
    assert found.mlflow_artifacts == tmp_path / "home" / "mlflow" / "artifacts"


def test_addresses_are_remembered_as_they_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_STATE", str(tmp_path / "state"))
    given = {"home": "memory://bucket/home", "root": "memory://bucket/data"}
    Settings.fresh(dataset="affectnet", seed=3, **given).remember()
    found = run_settings("memory://bucket/home")
    assert (str(found.root), found.seed) == ("memory://bucket/data", 3)
    monkeypatch.setenv("FER_HOME", "memory://bucket/home")
    assert Settings.load() == found


def test_address_of_an_unknown_kind_is_refused() -> None:
    for name in ("home", "root"):
        with pytest.raises(InputError, match="unknown protocol 'foo'"):
            Settings.load(**{name: "foo://bucket"})


def test_answers_stand_beside_the_state_unless_a_database_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_STATE", str(tmp_path / "state"))
    remote = Settings.load(home="memory://bucket/home")
    assert remote.answers_address == f"sqlite:///{remote.state_folder}/studies.db"
    assert str(remote.studies_folder) == "memory://bucket/home/studies"
    assert str(remote.corrections_file) == "memory://bucket/home/corrections.csv"
    monkeypatch.setenv("FER_ANSWERS_URL", "postgresql://host/answers")
    assert Settings.load(home=tmp_path).answers_address == "postgresql://host/answers"


@pytest.mark.parametrize("name", ["answers_url", "mlflow_tracking_uri", "dagster_ui_url"])
def test_empty_line_of_an_environment_file_names_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"FER_{name.upper()}", "")
    assert getattr(Settings.load(home=tmp_path), name) is None


def test_password_of_the_labelling_page_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_REVIEW_PASSWORD", "open sesame")
    found = Settings.load(home=tmp_path)
    assert found.review_password is not None
    assert found.review_password.get_secret_value() == "open sesame"
    assert "sesame" not in repr(found) + str(found.model_dump()) + found.model_dump_json()
