import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from fer_pipeline.core.network import build_network, training_twin
from fer_pipeline.core.presets import PRESETS
from fer_pipeline_tests.core.drawn_shapes import tiny_preset


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 1)).astype(np.float32)


def _predict(model, pixels):
    return np.asarray(model(pixels, training=False))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_give_probabilities_for_raw_crops(name):
    preset = PRESETS[name]
    model = build_network(preset, 7, seed=0)
    crops = np.random.default_rng(0).integers(0, 256, (2, *preset.image_shape)).astype(np.uint8)
    probabilities = _predict(model, crops)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (2, 7)
    assert probabilities.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_the_cpu_network_stays_small():
    assert build_network(PRESETS["cpu"], 8, seed=0).count_params() <= 1_250_000


def test_seed_alone_decides_the_first_weights(pixels):
    import keras

    one = _predict(build_network(tiny_preset(), 3, seed=1), pixels)
    keras.utils.set_random_seed(99)
    assert np.array_equal(one, _predict(build_network(tiny_preset(), 3, seed=1), pixels))
    assert not np.array_equal(one, _predict(build_network(tiny_preset(), 3, seed=2), pixels))


def test_layers_of_one_network_start_from_different_weights():
    preset = tiny_preset()
    wide = replace(preset, network=replace(preset.network, widths=(8, 8), blocks=(1, 1)))
    kernels = [w for w in build_network(wide, 3, seed=0).get_weights() if w.shape == (3, 3, 8, 8)]
    assert len(kernels) == 4
    assert not any(np.array_equal(kernels[0], other) for other in kernels[1:])


def test_saved_model_loads_without_this_package_and_gives_equal_outputs(tmp_path, pixels):
    import keras

    model = build_network(tiny_preset(), 3, seed=4)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert np.array_equal(_predict(loaded, pixels), _predict(model, pixels))
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json").decode()
    modules = {layer["module"] for layer in json.loads(config)["config"]["layers"]}
    assert modules == {"keras.layers"}


def test_twin_computes_what_the_model_computes(pixels):
    model = build_network(tiny_preset(), 3, seed=4)
    model.layers[-1].set_weights([w + 0.5 for w in model.layers[-1].get_weights()])
    twin = training_twin(model)
    assert all(
        np.array_equal(a, b) for a, b in zip(model.get_weights(), twin.get_weights(), strict=True)
    )
    assert np.allclose(_predict(twin, pixels), _predict(model, pixels), atol=1e-6)


def test_twin_trains_like_the_model(pixels):
    """Gradients step and moving statistics agree with Keras' own batch normalisation."""
    import keras

    preset = tiny_preset()
    preset = replace(preset, network=replace(preset.network, dropout=0.0))
    model = build_network(preset, 3, seed=4)
    twin = training_twin(model)
    target = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]]
    before = model.get_weights()
    for each in (model, twin):
        each.compile(keras.optimizers.SGD(0.1), loss="categorical_crossentropy", jit_compile=False)
        each.train_on_batch(pixels, target)
    for start, one, other in zip(before, model.get_weights(), twin.get_weights(), strict=True):
        # The fused kernel keeps the unbiased variance: n / (n - 1) times the other.
        assert np.allclose(one, other, atol=5e-4)
        assert not np.array_equal(start, other)
