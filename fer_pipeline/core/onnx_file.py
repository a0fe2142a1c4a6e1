"""A model as one ONNX file that says by itself how it is used: graph and card.

The graph is made in `onnx_graph.py`, its int8 form in `onnx_int8.py`, running it is in
`inference.py`; what is checked before a file is published is in `export.py`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.model_file import ModelCard, card_of
from fer_pipeline.core.onnx_graph import INPUT, OUTPUT

USE = "use"
"""Name of the metadata entry that tells people how the file is used."""
_FIELDS = frozenset(field.name for field in fields(ModelCard))


def use_of(card: ModelCard) -> str:
    """What goes into a model and what comes out, in two sentences."""
    side, _, channels = card.crop.shape
    colour = "RGB order" if channels == 3 else "grey"
    return (
        f"Input {INPUT}: uint8 (faces, {side}, {side}, {channels}), values 0 to 255, {colour}, "
        f"crops as `crop` says. Output {OUTPUT}: float32 (faces, {len(card.classes)}), rows sum to "
        "1, columns in the order of `classes`; temperature and prior are in them already."
    )


def with_card(graph: bytes, card: ModelCard) -> bytes:
    """The ONNX model `graph` with `card` as its metadata: one JSON value for each field."""
    import onnx

    model = onnx.load_model_from_string(graph)
    # Quantisation leaves entries of its own, which tell a user of the file nothing.
    del model.metadata_props[:]
    values = {name: json.dumps(value) for name, value in asdict(card).items()}
    onnx.helper.set_model_props(model, {**values, USE: use_of(card)})
    data: bytes = model.SerializeToString()
    return data


def read_onnx(path: Path) -> tuple[bytes, ModelCard]:
    """The ONNX model in a file that `with_card` made, and its card.

    Raises InputError when the file is no such model.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        data = path.read_bytes()
        model = onnx.load_model_from_string(data)
        stored: Mapping[str, Any] = {
            entry.key: json.loads(entry.value)
            for entry in model.metadata_props
            if entry.key in _FIELDS
        }
        card = card_of(stored)
        _check_ends(model.graph, card)
    except (OSError, DecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is no ONNX file of this pipeline, whose metadata say how it is used: give one "
            "that `fer-pipeline export` wrote"
        ) from error
    return data, card


def _check_ends(graph: Any, card: ModelCard) -> None:
    """Raise ValueError unless the graph takes and gives what its card says."""
    found = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim][1:]
        for value in (*graph.input, *graph.output)
    }
    if found != {INPUT: [*card.crop.shape], OUTPUT: [len(card.classes)]}:
        raise ValueError(f"the graph has {found}, which isn't what its card says")
