import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.model_file import ModelCard, load_model, read_card, save_model
from fer_pipeline.core.network import build_network
from fer_pipeline_tests.core.drawn_shapes import CLASSES, SIDE, tiny_preset

CARD = ModelCard(
    stream="three_class",
    classes=CLASSES,
    crop=CropSettings(side=SIDE, margin=0.2, detect="whole"),
    label_source="votes",
    trained_on={"preset": "tiny", "seed": 3, "manifest_hash": "0123456789abcdef"},
    temperature=1.25,
    flip=True,
    training_prior=(0.5, 0.3, 0.2),
    prior=(0.2, 0.3, 0.5),
)


@pytest.fixture(scope="module")
def model():
    return build_network(tiny_preset(), len(CLASSES), seed=1)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    save_model(model, CARD, path)
    return path


def test_label_order_and_crop_settings_travel_with_the_file(saved, tmp_path):
    copied = tmp_path / "renamed.keras"
    copied.write_bytes(saved.read_bytes())
    assert read_card(copied) == CARD


def test_loaded_model_gives_equal_outputs(saved, model):
    loaded, card = load_model(saved)
    crops = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 1)).astype(np.uint8)
    expected = np.asarray(model(crops, training=False))
    assert np.array_equal(np.asarray(loaded(crops, training=False)), expected)
    assert card == CARD


def test_nothing_is_left_beside_the_file(saved):
    assert [path.name for path in saved.parent.iterdir()] == ["model.keras"]


def test_failed_save_keeps_the_old_file_and_leaves_nothing(saved, tmp_path):
    class Unsaveable:
        def save(self, path):
            path.write_bytes(b"half a model")
            raise OSError("disk full")

    path = tmp_path / "model.keras"
    path.write_bytes(saved.read_bytes())
    with pytest.raises(OSError, match="disk full"):
        save_model(Unsaveable(), CARD, path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    assert read_card(path) == CARD


def _with_card(saved, path, change):
    """A copy of the file with another card, or none."""
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            if name != "fer_pipeline.json":
                target.writestr(name, source.read(name))
            elif change is not None:
                card = json.loads(source.read(name))
                target.writestr(name, json.dumps(change(card)))
    return path


def test_card_keeps_why_no_temperature_was_fitted(model, tmp_path):
    card = replace(CARD, temperature=1.0, unfitted="13 dev faces are too few")
    save_model(model, card, tmp_path / "model.keras")
    assert read_card(tmp_path / "model.keras") == card


def test_a_card_from_before_calibration_is_read_with_what_it_left_out(saved, tmp_path):
    newer = ("temperature", "flip", "training_prior", "prior", "unfitted")
    path = _with_card(
        saved,
        tmp_path / "older.keras",
        lambda card: {name: value for name, value in card.items() if name not in newer},
    )
    card = read_card(path)
    assert (card.temperature, card.flip, card.training_prior, card.prior) == (1, False, None, None)
    assert replace(CARD, temperature=1.0, flip=False, training_prior=None, prior=None) == card


@pytest.mark.parametrize(
    "change",
    [
        None,
        lambda card: card | {"temperature": "warm"},
        lambda card: card | {"prior": 0.5},
        lambda card: {name: value for name, value in card.items() if name != "classes"},
        lambda card: card | {"crop": card["crop"] | {"sharpen": True}},
        lambda card: card | {"classes": 3},
        lambda card: [card],
    ],
    ids=[
        "no card",
        "no temperature",
        "no shares",
        "no classes",
        "setting of another version",
        "wrong type",
        "list",
    ],
)
def test_archive_without_a_fitting_card_is_an_input_error_that_names_the_file(
    saved, tmp_path, change
):
    path = _with_card(saved, tmp_path / "other.keras", change)
    with pytest.raises(InputError, match=r"other\.keras is no model file of this pipeline"):
        read_card(path)


@pytest.mark.parametrize("data", [None, b"", b"not a zip", "cut"])
def test_missing_truncated_or_foreign_file_is_an_input_error(saved, tmp_path, data):
    path = tmp_path / "broken.keras"
    if data is not None:
        path.write_bytes(saved.read_bytes()[:3000] if data == "cut" else data)
    with pytest.raises(InputError, match=r"broken\.keras is no model file"):
        load_model(path)


def test_card_around_no_keras_model_is_an_input_error(saved, tmp_path):
    path = tmp_path / "hollow.keras"
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as target:
        target.writestr("fer_pipeline.json", source.read("fer_pipeline.json"))
    assert read_card(path) == CARD
    with pytest.raises(InputError, match=r"hollow\.keras can't be loaded as a Keras model"):
        load_model(path)
