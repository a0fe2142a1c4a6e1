"""Where in a crop a network found its answer: Grad-CAM.

Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization
(2017). A map says what the network used, not that it was right to.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.network import bare_network

LEAST_SIDE = 6
"""Cells a side that a map has at least, where the network has a layer of that size: the last
layers of small networks have three, too coarse to tell an eye from a mouth."""

NEEDS_TENSORFLOW = (
    "Grad-CAM needs gradients inside the network, which are taken with TensorFlow only: "
    "evaluate with KERAS_BACKEND=tensorflow to have these pictures."
)


def has_gradients() -> bool:
    """Whether the backend of this process gives `grad_cam` its gradients."""
    import keras

    return bool(keras.backend.backend() == "tensorflow")


def grad_cam(
    model: Any, crops: NDArray[np.uint8], classes: NDArray[np.integer[Any]]
) -> NDArray[np.float32]:
    """The share that each cell of the feature map has in the logit of a class.

    Args:
        model: a built or served model of this pipeline (see `network.bare_network`).
        crops: uint8 (n, h, w, c), as the model takes them.
        classes: int (n,), the class asked about, as a position in the outputs.

    Returns:
        float32 (n, cells, cells), the largest cell of each map 1, all 0 where nothing speaks
        for the class. The map is that of the deepest layer with at least `LEAST_SIDE` cells a
        side; the mirror image of test-time flipping is not in it.

    Raises RuntimeError on another backend than TensorFlow.
    """
    if not has_gradients():
        raise RuntimeError(NEEDS_TENSORFLOW)
    import tensorflow as tf
    from keras import Model

    network = bare_network(model)
    features = Model(network.input, [_feature_layer(network).output, network.output])

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def gradient(pixels: Any) -> Any:
        # As a graph, without the gradients of the kernels, which nobody asks for.
        with tf.GradientTape() as tape:
            # A network whose weights are all frozen has nothing that the tape follows by itself.
            tape.watch(pixels)
            cells, logits = features(pixels, training=False)
            chosen = tf.gather(logits, classes.astype(np.int64), axis=1, batch_dims=1)
            wanted = tf.reduce_sum(chosen)
        return tape.gradient(wanted, cells), cells

    slopes, cells = gradient(tf.convert_to_tensor(crops.astype(np.float32)))
    weights = tf.reduce_mean(slopes, axis=(1, 2), keepdims=True)
    maps = np.maximum(tf.reduce_sum(weights * cells, axis=-1).numpy(), 0).astype(np.float32)
    largest = maps.max(axis=(1, 2), keepdims=True)
    normalised: NDArray[np.float32] = maps / np.where(largest > 0, largest, 1)
    return normalised


def _feature_layer(network: Any) -> Any:
    """The deepest layer whose output is a map of at least `LEAST_SIDE` cells a side."""
    maps = [layer for layer in network.layers if len(layer.output.shape) == 4]
    fine = [layer for layer in maps if min(layer.output.shape[1:3]) >= LEAST_SIDE]
    return (fine or maps)[-1]
