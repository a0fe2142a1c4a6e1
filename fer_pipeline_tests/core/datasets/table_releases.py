"""Small data sets in the shapes of FER2013's CSV, FER+, class folders and plain CSV lists."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.datasets.base import OneDataSet
from fer_pipeline.core.drawn_crops import drawn_crops
from fer_pipeline.core.index import (
    REJECTED_FILE,
    IndexSummary,
    build_index,
    count_kept_and_rejected,
)
from fer_pipeline_tests.core.small_release import encoded, index_rows, noise

FER_HEADER = "emotion,pixels,Usage"
ICML_HEADER = "emotion, Usage, pixels"
FER_PLUS_HEADER = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
)


def grey_faces(count: int) -> np.ndarray:
    """Drawn faces, uint8 (count, 48, 48)."""
    return drawn_crops(CropSettings(side=48), count, seed=0)[..., 0]


def fer_row(emotion: object, pixels: np.ndarray, usage: str, header: str = FER_HEADER) -> str:
    """One row of FER2013's CSV in either order of columns."""
    text = " ".join(map(str, pixels.ravel().tolist()))
    fields = [str(emotion), text, usage] if header == FER_HEADER else [str(emotion), usage, text]
    return ",".join(fields)


def write_fer2013(root: Path, rows: Sequence[str], header: str = FER_HEADER) -> Path:
    """`fer2013.csv`, or the variant whose header this is."""
    path = root / ("fer2013.csv" if header == FER_HEADER else "icml_face_data.csv")
    return _written(path, "".join(f"{row}\n" for row in (header, *rows)).encode())


def write_votes(root: Path, rows: Sequence[tuple[str, str, Sequence[object]]]) -> Path:
    """`fer2013new.csv` of (Usage, image name, ten votes) in the order of FER+'s own columns."""
    lines = [",".join([usage, name, *map(str, votes)]) for usage, name, votes in rows]
    text = "".join(f"{line}\n" for line in (FER_PLUS_HEADER, *lines))
    return _written(root / "fer2013new.csv", text.encode())


def write_pictures(root: Path, paths: Sequence[str], side: int = 60) -> None:
    """A small picture at each path that ends in .png, another one for each, and text elsewhere."""
    for path in paths:
        data = encoded(noise(sum(path.encode()), side, side)) if path.endswith(".png") else b"text"
        _written(root / path, data)


def opened(name: str, root: Path, **options: str) -> OneDataSet:
    """The data set under `root` in the format `name`, with options of that format."""
    chosen: Mapping[str, str] = {f"{name}.{option}": value for option, value in options.items()}
    return open_dataset(name, root, options=chosen)


def indexed_as(dataset: OneDataSet, folder: Path) -> tuple[IndexSummary, list[dict], list[dict]]:
    """Build the index and see that every row is kept or rejected: summary, kept, rejected."""
    summary = build_index(dataset, folder)
    kept, rejected = index_rows(folder), pq.read_table(folder / REJECTED_FILE).to_pylist()
    assert summary.rows_read == len(kept) + len(rejected)
    for name, rows in summary.rows_by_list.items():
        assert rows == dataset.count_rows(name), name
    numbered = count_kept_and_rejected(folder, dataset.lists())
    assert all(whole for _, _, whole in numbered.values())
    return summary, kept, rejected


def _written(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
