"""Data sets: a format's name to its reader, and several readers to a mixture."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from fer_pipeline.core.datasets.base import DataSet, OneDataSet
from fer_pipeline.core.datasets.mixed import MixedDataSet, source_names
from fer_pipeline.core.datasets.registry import (
    chosen_options,
    find_format,
    format_names,
)
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.storage import Location, as_location, is_folder, resolved

__all__ = [
    "faces_are_cropped",
    "find_format",
    "format_names",
    "open_dataset",
    "open_datasets",
    "picture_side",
]


def open_dataset(
    name: str,
    root: Location,
    source: str | None = None,
    options: Mapping[str, str] | None = None,
) -> OneDataSet:
    """The data set of format `name` under `root`; its own name is `source`, by default `name`.

    `options` are those of all formats, as `format.option` (see `registry.chosen_options`). Raises
    InputError when the format or an option of it is unknown, or the folder doesn't hold it.
    """
    reader = find_format(name)
    if not is_folder(root):
        raise InputError(f"{root} is not a folder: give --root the folder that holds {name}")
    return reader(as_location(root), source, **chosen_options(name, options or {}))


def open_datasets(
    addresses: Sequence[tuple[str, Location]], options: Mapping[str, str] | None = None
) -> DataSet:
    """The data set of one format and root, or the mixture of several, in their order.

    Raises InputError as `open_dataset`, and when one is given twice.
    """
    sources = source_names([name for name, _ in addresses])
    parts = [
        open_dataset(name, root, source, options)
        for (name, root), source in zip(addresses, sources, strict=True)
    ]
    _check_apart(parts)
    return parts[0] if len(parts) == 1 else MixedDataSet(parts)


def _check_apart(parts: Sequence[OneDataSet]) -> None:
    """One data set can have several addresses: what tells it is the files of its lists."""
    owner: dict[Location, OneDataSet] = {}
    for part in parts:
        for path in itertools.chain.from_iterable(part.lists().values()):
            place = resolved(path) if isinstance(path, Path) else path
            first = owner.setdefault(place, part)
            if first is not part:
                raise InputError(
                    f"{first.name} at {first.address} is given twice, {path} belongs to "
                    f"{part.address} too: give each data set once"
                )


def faces_are_cropped(name: str, options: Mapping[str, str] | None = None) -> bool:
    """Whether the pictures of format `name` are faces already, so that no box is needed.

    `options` are as of `open_dataset`, and may say so; raises InputError where they can't be read.
    """
    reader = find_format(name)
    crops = getattr(reader, "crops", None)
    chosen = chosen_options(name, options or {})
    return bool(crops(chosen)) if crops and chosen else reader.faces_are_cropped


def picture_side(name: str) -> int | None:
    """Height and width in pixels of the pictures of format `name`; None where they are photos."""
    return find_format(name).picture_side
