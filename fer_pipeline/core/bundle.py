"""A bundle: all that a training needs in one file, to be trained where no home is.

It holds the crops of train and dev, without loss, with their targets, weights and groups, and
the task in plain values. The test split stays at home, and so do photos and paths of the lists.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fer_pipeline.core.archives import Archive, opened_archive, written_archive
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.examples import Examples, load_images, rows_of_groups
from fer_pipeline.core.model_file import ModelCard, card_of, without_paths
from fer_pipeline.core.presets import Preset, preset_of
from fer_pipeline.core.storage import Location

BUNDLE = "bundle"
_VERSION = 1
_REMEDY = "give a file that `fer-pipeline bundle` wrote, copied whole"
_INIT = "init.keras"
_SPLITS = ("train", "dev")
_ZSTD_LEVEL = 3


@dataclass(frozen=True)
class Task:
    """What is to be trained, whatever the machine."""

    card: ModelCard
    """Of the model that comes of it, as far as it is known: data, classes, crops, labels."""
    preset: Preset
    seed: int
    minutes: float | None
    init: str | None
    """Digest of the model file that training starts from."""
    package: str
    """Version of the fer_pipeline that made it."""

    def within(self, minutes: float | None) -> "Task":
        """The same with another time limit."""
        trained_on = {**self.card.trained_on, "minutes": minutes}
        return replace(self, minutes=minutes, card=replace(self.card, trained_on=trained_on))

    def needs(self) -> dict[str, Any]:
        """What two tasks must have in common to be the same, by name, in plain values.

        How long and on how many threads one trains is the machine's business, and no part of it.
        """
        trained_on = self.card.trained_on
        return {
            "stream": self.card.stream,
            "classes": ", ".join(self.card.classes),
            "manifest": trained_on["manifest_hash"],
            "crops": trained_on["crops_hash"],
            "crop settings": self.card.crop.hash,
            "label source": self.card.label_source,
            "vote share": trained_on["vote_share"],
            "seed": self.seed,
            "init": self.init,
            **_flat(asdict(self.preset)),
        }


def task_of(values: Mapping[str, Any]) -> Task:
    """The task that `dataclasses.asdict` turned into these values, as JSON gives them back.

    Raises KeyError, TypeError or ValueError when they are no task's.
    """
    task = Task(
        card=card_of(values["card"]),
        preset=preset_of(values["preset"]),
        seed=int(values["seed"]),
        minutes=None if values["minutes"] is None else float(values["minutes"]),
        init=values["init"],
        package=str(values["package"]),
    )
    task.needs()
    return task


@dataclass(frozen=True)
class Bundle:
    """A bundle that was unpacked into a folder."""

    task: Task
    training: Examples
    dev: Examples
    init: Path | None
    """A `.keras` file to start from."""


def write_bundle(
    path: Location, task: Task, training: Examples, dev: Examples, init: Path | None
) -> None:
    """Write a bundle to `path`, whole or not at all; `init` is the model file to start from."""
    sent = replace(task, card=without_paths(task.card))
    description = {"task": asdict(sent), "faces": {"train": len(training), "dev": len(dev)}}
    with written_archive(path, BUNDLE, _VERSION, description) as archive:
        for split, examples in zip(_SPLITS, (training, dev), strict=True):
            group = examples.row_group()
            # A part for each shard: the order of batches goes by shards and their row groups.
            for number, shard in enumerate(np.unique(examples.shard_index)):
                chosen = np.flatnonzero(examples.shard_index == shard)
                groups = [chosen[group[chosen] == one] for one in np.unique(group[chosen])]
                with archive.stream(f"{split}-{number:05d}.parquet") as member:
                    _write_part(member, examples, groups)
        if init is not None:
            with archive.stream(_INIT) as member, init.open("rb") as source:
                shutil.copyfileobj(source, member)


def read_task(path: Path) -> Task:
    """The task of a bundle; raises InputError when `path` is none."""
    with _opened(path) as archive:
        return task_of(archive.description["task"])


def unpack_bundle(path: Path, folder: Path) -> Bundle:
    """Unpack a bundle into crop shards in `folder`; every byte is checked.

    Raises InputError when `path` is no bundle, is damaged or of another version.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _opened(path) as archive:
        task = task_of(archive.description["task"])
        training, dev = (_unpack(archive, split, folder, task) for split in _SPLITS)
        for split, examples in zip(_SPLITS, (training, dev), strict=True):
            if len(examples) != archive.description["faces"][split]:
                raise ValueError(f"{len(examples)} faces in {split}")
        init = None
        if task.init is not None:
            init = folder / _INIT
            archive.extract(_INIT, init)
        return Bundle(task, training, dev, init)


