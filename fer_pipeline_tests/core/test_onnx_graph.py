"""The graph read from a model file says what Keras says of the same file."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.inference import ExpressionNetwork
from fer_pipeline.core.model_file import ModelCard, load_model, save_model
from fer_pipeline.core.network import build_network, served_model
from fer_pipeline.core.onnx_graph import onnx_graph
from fer_pipeline.core.presets import PRESETS, Preset
from fer_pipeline.core.starter import starter_file

CLASSES = ("Neutral", "Happiness", "Sadness")
CLOSE = 1e-5


def _settled(preset: Preset, seed: int) -> Any:
    """A network whose batch normalisation has seen other pictures than none."""
    network = build_network(preset, len(CLASSES), seed)
    rng = np.random.default_rng(seed)
    for layer in network.layers:
        if type(layer).__name__ == "BatchNormalization":
            shapes = [weight.shape for weight in layer.get_weights()]
            layer.set_weights([rng.uniform(0.5, 1.5, shape) for shape in shapes])
    return network


def _saved(model: Any, preset: Preset, path: Path) -> Path:
    crop = CropSettings(side=preset.side, colour=preset.colour)
    save_model(model, ModelCard("three_class", CLASSES, crop, "listed", {}), path)
    return path


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("flip", [False, True], ids=["straight", "mirrored"])
def test_every_preset_gives_the_probabilities_of_keras(
    tmp_path: Path, name: str, flip: bool
) -> None:
    preset = PRESETS[name]
    narrow = replace(preset.network, widths=tuple(one // 8 for one in preset.network.widths))
    preset = replace(preset, network=narrow)
    model = served_model(_settled(preset, seed=3), temperature=1.7, flip=flip)
    network = ExpressionNetwork(_saved(model, preset, tmp_path / "model.keras"))
    rng = np.random.default_rng(1)
    crops = rng.integers(0, 256, (3, *preset.image_shape)).astype(np.uint8)
    expected = np.asarray(model(crops, training=False))
    assert expected.std() > 0.01
    assert network.probabilities(crops) == pytest.approx(expected, abs=CLOSE)


def test_network_that_was_saved_without_calibration_is_read_too(tmp_path: Path) -> None:
    preset = PRESETS["smoke"]
    model = build_network(preset, len(CLASSES), seed=5)
    network = ExpressionNetwork(_saved(model, preset, tmp_path / "model.keras"))
    crops = np.random.default_rng(2).integers(0, 256, (2, 48, 48, 1)).astype(np.uint8)
    expected = np.asarray(model(crops, training=False))
    assert network.probabilities(crops) == pytest.approx(expected, abs=CLOSE)


def test_starter_gives_the_probabilities_of_keras_whatever_the_batch() -> None:
    model, card = load_model(starter_file())
    network = ExpressionNetwork(starter_file(), threads=1)
    crops = np.random.default_rng(4).integers(0, 256, (150, *card.crop.shape)).astype(np.uint8)
    expected = np.asarray(model(crops, training=False))
    assert network.probabilities(crops) == pytest.approx(expected, abs=CLOSE)
    one_by_one = np.concatenate([network.probabilities(crop[None]) for crop in crops[:5]])
    assert one_by_one == pytest.approx(expected[:5], abs=CLOSE)
    assert network.probabilities(crops[:0]).shape == (0, len(card.classes))


@pytest.mark.parametrize("shape", [(2, 48, 48), (1, 40, 48, 1), (1, 48, 48, 3)])
def test_crops_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    network = ExpressionNetwork(starter_file(), threads=1)
    with pytest.raises(ValueError, match="crops are uint8"):
        network.probabilities(np.zeros(shape, np.uint8))


def test_layer_of_another_kind_is_named(tmp_path: Path) -> None:
    import keras

    inputs = keras.layers.Input((48, 48, 1))
    layers = keras.layers.Flatten(name="flat")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(layers))
    path = _saved(model, PRESETS["smoke"], tmp_path / "model.keras")
    with pytest.raises(InputError, match=r"model\.keras has a layer .* \(Flatten 'flat'\)"):
        onnx_graph(path)


def test_settings_that_are_not_known_are_refused_and_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "other.keras"
    with zipfile.ZipFile(starter_file()) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                content = content.replace(b'"padding": "same"', b'"padding": "valid"')
            target.writestr(name, content)
    with pytest.raises(InputError, match="padding is 'valid'"):
        onnx_graph(path)


@pytest.mark.parametrize("lacking", ["config.json", "model.weights.h5"])
def test_archive_that_lacks_a_part_is_no_model(tmp_path: Path, lacking: str) -> None:
    path = tmp_path / "part.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name in {"config.json", "model.weights.h5"} - {lacking}:
            archive.writestr(name, json.dumps({}))
    with pytest.raises(InputError, match=r"part\.keras is no Keras model file"):
        onnx_graph(path)
