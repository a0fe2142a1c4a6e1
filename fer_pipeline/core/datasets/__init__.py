"""The registry of data-set formats: a name to a reader, and several readers to a mixture."""

import itertools
from collections.abc import Mapping, Sequence

from fer_pipeline.core.datasets.affectnet import AffectNet
from fer_pipeline.core.datasets.base import DataSet, OneDataSet
from fer_pipeline.core.datasets.hf_parquet import HfParquet
from fer_pipeline.core.datasets.mixed import MixedDataSet, source_names
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.storage import Location, as_location, is_folder

FORMATS: Mapping[str, type[AffectNet] | type[HfParquet]] = {
    "affectnet": AffectNet,
    "hf-parquet": HfParquet,
}
"""Name of the format, as given to `--dataset`, to the reader of a root folder."""


def open_dataset(name: str, root: Location, source: str | None = None) -> OneDataSet:
    """The data set of format `name` under `root`; its own name is `source`, by default `name`.

    Raises InputError when the format is unknown or the folder doesn't hold it.
    """
    if name not in FORMATS:
        raise InputError(f"unknown data set format {name!r}: choose one of {', '.join(FORMATS)}")
    if not is_folder(root):
        raise InputError(f"{root} is not a folder: give --root the folder that holds {name}")
    return FORMATS[name](as_location(root), source)


def open_datasets(addresses: Sequence[tuple[str, Location]]) -> DataSet:
    """The data set of one format and root, or the mixture of several, in their order.

    Raises InputError as `open_dataset`, and when one is given twice.
    """
    sources = source_names([name for name, _ in addresses])
    parts = [
        open_dataset(name, root, source)
        for (name, root), source in zip(addresses, sources, strict=True)
    ]
    _check_apart(parts)
    return parts[0] if len(parts) == 1 else MixedDataSet(parts)


def _check_apart(parts: Sequence[OneDataSet]) -> None:
    """One data set can have several addresses: what tells it is the files of its lists."""
    owner: dict[Location, OneDataSet] = {}
    for part in parts:
        for path in itertools.chain.from_iterable(part.lists().values()):
            first = owner.setdefault(as_location(path), part)
            if first is not part:
                raise InputError(
                    f"{first.name} at {first.address} is given twice, {path} belongs to "
                    f"{part.address} too: give each data set once"
                )


def faces_are_cropped(name: str) -> bool:
    """Whether the pictures of format `name` are faces already, so that no box is needed."""
    return FORMATS[name].faces_are_cropped


def picture_side(name: str) -> int | None:
    """Height and width in pixels of the pictures of format `name`; None where they are photos."""
    return FORMATS[name].picture_side
