"""Tiny data for the training tests: shapes that a small network tells apart, as crop shards."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fer_pipeline.core.labels import CODES
from fer_pipeline.core.presets import PRESETS, NetworkShape, Preset

CLASSES = ("Happiness", "Sadness", "Surprise")
SIDE = 16


def tiny_preset(**recipe: object) -> Preset:
    """A network of a few thousand weights on 16-pixel crops; `recipe` replaces its fields."""
    smoke = PRESETS["smoke"]
    settings = {"batch_size": 16, "min_epochs": 6, "max_epochs": 6, **recipe}
    return replace(
        smoke,
        name="tiny",
        side=SIDE,
        network=NetworkShape(stem_kernel=3, stem_stride=1, widths=(16,), blocks=(1,), dropout=0.1),
        recipe=replace(smoke.recipe, **settings),
    )


def draw(expression: str, rng: np.random.Generator, channels: int = 1) -> np.ndarray:
    """A bright bar across (Happiness) or upright (Sadness), or a square, on noise."""
    image = rng.integers(0, 90, (SIDE, SIDE, channels)).astype(np.uint8)
    at = rng.integers(5, 10)
    down, across = {
        "Happiness": (slice(at, at + 2), slice(1, 15)),
        "Sadness": (slice(1, 15), slice(at, at + 2)),
    }.get(expression, (slice(at - 2, at + 4), slice(at - 2, at + 4)))
    image[down, across] = 220
    return image


def write_shards(
    folder: Path,
    manifest: pa.Table,
    images: Sequence[np.ndarray],
    *,
    statuses: Sequence[str] | None = None,
    rows_per_shard: int = 50,
    row_group_size: int = 8,
) -> list[Path]:
    """Crop shards of `manifest`, a crop only where the status is "ok"."""
    statuses = statuses or ["ok"] * len(manifest)
    height, width, channels = images[0].shape
    schema = pa.schema(
        [
            ("face_id", pa.string()),
            ("status", pa.string()),
            ("crop", pa.binary(height * width * channels)),
        ],
        {"height": str(height), "width": str(width), "channels": str(channels)},
    )
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for start in range(0, len(manifest), rows_per_shard):
        part = range(start, min(start + rows_per_shard, len(manifest)))
        table = pa.table(
            {
                "face_id": manifest["face_id"].slice(start, len(part)),
                "status": [statuses[i] for i in part],
                "crop": pa.array(
                    [images[i].tobytes() if statuses[i] == "ok" else None for i in part],
                    schema.field("crop").type,
                ),
            },
            schema,
        )
        paths.append(folder / f"shard-{len(paths):05d}.parquet")
        pq.write_table(table, paths[-1], row_group_size=row_group_size, compression="lz4")
    return paths


def make_manifest(
    expressions: Sequence[str],
    splits: Sequence[str] | None = None,
    votes: Sequence[Sequence[int] | None] | None = None,
    weights: Sequence[float] | None = None,
) -> pa.Table:
    """A manifest with the columns that training reads."""
    count = len(expressions)
    return pa.table(
        {
            "face_id": [f"face{i:012d}" for i in range(count)],
            "expression": pa.array([CODES[name] for name in expressions], pa.int8()),
            "votes": pa.array(votes or [None] * count, pa.list_(pa.int8())),
            "group_id": [f"group{i}" for i in range(count)],
            "split": list(splits or ["train"] * count),
            "weight": pa.array(weights or [1.0] * count, pa.float32()),
        }
    )
