"""A model file as an ONNX graph, read from the archive itself: neither Keras nor TensorFlow.

Knows the layers that `network.py` builds with. Running such a graph is in `inference.py`, writing
it for other programs in `export.py`.
"""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.errors import InputError

INPUT, OUTPUT = "pixels", "probabilities"
"""Names of the graph's input, uint8 (n, height, width, channels), and output, float32 (n, K)."""

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_OPSET, _IR = 17, 8
_BATCH = "faces"
_LAST = np.iinfo(np.int64).min
"""End of a slice that runs backwards to the first element, that included."""


def onnx_graph(path: Path) -> bytes:
    """The ONNX model (opset 17) that computes what the .keras file at `path` does.

    Input `pixels`: uint8 (n, height, width, channels), values and colour order as the model's
    card says. Output `probabilities`: float32 (n, K). Inside, pictures are (n, channels, height,
    width). Weights that the file keeps as 16-bit numbers become 32-bit ones, as in Keras.

    Raises InputError for a file that is no Keras archive or has a layer of another kind.
    """
    config, weights = _read(path)
    writer = _Writer(path, weights)
    try:
        return writer.model(config)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} holds a network that can't be read here ({type(error).__name__}: {error}): "
            "give a model file that this pipeline trained"
        ) from error


def _read(path: Path) -> tuple[Mapping[str, Any], Mapping[str, list[NDArray[np.float32]]]]:
    """The archive's configuration, and the weights of each layer by the layer's name."""
    import h5py

    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read(_CONFIG))
            stored = archive.read(_WEIGHTS)
        with h5py.File(io.BytesIO(stored), "r") as file:
            return config, _weights_by_layer(file)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise InputError(f"{path} is no Keras model file (.keras): {error}") from error


def _weights_by_layer(file: Any) -> dict[str, list[NDArray[np.float32]]]:
    """Keras numbers the groups by kind and keeps each layer's own name as an attribute."""
    import h5py

    found: dict[str, list[NDArray[np.float32]]] = {}

    def take(_: str, group: Any) -> None:
        if isinstance(group, h5py.Group) and "name" in group.attrs:
            values = [group[str(number)] for number in range(len(group))]
            found[str(group.attrs["name"])] = [np.asarray(one, np.float32) for one in values]

    file.visititems(take)
    return found


