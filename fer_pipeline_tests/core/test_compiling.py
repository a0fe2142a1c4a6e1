import importlib.util
import os
import subprocess
import sys

import pytest

from fer_pipeline.core.compiling import jit

_TORCH = """
import numpy as np, torch
from fer_pipeline.core.network import build_network
from fer_pipeline.core.presets import PRESETS
from fer_pipeline.core.train import predict_crops
def refuse(*_, **__):
    raise AssertionError("compiled")
torch.compile = refuse
model = build_network(PRESETS["smoke"], 3, seed=0)
found = predict_crops(model, np.zeros((2, *PRESETS["smoke"].image_shape), np.uint8))
assert found.shape == (2, 3)
"""


@pytest.mark.parametrize(
    ("backend", "expected"), [("tensorflow", False), ("torch", False), ("jax", "auto")]
)
def test_only_jax_is_compiled(monkeypatch, backend, expected):
    import keras

    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    assert jit() == expected


def test_scoring_on_torch_needs_no_compiler():
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch isn't installed: it can't be tried")
    ended = subprocess.run(
        [sys.executable, "-c", _TORCH],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
