"""The registry of data-set formats: a name to a reader, nothing else."""

from collections.abc import Mapping

from fer_pipeline.core.datasets.affectnet import AffectNet
from fer_pipeline.core.datasets.base import DataSet
from fer_pipeline.core.datasets.hf_parquet import HfParquet
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.storage import Location, as_location, is_folder

FORMATS: Mapping[str, type[AffectNet] | type[HfParquet]] = {
    "affectnet": AffectNet,
    "hf-parquet": HfParquet,
}
"""Name of the format, as given to `--dataset`, to the reader of a root folder."""


def open_dataset(name: str, root: Location) -> DataSet:
    """The data set of format `name` under `root`.

    Raises InputError when the format is unknown or the folder doesn't hold it.
    """
    if name not in FORMATS:
        raise InputError(f"unknown data set format {name!r}: choose one of {', '.join(FORMATS)}")
    if not is_folder(root):
        raise InputError(f"{root} is not a folder: give --root the folder that holds {name}")
    return FORMATS[name](as_location(root))


def faces_are_cropped(name: str) -> bool:
    """Whether the pictures of format `name` are faces already, so that no box is needed."""
    return FORMATS[name].faces_are_cropped
