"""Data sets whose photos are files of their own under the root: their sizes and their bytes."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_pipeline.core.datasets.base import Alone, Photo
from fer_pipeline.core.read_ahead import Stored, local_files, remote_files
from fer_pipeline.core.storage import Location, file_facts


class PhotoFiles(Alone):
    """What a data set of photo files answers to questions about them.

    A photo's `image_path` is its path under the root, unless `photo_path` says otherwise.
    """

    def photo_path(self, photo: Photo) -> str:
        """The path of a photo's file, as its file system names it; quick, without looking."""
        return f"{folder_name(self.root)}/{photo[1]}"

    def photo_key(self, photo: Photo) -> str:
        """The path: whatever list names it, a file is one photo."""
        return photo[1]

    def photo_sizes(self, photos: Sequence[Photo]) -> npt.NDArray[np.int64]:
        """Bytes of each photo file, -1 where there is none; shape (n,)."""
        paths = map(self.photo_path, photos)
        if isinstance(self.root, Path):
            return np.fromiter(map(_size, paths), np.int64, len(photos))
        sizes = file_facts(self.root.fs, list(paths), lambda info: int(info["size"]), -1)
        return np.array(sizes, np.int64)

    def stored_sizes(self, photos: Sequence[Photo]) -> npt.NDArray[np.int64]:
        """Each photo is a file of its own: the same as `photo_sizes`."""
        return self.photo_sizes(photos)

    def read_photos(
        self, photos: Sequence[Photo], max_bytes: int | None = None
    ) -> Iterator[Stored]:
        """The bytes of each photo file in turn; see `DataSet.read_photos`."""
        paths = map(self.photo_path, photos)
        if isinstance(self.root, Path):
            return local_files(paths, max_bytes)
        return remote_files(self.root.fs, paths, max_bytes)


def folder_name(path: Location) -> str:
    """A folder as its file system names it: a location for each of a million photos is slow."""
    return str(path) if isinstance(path, Path) else path.path


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - a Path for each of a million photos is slow
    except (OSError, ValueError):
        return -1
