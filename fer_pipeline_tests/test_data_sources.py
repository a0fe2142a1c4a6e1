"""One data set or several, as options, environment and settings.toml name them."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from fer_pipeline.commands import demo_settings, draw_release, run_settings
from fer_pipeline.core.datasets.mixed import MixedDataSet
from fer_pipeline.core.errors import InputError
from fer_pipeline.data_sources import data_set_options
from fer_pipeline.repeat import PastTraining, settings_like, training_settings
from fer_pipeline.settings import Settings
from fer_pipeline.versions import code_version
from fer_pipeline_tests.core.parquet_faces import write_split
from fer_pipeline_tests.graph import Ended

pytestmark = pytest.mark.usefixtures("own_environment")


@pytest.fixture
def two(drawn_release: Path, tmp_path: Path) -> list[dict[str, str]]:
    """A drawn release and a folder of Parquet faces, as settings name them."""
    write_split(tmp_path / "faces", "train", range(7))
    return [
        {"dataset": "affectnet", "root": str(drawn_release)},
        {"dataset": "hf-parquet", "root": str(tmp_path / "faces")},
    ]


def _places(settings: Settings) -> list[dict[str, str]]:
    return [{"dataset": name, "root": str(root)} for name, root in settings.sources]


def test_options_given_once_are_the_settings_of_one_data_set() -> None:
    assert data_set_options(["affectnet"], ["/a"]) == {"dataset": "affectnet", "root": "/a"}
    assert data_set_options([], []) == {"dataset": None, "root": None}
    assert data_set_options([], ["/a"]) == {"dataset": None, "root": "/a"}


def test_options_given_again_go_together_in_turn() -> None:
    found = data_set_options(["affectnet", "hf-parquet"], ["/a", "/b"])
    assert [tuple(one.values()) for one in found["datasets"]] == [
        ("affectnet", "/a"),
        ("hf-parquet", "/b"),
    ]


@pytest.mark.parametrize(
    ("datasets", "roots", "words"),
    [
        (["a", "b"], ["/a"], "--dataset is given 2 times and --root once"),
        (["a", "b"], [], "--dataset is given 2 times and --root never"),
        (["a"], ["/a", "/b", "/c"], "--dataset is given once and --root 3 times"),
    ],
)
def test_data_sets_without_their_roots_are_an_input_error(
    datasets: list[str], roots: list[str], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        data_set_options(datasets, roots)


def test_mixture_is_remembered_and_opened_by_the_next_run(
    two: list[dict[str, str]], tmp_path: Path
) -> None:
    run_settings(tmp_path / "home", datasets=two, seed=4).remember()
    kept = tomllib.loads((tmp_path / "home/settings.toml").read_text())
    assert kept["datasets"] == two
    assert not {"dataset", "root"} & kept.keys()
    again = run_settings(tmp_path / "home")
    assert (_places(again), again.seed) == (two, 4)
    opened = again.open_dataset()
    assert isinstance(opened, MixedDataSet)
    assert opened.name == again.data_set == "affectnet + hf-parquet"


def test_root_alone_says_nothing_of_a_mixture_that_is_repeated(
    two: list[dict[str, str]], tmp_path: Path
) -> None:
    mixed = run_settings(tmp_path / "home", datasets=two)
    past = PastTraining("1" * 32, training_settings(mixed), {}, "", "")
    with pytest.raises(InputError, match="--root alone says nothing of a mixture"):
        settings_like(tmp_path / "home", past, root=str(tmp_path))


def test_one_data_set_leaves_the_settings_file_as_ever(
    two: list[dict[str, str]], tmp_path: Path
) -> None:
    run_settings(tmp_path, datasets=two).remember()
    run_settings(tmp_path, **two[1]).remember()
    kept = tomllib.loads((tmp_path / "settings.toml").read_text())
    assert "datasets" not in kept
    assert {name: kept[name] for name in ("dataset", "root")} == two[1]


def test_only_one_of_several_is_that_one_data_set(two: list[dict[str, str]]) -> None:
    found = Settings.fresh(datasets=two[1:])
    assert (found.dataset, str(found.root)) == tuple(two[1].values())
    assert found.datasets == ()


def test_environment_names_a_mixture(
    two: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Settings.fresh(home=tmp_path, dataset="affectnet", root="/elsewhere").remember()
    monkeypatch.setenv("FER_DATASETS", json.dumps(two))
    assert _places(Settings.load(home=tmp_path)) == two
    assert _places(Settings.fresh(home=tmp_path)) == two
    # An option goes before it.
    assert _places(Settings.fresh(home=tmp_path, **two[1])) == two[1:]


def test_data_set_of_the_environment_replaces_a_remembered_mixture(
    two: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Settings.fresh(home=tmp_path, datasets=two).remember()
    monkeypatch.setenv("FER_DATASET", "hf-parquet")
    monkeypatch.setenv("FER_ROOT", two[1]["root"])
    assert _places(Settings.load(home=tmp_path)) == two[1:]
    assert _places(Settings.fresh(home=tmp_path, datasets=two)) == two


def test_one_and_several_at_once_are_an_input_error(
    two: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FER_DATASETS", json.dumps(two))
    monkeypatch.setenv("FER_DATASET", "affectnet")
    with pytest.raises(InputError, match="either in datasets, or one in dataset and root"):
        Settings.load(home=tmp_path)


@pytest.mark.parametrize(
    ("options", "detect"),
    [({}, "whole"), ({"folders.cropped": "no"}, "missing"), ({"csv.cropped": "no"}, "whole")],
)
def test_option_of_a_format_decides_whether_faces_are_looked_for(tmp_path, options, detect):
    chosen = {"dataset": "folders", "root": tmp_path, "dataset_options": options}
    assert Settings.load(home=tmp_path, **chosen).crop_settings.detect == detect


def test_unknown_format_among_several_is_an_input_error_with_the_known_ones(
    two: list[dict[str, str]], tmp_path: Path
) -> None:
    wrong = [two[0], {"dataset": "imagenet", "root": "/b"}]
    with pytest.raises(
        InputError, match=r"datasets\.1\.dataset.*'imagenet'.*affectnet, affectnet-2021"
    ):
        run_settings(tmp_path, datasets=wrong)


def test_root_alone_is_refused_where_a_mixture_is_remembered(
    two: list[dict[str, str]], tmp_path: Path
) -> None:
    run_settings(tmp_path, datasets=two).remember()
    with pytest.raises(InputError, match="--root alone says nothing of a mixture"):
        run_settings(tmp_path, root="/b")


def test_detector_is_refused_only_where_no_data_set_has_photos(
    two: list[dict[str, str]], tmp_path: Path
) -> None:
    write_split(tmp_path / "more", "train", [1])
    cropped = [two[1], {"dataset": "hf-parquet", "root": str(tmp_path / "more")}]
    with pytest.raises(InputError, match="hf-parquet \\+ hf-parquet-2 are faces already"):
        Settings.fresh(datasets=cropped, detect="always")
    assert Settings.fresh(datasets=cropped).crop_settings.detect == "whole"
    assert Settings.fresh(datasets=two, detect="always").crop_settings.detect == "always"


def test_crops_of_a_mixture_with_photos_are_as_of_photos(two: list[dict[str, str]]) -> None:
    sides = {
        name: Settings.fresh(preset="gpu", **options).crop_settings.shape
        for name, options in {
            "photos": two[0],
            "faces": two[1],
            "mixed": {"datasets": two},
            "chosen": {"datasets": two, "picture_side": 48},
        }.items()
    }
    assert sides["mixed"] == sides["photos"] == (112, 112, 3)
    assert sides["chosen"] == sides["faces"] == (48, 48, 1)


def test_code_version_of_the_index_knows_the_data_sets_of_a_mixture(
    two: list[dict[str, str]],
) -> None:
    turned = two[::-1]
    versions = {
        code_version("file_list_index", Settings.fresh(**options))
        for options in ({"datasets": two}, {"datasets": turned}, two[0], two[1])
    }
    assert len(versions) == 4


def test_code_version_of_the_index_of_one_data_set_is_what_it_was() -> None:
    one = Settings.fresh(dataset="affectnet", root="/faces")
    assert code_version("file_list_index", one) == "3-f2373314"


def test_a_past_training_on_a_mixture_is_repeated_on_it_or_on_another_data_set(
    two: list[dict[str, str]], tmp_path: Path
) -> None:
    kept = json.loads(json.dumps(training_settings(Settings.fresh(datasets=two, seed=6))))
    past = PastTraining("0" * 32, kept, {}, "", "")
    again = settings_like(tmp_path, past)
    assert (_places(again), again.seed) == (two, 6)
    assert _places(settings_like(tmp_path, past, **two[1])) == two[1:]
    single = json.loads(json.dumps(training_settings(Settings.fresh(**two[0]))))
    past = PastTraining("0" * 32, single, {}, "", "")
    assert _places(settings_like(tmp_path, past, datasets=two)) == two


def test_demo_refuses_a_home_with_the_results_of_a_mixture(
    two: list[dict[str, str]], tmp_path: Path
) -> None:
    from rich.console import Console

    run_settings(tmp_path, datasets=two).remember()
    with pytest.raises(InputError, match="the demo would replace"):
        draw_release(Settings.load(home=tmp_path), 120, Console(quiet=True))
    assert demo_settings(tmp_path, tmp_path, 0).datasets == ()


def test_command_line_says_what_a_mixture_lacks_and_ends_with_two(
    here: Callable[..., Ended], tmp_path: Path
) -> None:
    ended = here(
        *("run", "--dataset", "affectnet", "--dataset", "hf-parquet", "--root", "/a"),
        *("--home", tmp_path / "home", "--json"),
    )
    assert ended.code == 2
    assert ended.answer["error"].startswith("--dataset is given 2 times and --root once")
