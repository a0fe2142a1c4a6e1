"""Hand-made AffectNet releases of a few rows, and small photos: what the trap tests are made of."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.datasets.base import DataSet
from fer_pipeline.core.index import INDEX_FILE, REJECTED_FILE, IndexSummary, build_index
from fer_pipeline.core.manifest import ManifestSummary, build_manifest, read_manifest

HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,"
    "expression,valence,arousal"
)
LISTS = {
    "manual_train": "Manually_Annotated_file_lists/training.csv",
    "manual_val": "Manually_Annotated_file_lists/validation.csv",
    "auto": "Automatically_annotated_file_list/automatically_annotated.csv",
}
MANUAL_PHOTOS = "Manually_Annotated_compressed/Manually_Annotated_Images"
AUTO_PHOTOS = "Automatically_Annotated_compressed/Automatically_Annotated_Images"
NULLS = ",".join(["NULL"] * 9)
FIVE = ("Neutral", "Happiness", "Sadness", "Surprise", "Anger")


def line(
    path: str = "1/a.jpg",
    box: Sequence[object] = (10, 10, 60, 60),
    expression: object = 1,
    valence: object = 0.5,
    arousal: object = 0.1,
) -> str:
    """One row of a list, without a line end."""
    return ",".join(map(str, (path, *box, "1.5;2.5", expression, valence, arousal)))


def write_list(root: Path, name: str, content: bytes | str | Sequence[str]) -> None:
    """Write one list: bytes and text as they are, rows below a header."""
    if not isinstance(content, bytes | str):
        content = "".join(f"{row}\n" for row in (HEADER, *content))
    file = root / LISTS[name]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    (root / (AUTO_PHOTOS if name == "auto" else MANUAL_PHOTOS)).mkdir(parents=True, exist_ok=True)


def write_photo(root: Path, path: str, data: bytes, tree: str = MANUAL_PHOTOS) -> None:
    """Write one photo file."""
    file = root / tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def noise(seed: int = 0, height: int = 100, width: int = 120) -> np.ndarray:
    """A smooth RGB picture (height, width, 3), another one for each seed."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    """Pixels as the bytes of a picture file; RGB when there are three channels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def indexed(root: Path, folder: Path) -> tuple[IndexSummary, list[dict], list[dict]]:
    """Build the index of an AffectNet root: summary, kept rows, rejected rows."""
    dataset = open_dataset("affectnet", root)
    summary = build_index(dataset, folder)
    return summary, index_rows(folder), pq.read_table(folder / REJECTED_FILE).to_pylist()


def index_rows(folder: Path) -> list[dict]:
    """The rows of a published index."""
    return pq.read_table(folder / INDEX_FILE).to_pylist()


def built(
    root: Path | DataSet,
    folder: Path,
    classes: Sequence[str] = FIVE,
    *,
    name: str = "affectnet",
    votes: bool = False,
    **options: object,
) -> tuple[ManifestSummary, pa.Table]:
    """Build index and manifest of a data set in `folder`; `options` are of `build_manifest`."""
    dataset = open_dataset(name, root) if isinstance(root, Path) else root
    build_index(dataset, folder / "index")
    summary = build_manifest(
        dataset,
        folder / "index",
        folder / "manifest",
        classes,
        label_source="votes" if votes else "listed",
        **{"dev_share": 0.0, "seed": 0, **options},  # type: ignore[arg-type]
    )
    return summary, read_manifest(folder / "manifest")


def small_release(root: Path) -> DataSet:
    """Ten manual, four validation and four automatic faces, each in a photo of its own."""
    wanted = {"manual_train": 10, "manual_val": 4, "auto": 4}
    number = 0
    for name, count in wanted.items():
        rows = []
        for _ in range(count):
            path = f"{number % 3}/{number:03d}.png"
            tree = AUTO_PHOTOS if name == "auto" else MANUAL_PHOTOS
            write_photo(root, path, encoded(noise(number)), tree)
            rows.append(line(path, (20, 10, 70, 80), expression=number % 4))
            number += 1
        write_list(root, name, rows)
    return open_dataset("affectnet", root)
