"""An ONNX graph of 32-bit numbers with its convolutions computed in 8 bits.

Static quantisation by ONNX Runtime's own tools, with QuantizeLinear and DequantizeLinear around
each node. What the file then loses in accuracy is measured in `export_check.py`.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.onnx_graph import INPUT

_KINDS = ("Conv", "Relu", "Add", "AveragePool", "GlobalAveragePool")
"""The body of the network; the head is small, and its probabilities would come in steps of 1/256.
The first convolution is among them: in floats it gained nothing on FER2013's dev faces."""
_BATCH = 64


def quantised(graph: bytes, crops: NDArray[np.uint8]) -> bytes:
    """The ONNX model `graph` in int8; ranges of values are taken from `crops` (n, h, w, c).

    Weights are signed with a scale for each channel, values between the layers unsigned with one
    scale, between the 0.001st and the 99.999th percentile of what the crops give. Inputs and
    outputs stay as they are.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        plain, ready, made = (Path(folder) / name for name in ("plain", "ready", "made"))
        plain.write_bytes(graph)
        # Batch normalisation becomes part of the convolution before it.
        quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
        model = onnx.load(ready)
        for number, node in enumerate(model.graph.node):
            node.name = f"{node.op_type}_{number}"
        onnx.save(model, ready)
        quantize_static(
            str(ready),
            str(made),
            _reader(crops),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_KINDS),
            nodes_to_exclude=_shifts(model.graph),
            per_channel=True,
            # Processors without VNNI add two products of 8 bits in 16, which may be too few; of
            # weights of 7 bits they never are, so that the file says the same everywhere.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            # All values between the layers would otherwise be held at once, for all crops.
            extra_options={"CalibStridedMinMax": 1},
        )
        return _without_copies(onnx.load(made))


def _shifts(graph: Any) -> list[str]:
    """The nodes that add a constant: pixels are scaled in floats, before the first layer."""
    constants = {tensor.name for tensor in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type == "Add" and constants.intersection(node.input)
    ]


def _without_copies(model: Any) -> bytes:
    """The model with each constant kept once: the mirrored network has the same weights again."""
    kept: dict[tuple[Any, ...], str] = {}
    name_of: dict[str, str] = {}
    constants = list(model.graph.initializer)
    del model.graph.initializer[:]
    for tensor in constants:
        content = (tensor.data_type, tuple(tensor.dims), _content(tensor))
        name_of[tensor.name] = kept.setdefault(content, tensor.name)
        if name_of[tensor.name] == tensor.name:
            model.graph.initializer.append(tensor)
    for node in model.graph.node:
        node.input[:] = [name_of.get(name, name) for name in node.input]
    data: bytes = model.SerializeToString()
    return data


def _content(tensor: Any) -> bytes:
    from onnx import numpy_helper

    return bytes(numpy_helper.to_array(tensor).tobytes())


def _reader(crops: NDArray[np.uint8]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Batches of the crops, of which a range can be asked for."""

        def __init__(self) -> None:
            self._batches = [
                crops[start : start + _BATCH] for start in range(0, len(crops), _BATCH)
            ]
            self.set_range(0, len(self._batches))

        def __len__(self) -> int:
            return len(self._batches)

        def set_range(self, start_index: int, end_index: int) -> None:
            self._left = iter(self._batches[start_index:end_index])

        def get_next(self) -> Mapping[str, NDArray[np.uint8]] | None:
            batch = next(self._left, None)
            return None if batch is None else {INPUT: batch}

    return Reader()
