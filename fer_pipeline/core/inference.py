"""A trained network in use: crops in, calibrated probabilities out, through ONNX Runtime.

Neither TensorFlow nor Keras is imported. Where faces come from is decided in `recogniser.py`; how
a model file becomes a graph in `onnx_graph.py`, what an exported file holds in `onnx_file.py`.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.model_file import ModelCard, read_card
from fer_pipeline.core.onnx_file import read_onnx
from fer_pipeline.core.onnx_graph import INPUT, OUTPUT, onnx_graph

_BATCH = 64


class ExpressionNetwork:
    """The network of a model file, ready to use; may be shared by threads."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        """Read the .keras file, or exported .onnx file, at `path`.

        `threads` compute one batch, None: one for each core. Raises InputError when the file is no
        model of this pipeline.
        """
        import onnxruntime

        self.card: ModelCard
        graph, self.card = _read(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        # Threads that wait for the next batch would otherwise spin on the cores of the rest.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                # It would only tell of the error on standard output, and try the same again.
                graph,
                options,
                providers=["CPUExecutionProvider"],
                enable_fallback=False,
            )
        except _errors() as error:
            raise InputError(
                f"{path} holds a damaged network ({str(error).splitlines()[0]}): give a whole copy "
                "of the file"
            ) from error

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return self.card.classes

    def probabilities(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Calibrated probabilities, float32 (n, K), of crops uint8 (n, side, side, channels).

        The crops are as `core.crop` makes them with the card's settings. Raises ValueError for
        crops of another shape.
        """
        shape = self.card.crop.shape
        if crops.dtype != np.uint8 or crops.shape[1:] != shape:
            raise ValueError(f"crops are {crops.dtype} {crops.shape}, not uint8 (n, {shape})")
        parts: Sequence[NDArray[np.float32]] = [
            self._session.run([OUTPUT], {INPUT: crops[start : start + _BATCH]})[0]
            for start in range(0, len(crops), _BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)), np.float32)


def _errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for a graph that is damaged; they have no common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as known

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented")
    return (ValueError, *(getattr(known, name) for name in names))


def _read(path: Path) -> tuple[bytes, ModelCard]:
    """The graph and the card of a model file; an archive is Keras' own, whatever it is called."""
    if path.suffix.lower() == ".onnx" and not zipfile.is_zipfile(path):
        return read_onnx(path)
    card = read_card(path)
    return onnx_graph(path), card