class _Writer:
    """Nodes and constants of the graph, in the order in which layers are met."""

    def __init__(self, path: Path, weights: Mapping[str, list[NDArray[np.float32]]]) -> None:
        self._path, self._weights = path, weights
        self._nodes: list[Any] = []
        self._constants: dict[str, NDArray[Any]] = {}

    def model(self, config: Mapping[str, Any]) -> bytes:
        """The whole model, serialised."""
        from onnx import TensorProto, checker, helper, numpy_helper

        (height, width, channels), classes = _sizes(config), _classes(config)
        floats = self._node("Cast", [INPUT], to=TensorProto.FLOAT)
        pictures = self._node("Transpose", [floats], perm=[0, 3, 1, 2])
        self._node("Identity", [self._network(config["config"], pictures)], out=OUTPUT)
        pixels = [_BATCH, height, width, channels]
        graph = helper.make_graph(
            self._nodes,
            str(config["config"]["name"]),
            [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, pixels)],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [_BATCH, classes])],
            [numpy_helper.from_array(value, name) for name, value in self._constants.items()],
        )
        opsets = [helper.make_opsetid("", _OPSET)]
        made = helper.make_model(
            graph, opset_imports=opsets, ir_version=_IR, producer_name="fer_pipeline"
        )
        checker.check_model(made)
        data: bytes = made.SerializeToString()
        return data

    def _network(self, config: Mapping[str, Any], value: str) -> str:
        """The nodes of a functional model whose one input is `value`; the name of its output."""
        made: dict[tuple[str, int], str] = {}
        for layer in config["layers"]:
            if layer["class_name"] == "InputLayer":
                made[layer["name"], 0] = value
                continue
            # A layer that is called more than once, as the mirrored network is, has more calls.
            for call, inbound in enumerate(layer["inbound_nodes"]):
                inputs = [made[source] for source in _sources(inbound["args"])]
                made[layer["name"], call] = self._layer(layer, inputs)
        output = config["output_layers"]
        name, call, _ = output if isinstance(output[0], str) else output[0]
        return made[name, call]

    def _layer(self, layer: Mapping[str, Any], inputs: list[str]) -> str:
        kind, name, settings = layer["class_name"], layer["name"], layer["config"]
        match kind:
            case "Functional":
                return self._network(settings, inputs[0])
            case "Rescaling":
                scaled = self._node("Mul", [inputs[0], self._number(name, settings["scale"])])
                offset = self._number(f"{name}_offset", settings["offset"])
                return self._node("Add", [scaled, offset])
            case "Conv2D":
                return self._convolution(name, settings, inputs[0])
            case "BatchNormalization":
                values = zip(("gamma", "beta", "mean", "variance"), self._of(name, 4), strict=True)
                constants = [self._constant(f"{name}_{part}", value) for part, value in values]
                epsilon = float(settings["epsilon"])
                return self._node("BatchNormalization", [*inputs, *constants], epsilon=epsilon)
            case "ReLU":
                _expect(settings, max_value=None, negative_slope=0.0, threshold=0.0)
                return self._node("Relu", inputs)
            case "Add":
                return self._node("Add", inputs)
            case "Average":
                return self._node("Mean", inputs)
            case "AveragePooling2D":
                _expect(settings, padding="same", data_format="channels_last")
                sides = {"kernel_shape": settings["pool_size"], "strides": settings["strides"]}
                return self._node("AveragePool", inputs, auto_pad="SAME_UPPER", **sides)
            case "GlobalAveragePooling2D":
                _expect(settings, data_format="channels_last", keepdims=False)
                return self._node("Flatten", [self._node("GlobalAveragePool", inputs)])
            case "Dropout":
                return inputs[0]
            case "Flip":
                _expect(settings, axis=2)  # of (n, height, width, channels): the width
                return self._mirrored(inputs[0])
            case "Dense":
                return self._dense(name, settings, inputs[0])
            case "Activation":
                _expect(settings, activation="softmax")
                return self._node("Softmax", inputs, axis=-1)
        raise InputError(
            f"{self._path} has a layer of a kind that isn't known here ({kind} {name!r}): "
            "give a model file that this pipeline trained"
        )

    def _convolution(self, name: str, settings: Mapping[str, Any], value: str) -> str:
        _expect(settings, padding="same", data_format="channels_last", activation="linear")
        _expect(settings, dilation_rate=[1, 1], groups=1)
        kernel, *bias = self._of(name, 2 if settings["use_bias"] else 1)
        constants = [self._constant(f"{name}_kernel", kernel.transpose(3, 2, 0, 1))]
        constants += [self._constant(f"{name}_bias", one) for one in bias]
        return self._node(
            "Conv", [value, *constants], auto_pad="SAME_UPPER", strides=settings["strides"]
        )

    def _mirrored(self, value: str) -> str:
        width = 3  # of (n, channels, height, width)
        places = {"start": -1, "end": _LAST, "axis": width, "step": -1}
        given = [
            self._constant(f"mirror_{part}", np.array([place], np.int64))
            for part, place in places.items()
        ]
        return self._node("Slice", [value, *given])

    def _dense(self, name: str, settings: Mapping[str, Any], value: str) -> str:
        kernel, bias = self._of(name, 2)
        constants = self._constant(f"{name}_kernel", kernel), self._constant(f"{name}_bias", bias)
        outputs = self._node("Gemm", [value, *constants])
        if settings["activation"] == "softmax":
            return self._node("Softmax", [outputs], axis=-1)
        _expect(settings, activation="linear")
        return outputs

    def _of(self, name: str, count: int) -> list[NDArray[np.float32]]:
        values = self._weights[name]
        if len(values) != count:
            raise ValueError(f"layer {name} has {len(values)} weights, not {count}")
        return values

    def _node(self, kind: str, inputs: Sequence[str], *, out: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = out or f"value_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        self._constants[name] = np.ascontiguousarray(value)
        return name

    def _number(self, name: str, value: float) -> str:
        return self._constant(name, np.asarray(value, np.float32))


def _sources(arguments: Any) -> Iterator[tuple[str, int]]:
    """The calls, as (layer, number of the call), whose outputs a call takes, in order."""
    if isinstance(arguments, Mapping):
        if arguments.get("class_name") == "__keras_tensor__":
            layer, call, _ = arguments["config"]["keras_history"]
            yield layer, call
    elif isinstance(arguments, list):
        for one in arguments:
            yield from _sources(one)


def _sizes(config: Mapping[str, Any]) -> tuple[int, int, int]:
    (shape,) = (
        layer["config"]["batch_shape"]
        for layer in config["config"]["layers"]
        if layer["class_name"] == "InputLayer"
    )
    _, height, width, channels = shape
    return height, width, channels


def _classes(config: Mapping[str, Any]) -> int:
    """Units of the last dense layer, which is the head."""
    units = 0
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "Functional":
            units = _classes(layer) or units
        elif layer["class_name"] == "Dense":
            units = layer["config"]["units"]
    return units


def _expect(settings: Mapping[str, Any], **wanted: Any) -> None:
    for name, value in wanted.items():
        if settings.get(name, value) != value:
            raise ValueError(f"{name} is {settings[name]!r}, and only {value!r} is known here")
