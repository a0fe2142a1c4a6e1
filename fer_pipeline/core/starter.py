"""The starter model: a trained model that comes with the package, for those who have none yet.

Where its two files stand, and how they are made from a trained model; which one it is made from
is the caller's choice.
"""

import io
import json
import zipfile
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import publish_bytes
from fer_pipeline.core.model_file import CARD, ModelCard, load_model, read_card, without_paths

STARTER = "starter"
"""What commands call it, and the package's folder that it stands in."""

MODEL_NAME = "starter.keras"
CARD_NAME = "MODEL_CARD.md"

MAX_BYTES = 6_000_000
"""Size of the model file that everybody downloads with the package."""

TOLERANCE = 1e-3
"""By how much a probability of the file may differ from the model that it is made from."""

_WEIGHTS = "model.weights.h5"
_DRAWN = 96


@dataclass(frozen=True)
class Shipped:
    """The files that were written: the model's size, and the largest difference in a probability
    between it and the model that it was made from, on `faces` drawn faces."""

    model: Path
    card: Path
    size: int
    difference: float
    faces: int


def starter_file() -> Path:
    """The model file; raises InputError when this installation has none."""
    return _packaged(MODEL_NAME)


def starter_card_file() -> Path:
    """Its model card as Markdown; raises InputError when this installation has none."""
    return _packaged(CARD_NAME)


def write_starter(model_file: Path, card_text: str, folder: Path) -> Shipped:
    """Write the two files into `folder`, from a model file and the Markdown of its model card.

    The kernels are kept as 16-bit numbers, which halves the file; Keras reads them as 32-bit
    ones. No path of this machine goes along. Of the optimizer's state a model file has nothing.

    Raises InputError when `model_file` is no model of this pipeline, the result is larger than
    `MAX_BYTES`, or a probability of a drawn face then differs by more than `TOLERANCE`.
    """
    from fer_pipeline.core.drawn_crops import drawn_crops

    card = without_paths(read_card(model_file))
    model, target = folder / MODEL_NAME, folder / CARD_NAME
    data = _in_half_precision(model_file, card)
    if len(data) > MAX_BYTES:
        raise InputError(
            f"{model_file} makes a starter of {len(data) / 1e6:.1f} MB, and it may have "
            f"{MAX_BYTES / 1e6:g} MB: train a smaller network (preset cpu, or --set widths=...)"
        )
    checked = folder / f".{MODEL_NAME}.checked.keras"
    try:
        publish_bytes(checked, data)
        faces = drawn_crops(card.crop, _DRAWN, seed=_DRAWN)
        difference = _difference(model_file, checked, faces)
        if not difference <= TOLERANCE:
            raise InputError(
                f"{model_file} can't be kept as 16-bit numbers: a probability of a drawn face "
                f"then differs by {difference:.4f}, more than {TOLERANCE:g}; train it anew with "
                "another seed or less learning rate"
            )
        checked.replace(model)
    finally:
        checked.unlink(missing_ok=True)
    shipped = Shipped(model, target, len(data), difference, len(faces))
    publish_bytes(target, f"{card_text.rstrip()}\n\n{_as_shipped(shipped)}".encode())
    return shipped


def _packaged(name: str) -> Path:
    path = Path(str(resources.files("fer_pipeline") / STARTER / name))
    if not path.is_file():
        raise InputError(
            f"{path} is not there: install the package anew, or make it with `fer-pipeline starter`"
        )
    return path


def _in_half_precision(model_file: Path, card: ModelCard) -> bytes:
    """The archive once more with its kernels as float16 and this card, stored as Keras does."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(model_file) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            if name == CARD:
                content = json.dumps(asdict(card), indent=2, sort_keys=True).encode()
            elif name == _WEIGHTS:
                content = _halved(source.read(name))
            else:
                content = source.read(name)
            # With the time of day the same model would have other bytes each time.
            target.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def _halved(weights: bytes) -> bytes:
    """A Keras weights file (HDF5) with its float32 kernels as float16.

    Biases and statistics are few, and one of them touches every value of its channel.
    """
    import h5py

    buffer = io.BytesIO()
    with h5py.File(io.BytesIO(weights), "r") as source, h5py.File(buffer, "w") as target:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                values = item[()]
                if item.dtype == np.float32 and item.ndim > 1:
                    # What is out of range shows in the probabilities.
                    with np.errstate(over="ignore"):
                        values = values.astype(np.float16)
                made = target.create_dataset(name, data=values)
            else:
                made = target.require_group(name)
            for key, value in item.attrs.items():
                made.attrs[key] = value

        source.visititems(copy)
        for key, value in source.attrs.items():
            target.attrs[key] = value
    return buffer.getvalue()


def _difference(one: Path, other: Path, crops: NDArray[np.uint8]) -> float:
    from fer_pipeline.core.train import predict_crops

    first, second = (predict_crops(load_model(path)[0], crops) for path in (one, other))
    return float(np.abs(first - second).max())


def _as_shipped(shipped: Shipped) -> str:
    return (
        "## As shipped\n\n"
        f"- `{MODEL_NAME}`, {shipped.size / 1e6:.1f} MB: the weights of that model, its kernels as "
        f"16-bit numbers. On {shipped.faces} drawn faces no probability differs by more than "
        f"{_up(shipped.difference)} from the model that the figures above are of.\n"
        "- Where fewer classes are asked for, their probabilities are taken and divided by their "
        "sum.\n"
    )


def _up(difference: float) -> str:
    """A difference to four decimals, rounded up."""
    return f"{np.ceil(difference * 1e4) / 1e4:.4f}"
