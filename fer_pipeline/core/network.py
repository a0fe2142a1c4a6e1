"""The network: a small residual network for face crops, from standard Keras layers only.

A saved model therefore loads wherever Keras 3 is, without this package. How it is trained is
in `train.py`; the sizes are in `presets.py`.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from fer_pipeline.core.presets import Preset


def build_network(preset: Preset, classes_count: int, seed: int) -> Any:
    """An untrained `keras.Model` for `preset`; the same seed gives the same weights.

    Input: (n, height, width, channels), raw 0..255, RGB order when there are three channels;
    scaling is the first layer. Output: softmax probabilities, float32 (n, `classes_count`).
    Residual blocks after He et al., Deep Residual Learning for Image Recognition (2016), the
    shortcut pooled before its 1x1 convolution as in He et al., Bag of Tricks (2019).
    """
    from keras import Model, layers

    shape, seeds = preset.network, itertools.count(seed * 1000)
    inputs = layers.Input(preset.image_shape, name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    x = _conv(x, shape.widths[0], shape.stem_kernel, shape.stem_stride, seeds)
    x = layers.ReLU()(x)
    for stage, (width, blocks) in enumerate(zip(shape.widths, shape.blocks, strict=True)):
        for block in range(blocks):
            x = _block(x, width, 2 if stage and not block else 1, seeds)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(shape.dropout, seed=next(seeds))(x)
    outputs = layers.Dense(
        classes_count,
        activation="softmax",
        kernel_initializer=_he_normal(next(seeds)),
        dtype="float32",
        name="probabilities",
    )(x)
    return Model(inputs, outputs, name=f"fer_{preset.name}")


def training_twin(model: Any) -> Any:
    """A model with the same weights, in the same order, that trains faster; or `model` itself.

    Keras computes batch normalisation from a dozen elementwise operations; on TensorFlow the
    fused kernel makes a training step of the small networks 1.1 to 1.4 times as fast. The
    fused layer is kept out of saved models: only weights go back to `model`.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return model
    fused = _fused_batch_normalization()

    def replace(layer: Any) -> Any:
        kind = fused if isinstance(layer, keras.layers.BatchNormalization) else type(layer)
        return kind.from_config(layer.get_config())

    twin = keras.models.clone_model(model, clone_function=replace)
    twin.set_weights(model.get_weights())
    return twin


def _fused_batch_normalization() -> Any:
    import keras
    import tensorflow as tf

    class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
        def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
            if not training:
                return super().call(inputs, training=training, mask=mask)
            outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=inputs,
                scale=tf.convert_to_tensor(self.gamma),
                offset=tf.convert_to_tensor(self.beta),
                mean=[],
                variance=[],
                epsilon=self.epsilon,
                is_training=True,
            )
            for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + value * (1 - self.momentum))
            return outputs

    return FusedBatchNormalization


def _block(x: Any, width: int, stride: int, seeds: Iterator[int]) -> Any:
    from keras import layers

    shortcut = x
    if stride > 1:
        shortcut = layers.AveragePooling2D(stride, padding="same")(shortcut)
    if x.shape[-1] != width:
        shortcut = _conv(shortcut, width, 1, 1, seeds)
    x = layers.ReLU()(_conv(x, width, 3, stride, seeds))
    x = _conv(x, width, 3, 1, seeds)
    return layers.ReLU()(layers.Add()([x, shortcut]))


def _conv(x: Any, width: int, kernel: int, stride: int, seeds: Iterator[int]) -> Any:
    """Convolution and batch normalisation."""
    from keras import layers

    x = layers.Conv2D(
        width,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=_he_normal(next(seeds)),
    )(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def _he_normal(seed: int) -> Any:
    from keras import initializers

    return initializers.HeNormal(seed=seed)
