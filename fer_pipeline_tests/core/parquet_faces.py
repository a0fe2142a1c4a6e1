"""Hand-made Hugging Face image Parquet files for tests."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fer_pipeline_tests.core.small_release import encoded, noise

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FER = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's class names in the order of its numbers."""


def face(seed: int, side: int = 48) -> bytes:
    """A PNG of one square picture, another one for each seed."""
    return encoded(noise(seed, side, side))


def write_split(
    root: Path,
    name: str,
    labels: Sequence[int | None],
    *,
    names: Sequence[str] | None = FER,
    images: Sequence[bytes | None] | None = None,
    votes: Sequence[Sequence[int] | None] | None = None,
    vote_columns: Sequence[str] | None = None,
    row_group_size: int = 3,
) -> Path:
    """Write `data/<name>.parquet` under `root`; pictures differ from row to row by default."""
    if images is None:
        images = [face(1000 * sum(name.encode()) + row) for row in range(len(labels))]
    structs = [None if data is None else {"bytes": data, "path": None} for data in images]
    columns = {"image": pa.array(structs, IMAGE), "label": pa.array(labels, pa.int64())}
    metadata = {}
    if names is not None:
        feature = {"names": list(names), "_type": "ClassLabel"}
        metadata["huggingface"] = json.dumps({"info": {"features": {"label": feature}}})
    if votes is not None:
        columns["votes"] = pa.array(votes, pa.list_(pa.int64()))
    if vote_columns is not None:
        metadata["vote_columns"] = json.dumps(list(vote_columns))
    table = pa.table(columns).replace_schema_metadata(metadata)
    path = root / "data" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path
