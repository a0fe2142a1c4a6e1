"""A Keras model as a LiteRT file (.tflite), made with TensorFlow, and such a file in use.

The file's inputs and outputs are those of `onnx_graph.py`. It has no place for a card: that stands
in the report beside it, see `export.py`.
"""

import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.onnx_graph import INPUT, OUTPUT

_BATCH = 64
_IN_FLOATS = ("SOFTMAX",)
"""Probabilities would otherwise come in steps of 1/256, and not sum to 1."""


def check_litert() -> None:
    """Raise InputError, saying what to install or set, where no LiteRT file can be made."""
    try:
        import ai_edge_litert.interpreter  # noqa: F401
        import keras
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"LiteRT files need TensorFlow and LiteRT ({error}): pip install 'fer_pipeline[litert]'"
        ) from error
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            "LiteRT files are made by TensorFlow, and KERAS_BACKEND is "
            f"{keras.backend.backend()}: set it to tensorflow"
        )


def litert_file(model: Any, calibration: NDArray[np.uint8] | None = None) -> bytes:
    """The LiteRT file of a Keras model of inputs (n, height, width, channels).

    Input uint8 with the number of faces left open, output float32 (n, K). With `calibration`, crops
    uint8 (m, height, width, channels), it computes in int8 (a scale for each channel of weights),
    ranges of values being what these crops give.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        _save(model, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if calibration is None:
            return bytes(converter.convert())

        def batches() -> Iterator[list[NDArray[np.uint8]]]:
            for start in range(0, len(calibration), _BATCH):
                yield [calibration[start : start + _BATCH]]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = batches
        # The one way to leave a kind of operation in floats.
        chosen = tf.lite.experimental.QuantizationDebugger(
            converter=converter,
            debug_dataset=batches,
            debug_options=tf.lite.experimental.QuantizationDebugOptions(
                denylisted_ops=list(_IN_FLOATS)
            ),
        )
        return bytes(chosen.get_nondebug_quantized_model())


def litert_probabilities(data: bytes, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a LiteRT file says of crops uint8 (n, height, width, channels): float32 (n, K)."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data)
    (pixels,), (probabilities,) = interpreter.get_input_details(), interpreter.get_output_details()
    parts = []
    for start in range(0, len(crops), _BATCH):
        batch = crops[start : start + _BATCH]
        interpreter.resize_tensor_input(pixels["index"], batch.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(pixels["index"], batch)
        interpreter.invoke()
        parts.append(interpreter.get_tensor(probabilities["index"]))
    return np.concatenate(parts)


def _save(model: Any, folder: str) -> None:
    """Write a SavedModel whose one signature has the names and types of the file."""
    import keras
    import tensorflow as tf

    pixels = tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8, name=INPUT)

    def serve(pixels: Any) -> dict[str, Any]:
        return {OUTPUT: model(tf.cast(pixels, tf.float32), training=False)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(name="serve", fn=serve, input_signature=[pixels])
    archive.write_out(folder, verbose=False)
