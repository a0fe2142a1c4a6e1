"""A model file written for other programs: as ONNX or LiteRT, once it was seen to say the same.

How each format is made is in `onnx_file.py`, `onnx_int8.py` and `litert_file.py`, the comparison in
`export_check.py`; which faces it is made on is the caller's choice.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.compiling import full_precision
from fer_pipeline.core.disk import NO_ROOM
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.export_check import Check, Faces, check_export
from fer_pipeline.core.files import published
from fer_pipeline.core.inference import ExpressionNetwork
from fer_pipeline.core.litert_file import check_litert, litert_file, litert_probabilities
from fer_pipeline.core.model_file import ModelCard, load_model, without_paths
from fer_pipeline.core.onnx_file import use_of, with_card
from fer_pipeline.core.onnx_graph import INPUT, OUTPUT, onnx_graph
from fer_pipeline.core.onnx_int8 import quantised
from fer_pipeline.core.storage import expanded
from fer_pipeline.core.train import predict_crops


class Format(StrEnum):
    """What a model can be exported as."""

    ONNX = "onnx"
    LITERT = "litert"

    @property
    def suffix(self) -> str:
        """Ending of its files."""
        return {Format.ONNX: ".onnx", Format.LITERT: ".tflite"}[self]


@dataclass(frozen=True)
class Exported:
    """The two files that were written, and what the second one says of the first."""

    file: Path
    report_file: Path
    check: Check
    report: Mapping[str, Any]


def out_file(out: Path, kind: Format) -> Path:
    """The file that `out` names, as an absolute path; without an ending it gets the fitting one.

    Raises InputError for another ending, a folder, and a place that can't be written to.
    """
    path = expanded(out).absolute()
    if not path.suffix:
        path = path.with_name(path.name + kind.suffix)
    if path.suffix.lower() != kind.suffix:
        raise InputError(
            f"--out {out} ends in {path.suffix}, and {kind} files end in {kind.suffix}: "
            "choose another name, or the other --format"
        )
    try:
        if path.is_dir():
            raise InputError(f"--out {out} is a folder: name a file in it")
        folder = next(one for one in path.parents if one.exists())
        # Rights alone don't tell: a file system may be read-only, or no place for files at all.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        raise _unwritable(path, error) from error
    return path


def check_tools(kind: Format) -> None:
    """Raise InputError, saying what to install, where a format can't be made or compared."""
    try:
        import keras  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"an exported file is compared with the model in Keras ({error}): install "
            "tensorflow-cpu or tensorflow, too"
        ) from error
    if kind is Format.LITERT:
        check_litert()


def export_model(
    model_file: Path,
    out: Path,
    kind: Format,
    faces: Faces,
    *,
    int8: bool = False,
    seed: int = 0,
    resamples: int = 2000,
) -> Exported:
    """Write the model of a .keras file to `out`, and a report on it to `out` with .json added.

    Input `pixels`: uint8 (n, height, width, channels), output `probabilities`: float32 (n, K); an
    ONNX file has the model's card in its metadata, the report has it for both formats. With `int8`
    convolutions are computed in 8 bits.

    Files that are there are replaced, each whole or not at all. Raises
    InputError when `model_file` is no model of this pipeline or `out` can't be written,
    DifferenceError, see `check_export`, when the file doesn't say what the model says.
    """
    check_tools(kind)
    model, card = load_model(model_file)
    card = without_paths(card)
    full_precision()
    if kind is Format.ONNX:
        graph = onnx_graph(model_file)
        data = with_card(quantised(graph, faces.calibration) if int8 else graph, card)
    else:
        data = litert_file(model, faces.calibration if int8 else None)
    check = check_export(
        out.name,
        predict_crops(model, faces.crops),
        _probabilities(data, kind, faces.crops),
        faces,
        exact=not int8,
        seed=seed,
        resamples=resamples,
    )
    report = {
        "format": kind.value,
        "int8": int8,
        "file": out.name,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "use": use_of(card),
        **_ends(card),
        "card": asdict(card),
        "made_from": _made_from(model_file),
        "int8_ranges_from": faces.calibration_origin if int8 else None,
        "checked": check.to_dict(),
    }
    report_file = out.with_name(f"{out.name}.json")
    try:
        with published(report_file) as words, published(out) as file:
            words.write_text(json.dumps(report, indent=2) + "\n")
            file.write_bytes(data)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        raise _unwritable(out, error) from error
    return Exported(out, report_file, check, report)


def _probabilities(data: bytes, kind: Format, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the file says, read as its users read it."""
    if kind is Format.LITERT:
        return litert_probabilities(data, crops)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"checked{kind.suffix}"
        path.write_bytes(data)
        return ExpressionNetwork(path).probabilities(crops)


def _ends(card: ModelCard) -> Mapping[str, Any]:
    return {
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "shape": [None, *card.crop.shape],
            "values": [0, 255],
            "colour_order": "RGB" if card.crop.channels == 3 else "grey",
        },
        "output": {"name": OUTPUT, "dtype": "float32", "shape": [None, len(card.classes)]},
        "classes": list(card.classes),
    }


def _unwritable(out: Path, error: OSError) -> InputError:
    return InputError(
        f"{out} can't be written ({error.strerror}): give --out a file in another folder"
    )


def _made_from(model_file: Path) -> Mapping[str, str]:
    with model_file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    return {"name": model_file.name, "sha256": digest.hexdigest()}
