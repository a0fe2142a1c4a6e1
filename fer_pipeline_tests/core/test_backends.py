"""The same training on another Keras backend: the same figures within noise, the same file."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fer_pipeline.core.network import build_network
from fer_pipeline.core.presets import PRESETS
from fer_pipeline.core.train import predict_crops
from fer_pipeline_tests.core.backend_work import work

HERE = "tensorflow"


def _trained(backend: str, folder: Path) -> Path:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} isn't installed: the other backend can't be tried")
    folder.mkdir()
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    ended = subprocess.run(
        [sys.executable, "-m", "fer_pipeline_tests.core.backend_work", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backends") / HERE
    folder.mkdir()
    work(folder)
    return folder


@pytest.fixture(scope="module", params=["jax", "torch"])
def other(request, tmp_path_factory):
    return _trained(request.param, tmp_path_factory.mktemp("backends") / request.param)


def _history(folder):
    return json.loads((folder / "history.json").read_text())


def test_another_backend_learns_the_same_within_noise(other, reference):
    ours, theirs = _history(reference), _history(other)
    assert len(ours) == len(theirs) == 4
    # The same weights, batches and steps: only rounding and the moving variance differ.
    assert theirs[0]["loss"] == pytest.approx(ours[0]["loss"], rel=0.01)
    assert theirs[-1]["loss"] == pytest.approx(ours[-1]["loss"], rel=0.05)
    assert theirs[-1]["dev_accuracy"] == pytest.approx(ours[-1]["dev_accuracy"], abs=0.05)
    assert theirs[-1]["dev_loss"] == pytest.approx(ours[-1]["dev_loss"], rel=0.15)


def test_a_model_of_another_backend_gives_the_same_probabilities_here(other):
    import keras

    assert keras.backend.backend() == HERE
    model = keras.models.load_model(other / "model.keras", compile=False)
    found = predict_crops(model, np.load(other / "pixels.npy"))
    assert np.abs(found - np.load(other / "probability.npy")).max() < 1e-4


def test_first_weights_are_drawn_without_the_backend():
    import keras

    keras.utils.set_random_seed(1)
    kernel = build_network(PRESETS["smoke"], 3, seed=0).get_layer("logits").get_weights()[0]
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(2)
    again = build_network(PRESETS["smoke"], 3, seed=0)
    assert np.array_equal(kernel, again.get_layer("logits").get_weights()[0])
    first = next(layer for layer in again.layers if hasattr(layer, "kernel"))
    drawn = rng.standard_normal(first.kernel.shape)
    inside = np.abs(drawn) < 2
    ratio = first.get_weights()[0][inside] / drawn[inside]
    assert ratio == pytest.approx(np.full(ratio.shape, ratio.flat[0]), rel=1e-4)
