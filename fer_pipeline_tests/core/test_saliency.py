"""Grad-CAM points at what a network uses; for a pooled linear head it is the class map itself."""

import keras
import numpy as np
import pytest

from fer_pipeline.core import saliency
from fer_pipeline.core.network import build_network, served_model
from fer_pipeline.core.saliency import NEEDS_TENSORFLOW, grad_cam, has_gradients
from fer_pipeline_tests.core.drawn_shapes import tiny_preset

needs_gradients = pytest.mark.skipif(not has_gradients(), reason=NEEDS_TENSORFLOW)


def corner_network():
    """Class 0 is what is bright in a 24-pixel picture, class 1 what is dark."""
    inputs = keras.Input((24, 24, 1))
    kernel = np.array([1.0, -1.0]).reshape(1, 1, 1, 2) / 255
    convolution = keras.layers.Conv2D(2, 1, strides=4, use_bias=False)
    x = convolution(inputs)
    x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    logits = keras.layers.Dense(2, name="logits", use_bias=False)
    outputs = keras.layers.Activation("softmax", name="probabilities")(logits(x))
    model = keras.Model(inputs, outputs)
    convolution.set_weights([kernel])
    logits.set_weights([np.array([[4.0, -4.0], [0.0, 0.0]])])
    return model


def spot(row, column):
    crop = np.zeros((24, 24, 1), np.uint8)
    crop[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] = 255
    return crop


@needs_gradients
def test_map_points_at_the_place_that_speaks_for_the_class():
    crops = np.stack([spot(1, 4), spot(5, 0)])
    maps = grad_cam(corner_network(), crops, np.array([0, 0]))
    assert maps.shape == (2, 6, 6)
    assert np.unravel_index(maps[0].argmax(), (6, 6)) == (1, 4)
    assert np.unravel_index(maps[1].argmax(), (6, 6)) == (5, 0)
    assert maps.max(axis=(1, 2)).tolist() == [1.0, 1.0]
    assert (maps > 0).sum() == 2


@needs_gradients
def test_map_of_a_class_that_nothing_speaks_for_is_empty():
    maps = grad_cam(corner_network(), np.stack([spot(1, 4)]), np.array([1]))
    assert maps.max() == 0


@needs_gradients
def test_at_the_last_layer_the_map_is_the_class_activation_map():
    """Zhou et al. 2016: there the head's weights are the gradients, but for a factor."""
    model = build_network(tiny_preset(), 3, seed=4)
    crops = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 1)).astype(np.uint8)
    classes = np.array([0, 1, 2, 0, 1])
    features = keras.Model(model.input, saliency._feature_layer(model).output)
    cells = np.asarray(features(crops.astype(np.float32), training=False))
    kernel = np.asarray(model.get_layer("logits").kernel)
    expected = np.maximum(np.einsum("nhwc,cn->nhw", cells, kernel[:, classes]), 0)
    expected /= expected.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(grad_cam(model, crops, classes), expected, atol=1e-4)


@needs_gradients
def test_served_model_has_the_map_of_its_network():
    model = build_network(tiny_preset(), 3, seed=4)
    crops = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1)).astype(np.uint8)
    classes = np.array([2, 1, 0])
    served = served_model(model, temperature=1.7, flip=True)
    np.testing.assert_allclose(
        grad_cam(served, crops, classes), grad_cam(model, crops, classes), atol=1e-5
    )


@needs_gradients
def test_network_whose_weights_are_frozen_has_the_same_map():
    model = corner_network()
    crops = np.stack([spot(1, 4)])
    free = grad_cam(model, crops, np.array([0]))
    model.trainable = False
    np.testing.assert_array_equal(grad_cam(model, crops, np.array([0])), free)
    assert free.max() == 1


def test_other_backends_are_told_what_is_needed(monkeypatch):
    monkeypatch.setattr(saliency, "has_gradients", lambda: False)
    with pytest.raises(RuntimeError, match="KERAS_BACKEND=tensorflow"):
        grad_cam(None, np.zeros((1, 8, 8, 1), np.uint8), np.array([0]))
