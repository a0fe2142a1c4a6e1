"""What settings say of a training: the preset, what replaces its values, where it starts."""

from pathlib import Path

import pytest

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.presets import PRESETS
from fer_pipeline.settings import Settings

pytestmark = pytest.mark.usefixtures("own_environment")


def test_values_of_the_preset_are_replaced_and_remembered(tmp_path: Path) -> None:
    given = {"ema": "0.99", "widths": "8-16-32"}
    home = tmp_path / "home"
    settings = Settings.load(home=home, preset="smoke", recipe_overrides=given)
    assert settings.recipe.recipe.ema == 0.99
    assert settings.recipe.network.widths == (8, 16, 32)
    settings.remember()
    assert Settings.load(home=home).recipe == settings.recipe
    assert Settings.fresh(home=home, preset="smoke").recipe == PRESETS["smoke"]


def test_values_of_the_preset_may_be_written_as_numbers_and_truths(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        "[recipe_overrides]\nema = 0.99\nflip_at_test = true\nbatch_size = 16\n"
    )
    recipe = Settings.load(home=tmp_path).recipe.recipe
    assert (recipe.ema, recipe.flip_at_test, recipe.batch_size) == (0.99, True, 16)


def test_values_are_checked_against_the_preset_that_the_data_set_gets(tmp_path: Path) -> None:
    weighted = {"preset": "gpu", "recipe_overrides": {"class_weighting": "sqrt"}}
    faces = {"home": tmp_path, "dataset": "hf-parquet", "root": tmp_path}
    assert Settings.load(**faces, **weighted).recipe.recipe.class_weighting == "sqrt"
    with pytest.raises(InputError, match="settings: recipe_overrides: sampling=balanced"):
        Settings.load(home=tmp_path, dataset="affectnet", root=tmp_path, **weighted)
    short = {"preset": "gpu", "recipe_overrides": {"max_epochs": "20"}}
    with pytest.raises(InputError, match="settings: recipe_overrides: min_epochs 30 is more"):
        Settings.load(**faces, **short)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (112, 112, 3)),
        ({"dataset": "affectnet"}, (112, 112, 3)),
        ({"dataset": "hf-parquet"}, (48, 48, 1)),
        ({"dataset": "hf-parquet", "picture_side": 224}, (112, 112, 3)),
    ],
)
def test_preset_gpu_goes_by_the_pictures_of_the_data_set(
    tmp_path: Path, options: dict[str, object], shape: tuple[int, int, int]
) -> None:
    given = {"home": tmp_path, "root": tmp_path, "preset": "gpu", **options}
    assert Settings.load(**given).recipe.image_shape == shape


def test_a_model_file_to_start_from_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.keras").touch()
    monkeypatch.chdir(tmp_path)
    found = Settings.load(home=tmp_path, init="mine.keras").init
    assert found == str(tmp_path / "mine.keras")
    address = "models:/fer-five_class@champion"
    assert Settings.load(home=tmp_path, init=address).init == address


def test_an_empty_word_ends_starting_from_a_model(tmp_path: Path) -> None:
    Settings.load(home=tmp_path, init="models:/fer-five_class@champion").remember()
    ended = Settings.load(home=tmp_path, init="")
    assert ended.init is None
    ended.remember()
    assert Settings.load(home=tmp_path).init is None
