import json
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from fer_pipeline.core.calibration import with_temperature
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.network import (
    bare_network,
    build_network,
    served_model,
    shift_logits,
    training_twin,
)
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
    assert build_network(PRESETS["cpu"], 8, seed=0).count_params() <= 1_200_000


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


def test_kernels_have_the_spread_that_keeps_signals_alive():
    """He et al. (2015): a variance of two over the number of inputs, whatever the layer."""
    model = build_network(PRESETS["cpu"], 7, seed=3)
    kernels = [layer.get_weights()[0] for layer in model.layers if hasattr(layer, "kernel")]
    large = [kernel for kernel in kernels if kernel.size > 5_000]
    assert len(large) >= 6
    for kernel in large:
        expected = np.sqrt(2 / np.prod(kernel.shape[:-1]))
        assert kernel.std() == pytest.approx(expected, rel=0.03)
        assert abs(kernel.mean()) < 0.05 * expected
        assert np.abs(kernel).max() <= 2 * expected / 0.8796


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
    head = model.get_layer("logits")
    head.set_weights([w + 0.5 for w in head.get_weights()])
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


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.4, 3.0])
def test_served_model_divides_the_mean_logits_by_the_temperature(pixels, temperature, flip):
    model = build_network(tiny_preset(), 3, seed=4)
    raw = _predict(model, pixels)
    if flip:
        # The mean of logits is, up to a constant, that of logarithms of probabilities.
        mirrored = _predict(model, pixels[:, :, ::-1])
        raw = np.sqrt(raw * mirrored)
        raw /= raw.sum(axis=1, keepdims=True)
    served = served_model(model, temperature, flip)
    assert _predict(served, pixels) == pytest.approx(with_temperature(raw, temperature), abs=1e-6)


def test_mirror_images_get_the_same_probabilities_from_a_served_model(pixels):
    served = served_model(build_network(tiny_preset(), 3, seed=4), 1.3, flip=True)
    assert _predict(served, pixels) == pytest.approx(_predict(served, pixels[:, :, ::-1]), abs=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_served_model_is_one_file_that_plain_keras_loads(tmp_path, pixels, flip):
    served = served_model(build_network(tiny_preset(), 3, seed=4), 1.7, flip)
    path = tmp_path / "served.keras"
    served.save(path)
    np.save(tmp_path / "pixels.npy", pixels)
    code = (
        "import sys, keras, numpy as np\n"
        "model = keras.models.load_model('served.keras')\n"
        "out = model(np.load('pixels.npy'), training=False)\n"
        "np.save('out.npy', np.asarray(out))\n"
        "assert not any(name.startswith('fer_pipeline') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)
    assert np.load(tmp_path / "out.npy") == pytest.approx(_predict(served, pixels), abs=1e-6)


def test_serving_again_leaves_the_first_temperature_behind(pixels):
    import keras

    model = build_network(tiny_preset(), 3, seed=4)
    again = served_model(served_model(model, 5.0, flip=True), 2.0)
    assert np.array_equal(_predict(again, pixels), _predict(served_model(model, 2.0), pixels))
    logits = np.asarray(bare_network(again)(pixels, training=False))
    assert np.asarray(keras.ops.softmax(logits)) == pytest.approx(_predict(model, pixels), abs=1e-6)


def test_models_with_a_dense_softmax_can_be_served(pixels):
    from keras import Model, layers

    built = build_network(tiny_preset(), 3, seed=4)
    head = built.get_layer("logits")
    dense = layers.Dense(3, activation="softmax", name="probabilities")
    older = Model(built.inputs, dense(head.input))
    dense.set_weights(head.get_weights())
    assert _predict(served_model(older), pixels) == pytest.approx(_predict(built, pixels), abs=1e-6)


def test_a_model_without_logits_cannot_be_served():
    from keras import Sequential, layers

    foreign = Sequential([layers.Input((4,)), layers.Dense(3)])
    with pytest.raises(InputError, match="ends in no 'logits' layer and no dense softmax"):
        served_model(foreign)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_has_to_be_a_number_above_zero(temperature):
    with pytest.raises(InputError, match="above 0"):
        served_model(build_network(tiny_preset(), 3, seed=4), temperature)


def test_shifted_logits_multiply_the_odds(pixels):
    model = build_network(tiny_preset(), 3, seed=4)
    before = _predict(model, pixels)
    shift_logits(model, np.log([1.0, 3.0, 0.5]))
    expected = before * [1, 3, 0.5]
    expected /= expected.sum(axis=1, keepdims=True)
    assert _predict(model, pixels) == pytest.approx(expected, abs=1e-6)
