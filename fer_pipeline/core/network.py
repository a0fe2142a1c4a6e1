"""The network: a small residual network for face crops, from standard Keras layers only.

A saved model therefore loads wherever Keras 3 is, without this package. How it is trained is
in `train.py`; the sizes are in `presets.py`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.presets import Preset

_LOGITS = "logits"
_PROBABILITIES = "probabilities"
_CUT = 2.0
_CUT_DEVIATION = 0.87962566103423978
"""Standard deviation of a standard normal variable that is cut there."""


def build_network(preset: Preset, classes_count: int, seed: int) -> Any:
    """An untrained `keras.Model` for `preset`; the same seed gives the same weights, whatever
    the backend.

    Input: (n, height, width, channels), raw 0..255, RGB order when there are three channels;
    scaling is the first layer. Output: softmax probabilities, float32 (n, `classes_count`).
    Residual blocks after He et al., Deep Residual Learning for Image Recognition (2016), the
    shortcut pooled before its 1x1 convolution as in He et al., Bag of Tricks (2019).
    """
    from keras import Model, layers

    shape = preset.network
    inputs = layers.Input(preset.image_shape, name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    x = _conv(x, shape.widths[0], shape.stem_kernel, shape.stem_stride)
    x = layers.ReLU()(x)
    for stage, (width, blocks) in enumerate(zip(shape.widths, shape.blocks, strict=True)):
        for block in range(blocks):
            x = _block(x, width, 2 if stage and not block else 1)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(shape.dropout, seed=seed)(x)
    x = layers.Dense(classes_count, dtype="float32", name=_LOGITS)(x)
    outputs = layers.Activation("softmax", dtype="float32", name=_PROBABILITIES)(x)
    model = Model(inputs, outputs, name=f"fer_{preset.name}")
    _set_kernels(model, np.random.default_rng(seed))
    return model


def served_model(model: Any, temperature: float = 1.0, flip: bool = False) -> Any:
    """The model that is saved: calibrated, and with `flip` averaged over the mirror image.

    Input and output are those of `model` (see `build_network`), which may be a served model
    itself: only its network is used. The logits, with `flip` the mean of those of the crop and
    of its mirror image, are divided by `temperature` (Guo et al., On Calibration of Modern
    Neural Networks, 2017) before the softmax. The weights are shared with `model`.

    Raises InputError when the temperature is not above 0 or `model` has another head.
    """
    from keras import Model, layers, ops

    if not 0 < temperature < float("inf"):
        raise InputError(f"A temperature must be a number above 0, not {temperature}: fit it anew.")
    network = bare_network(model)
    inputs = layers.Input(network.input_shape[1:], name="pixels")
    logits = network(inputs)
    if flip:
        logits = layers.Average()([logits, network(ops.flip(inputs, axis=2))])
    x = layers.Rescaling(1 / temperature, dtype="float32", name="temperature")(logits)
    outputs = layers.Activation("softmax", dtype="float32", name=_PROBABILITIES)(x)
    return Model(inputs, outputs, name=f"served_{network.name}")


def bare_network(model: Any) -> Any:
    """The flat network from pixels to logits, float32 (n, K), inside a built or served model.

    Its layers are those that were trained, shared with `model`; temperature and mirror image
    are left behind. Of a model whose last layer is a dense softmax, as this pipeline wrote them
    once, the logits are those of a dense layer with the same weights.

    Raises InputError when `model` is of another kind.
    """
    from keras import Model, layers

    for layer in model.layers:
        if isinstance(layer, Model) and layer.layers[-1].name == _LOGITS:
            return layer
    names = [layer.name for layer in model.layers]
    if _LOGITS in names:
        return Model(model.inputs[0], model.get_layer(_LOGITS).output, name=model.name)
    last = model.layers[-1]
    if isinstance(last, layers.Dense) and last.activation.__name__ == "softmax":
        dense = layers.Dense(last.units, dtype="float32", name=_LOGITS)
        network = Model(model.inputs[0], dense(last.input), name=model.name)
        dense.set_weights(last.get_weights())
        return network
    raise InputError(
        f"The model {model.name} ends in no {_LOGITS!r} layer and no dense softmax: "
        "give one that this pipeline trained."
    )


def shift_logits(model: Any, shift: NDArray[np.floating]) -> None:
    """Add `shift` (K,) to the logits of a built model for good, in the bias of its head."""
    head = bare_network(model).layers[-1]
    kernel, bias = head.get_weights()
    head.set_weights([kernel, bias + np.asarray(shift, bias.dtype)])


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


def _block(x: Any, width: int, stride: int) -> Any:
    from keras import layers

    shortcut = x
    if stride > 1:
        shortcut = layers.AveragePooling2D(stride, padding="same")(shortcut)
    if x.shape[-1] != width:
        shortcut = _conv(shortcut, width, 1, 1)
    x = layers.ReLU()(_conv(x, width, 3, stride))
    x = _conv(x, width, 3, 1)
    return layers.ReLU()(layers.Add()([x, shortcut]))


def _conv(x: Any, width: int, kernel: int, stride: int) -> Any:
    """Convolution and batch normalisation."""
    from keras import layers

    x = layers.Conv2D(width, kernel, strides=stride, padding="same", use_bias=False)(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def _set_kernels(model: Any, rng: np.random.Generator) -> None:
    """Draw the kernels after He et al., Delving Deep into Rectifiers (2015): normal, cut at two
    standard deviations.

    Drawn here and not by initialisers, whose random numbers differ from backend to backend.
    """
    for layer in model.layers:
        if not hasattr(layer, "kernel"):
            continue
        kernel, *rest = layer.get_weights()
        drawn = rng.standard_normal(kernel.shape)
        while (far := np.abs(drawn) > _CUT).any():
            drawn[far] = rng.standard_normal(int(far.sum()))
        scale = np.sqrt(2 / np.prod(kernel.shape[:-1])) / _CUT_DEVIATION
        layer.set_weights([(drawn * scale).astype(kernel.dtype), *rest])