@contextmanager
def _opened(path: Path) -> Iterator[Archive]:
    try:
        with opened_archive(path, BUNDLE, _VERSION, _REMEDY) as archive:
            yield archive
    except pa.ArrowException as error:
        raise InputError(f"{path} is damaged ({error}): {_REMEDY}") from error


def _flat(values: Mapping[str, Any], head: str = "") -> dict[str, Any]:
    """Nested values under names with dots; sequences as text."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{head}{name}.")
        else:
            found[f"{head}{name}"] = "-".join(map(str, value)) if _is_list(value) else value
    return found


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _schema(examples: Examples) -> pa.Schema:
    height, width, channels = examples.image_shape
    return pa.schema(
        [
            ("face_id", pa.string()),
            ("group_id", pa.string()),
            ("weight", pa.float32()),
            ("expression", pa.int64()),
            ("place", pa.int64()),
            ("target", pa.list_(pa.float32(), examples.target.shape[1])),
            ("crop", pa.binary(height * width * channels)),
        ],
        {"height": str(height), "width": str(width), "channels": str(channels)},
    )


def _write_part(member: IO[bytes], examples: Examples, groups: Sequence[NDArray[np.intp]]) -> None:
    """The examples at the positions in `groups`, each a row group."""
    schema = _schema(examples)
    with pq.ParquetWriter(
        pa.PythonFile(member, mode="w"),
        schema,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        use_dictionary=False,
        write_statistics=False,
    ) as writer:
        for rows in groups:
            crops = _differences(load_images(examples, rows))
            target = pa.array(examples.target[rows].ravel(), pa.float32())
            columns = {
                "face_id": pa.array(examples.face_id[rows], pa.string()),
                "group_id": pa.array(examples.group_id[rows], pa.string()),
                "weight": pa.array(examples.weight[rows]),
                "expression": pa.array(examples.expression[rows], pa.int64()),
                "place": pa.array(rows, pa.int64()),
                "target": pa.FixedSizeListArray.from_arrays(target, examples.target.shape[1]),
                "crop": pa.array(list(map(bytes, crops)), schema.field("crop").type),
            }
            writer.write_table(pa.table(columns, schema))


def _unpack(archive: Archive, split: str, folder: Path, task: Task) -> Examples:
    """The examples of one split, their crops as they were, in shards in `folder`."""
    names = sorted(name for name in archive.names() if name.startswith(f"{split}-"))
    shards, tables, group_rows = [], [], []
    for name in names:
        packed, shard = folder / f"packed-{name}", folder / name
        archive.extract(name, packed)
        with pq.ParquetFile(packed) as source:
            _restore(source, shard, task.card.crop.shape)
            columns = ["face_id", "group_id", "weight", "expression", "place", "target"]
            tables.append(source.read(columns=columns))
            group_rows.append(rows_of_groups(source.metadata))
        packed.unlink()
        shards.append(shard)
    table = pa.concat_tables(tables).combine_chunks()
    classes = len(task.card.classes)
    # Examples stand in the order of the manifest, which need not be that of the shards.
    order = np.argsort(table["place"].to_numpy(), kind="stable")
    sizes = [len(part) for part in tables]
    target = table["target"].combine_chunks().flatten().to_numpy().reshape(-1, classes)
    return Examples(
        shards=tuple(shards),
        shard_index=np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[order],
        row=np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])[order],
        group_rows=tuple(group_rows),
        target=target[order],
        weight=table["weight"].to_numpy()[order],
        face_id=table["face_id"].to_numpy()[order],
        group_id=table["group_id"].to_numpy()[order],
        expression=table["expression"].to_numpy()[order],
        image_shape=task.card.crop.shape,
    )


def _restore(source: pq.ParquetFile, shard: Path, shape: tuple[int, int, int]) -> None:
    """Write the crops of a packed part as a plain shard, see `examples.load_images`."""
    kind = pa.binary(int(np.prod(shape)))
    schema = pa.schema([("crop", kind)])
    with pq.ParquetWriter(shard, schema, compression="lz4", use_dictionary=False) as writer:
        for number in range(source.num_row_groups):
            packed = source.read_row_group(number, columns=["crop"])["crop"].combine_chunks()
            if packed.type != kind:
                raise ValueError(f"crops of {packed.type}, not {kind}")
            crops = np.frombuffer(b"".join(packed.to_pylist()), np.uint8).reshape(-1, *shape)
            # The sums come round at 256, as the differences did.
            whole = np.cumsum(crops, axis=2, dtype=np.uint8)
            writer.write_table(pa.table({"crop": pa.array(list(map(bytes, whole)), kind)}, schema))


def _differences(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each pixel less its left neighbour, modulo 256: a fifth smaller than crops, compressed.

    The filter Sub of PNG (ISO/IEC 15948).
    """
    packed = crops.copy()
    packed[:, :, 1:] -= crops[:, :, :-1]
    return packed
