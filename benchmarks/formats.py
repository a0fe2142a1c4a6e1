"""The index of each format beside a plain loop over the same files.

The loop is what code for one data set usually begins with: read the list with `csv` (or the small
files one by one), make a pandas table of path, label and split, and write it. It checks nothing,
counts nothing, and gives no face an id.
"""

import csv
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Bench, Figures, Row, Side, seconds

_LIST_ROWS = 100_000
_FILES = 20_000
_FER2013_ROWS = 28_709


def rows(bench: Bench) -> Iterator[Row]:
    for name, (write, most, things) in _SETS.items():
        count = min(most, bench.rows)
        root = bench.data / f"format-{name}-{count}"
        if not root.is_dir():
            bench.tell(f"writing {count:,} {things} of {name}")
            partial = root.with_name(f".{root.name}.part")
            shutil.rmtree(partial, ignore_errors=True)
            write(partial, count)
            partial.rename(root)
        given = {"name": name, "root": str(root), "target": str(bench.data / "format-index")}
        found = bench.medians(
            {
                "ours": Side("formats:ours", given, True),
                "loop": Side("formats:loop", given, True),
            }
        )
        yield Row(
            f"index of {name}, one core",
            seconds(found["ours"]),
            f"plain loop: {seconds(found['loop'])}",
            found["loop"]["seconds"] / found["ours"]["seconds"],
            1.0,
            bench.times(count, things),
        )
    shutil.rmtree(bench.data / "format-index", ignore_errors=True)


def ours(name: str, root: str, target: str) -> Figures:
    # pyarrow loads it at the first list that it is given; neither side's time is to hold that.
    import pandas as pd  # noqa: F401

    from fer_pipeline.core.datasets import open_dataset
    from fer_pipeline.core.index import build_index

    shutil.rmtree(target, ignore_errors=True)
    started = time.perf_counter()
    build_index(open_dataset(name, Path(root)), Path(target))
    return {"seconds": time.perf_counter() - started}


def loop(name: str, root: str, target: str) -> Figures:
    import pandas as pd

    shutil.rmtree(target, ignore_errors=True)
    Path(target).mkdir(parents=True)
    started = time.perf_counter()
    table = pd.DataFrame(_LOOPS[name](Path(root)))
    table.to_csv(Path(target) / "file_list.csv", index=False)
    return {"seconds": time.perf_counter() - started}


def _write(path: Path, text: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def _labels(count: int, classes: int) -> list[int]:
    return list(map(int, np.random.default_rng(0).integers(0, classes, count)))


def _write_affectnet_2021(root: Path, count: int) -> None:
    for at, label in enumerate(_labels(count, 8)):
        place = root / ("val_set" if at % 50 == 0 else "train_set")
        _write(place / "images" / f"{at}.jpg", b"")
        for kind, value in (("exp", str(label)), ("val", "0.25"), ("aro", "-0.5")):
            buffer = io.BytesIO()
            np.save(buffer, np.array(value))
            _write(place / "annotations" / f"{at}_{kind}.npy", buffer.getvalue())


def _loop_affectnet_2021(root: Path) -> list[dict[str, Any]]:
    found = []
    for split in ("train_set", "val_set"):
        notes = root / split / "annotations"
        for name in os.listdir(root / split / "images"):  # noqa: PTH208 - as such loops do
            stem = name.removesuffix(".jpg")
            values = [
                np.load(notes / f"{stem}_{kind}.npy").item() for kind in ("exp", "val", "aro")
            ]
            found.append(
                {
                    "path": f"{split}/images/{name}",
                    "label": int(values[0]),
                    "valence": float(values[1]),
                    "arousal": float(values[2]),
                    "split": split,
                }
            )
    return found


def _write_affectnet_plus(root: Path, count: int) -> None:
    for at, label in enumerate(_labels(count, 8)):
        place = root / "human_annotated" / ("validation_set" if at % 50 == 0 else "train_set")
        soft = np.full(8, 0.02)
        soft[label] = 0.86
        note = {
            "human-label": label,
            "soft-label": soft.tolist(),
            "subset": at % 3,
            "meta-data": {"age": 20 + at % 50, "gender": {"female": 0.3, "male": 0.7}},
        }
        _write(place / "images" / f"{at}.jpg", b"")
        _write(place / "annotations" / f"{at}.json", json.dumps(note))


def _loop_affectnet_plus(root: Path) -> list[dict[str, Any]]:
    found = []
    for split in ("train_set", "validation_set"):
        place = root / "human_annotated" / split
        for name in os.listdir(place / "images"):  # noqa: PTH208 - as such loops do
            with (place / "annotations" / name.replace(".jpg", ".json")).open() as stream:
                note = json.load(stream)
            found.append(
                {
                    "path": f"{split}/images/{name}",
                    "label": note["human-label"],
                    "soft": note["soft-label"],
                    "subset": note["subset"],
                    "age": note["meta-data"]["age"],
                    "gender": max(note["meta-data"]["gender"], key=note["meta-data"]["gender"].get),
                    "split": split,
                }
            )
    return found


def _write_csv(root: Path, count: int) -> None:
    lines = ["path,label,x,y,width,height"]
    names = ("happy", "sad", "neutral", "angry", "surprise")
    lines += [
        f"{at % 100}/{at}.jpg,{names[label]},10,20,80,90"
        for at, label in enumerate(_labels(count, 5))
    ]
    _write(root / "list.csv", "\n".join(lines) + "\n")


def _loop_csv(root: Path) -> list[dict[str, Any]]:
    codes = {"happy": 1, "sad": 2, "neutral": 0, "angry": 6, "surprise": 3}
    sides = ("x", "y", "width", "height")
    with (root / "list.csv").open(newline="") as stream:
        return [
            {
                "path": row["path"],
                "label": codes[row["label"]],
                **{side: int(row[side]) for side in sides},
            }
            for row in csv.DictReader(stream)
        ]


def _write_expw(root: Path, count: int) -> None:
    lines = [
        f"{at // 2}.jpg {at % 2} 20 10 90 100 61.5 {label}"
        for at, label in enumerate(_labels(count, 7))
    ]
    _write(root / "label" / "label.lst", "\n".join(lines) + "\n")
    (root / "image" / "origin").mkdir(parents=True)


def _loop_expw(root: Path) -> list[dict[str, Any]]:
    found = []
    with (root / "label" / "label.lst").open(newline="") as stream:
        for photo, face, top, left, right, bottom, sure, label in csv.reader(stream, delimiter=" "):
            x, y = int(left), int(top)
            found.append(
                {
                    "path": f"image/origin/{photo}",
                    "face": int(face),
                    "x": x,
                    "y": y,
                    "width": int(right) - x,
                    "height": int(bottom) - y,
                    "confidence": float(sure),
                    "label": int(label),
                }
            )
    return found


def _write_fer2013(root: Path, count: int) -> None:
    generator = np.random.default_rng(0)
    (root).mkdir(parents=True)
    with (root / "fer2013.csv").open("w") as stream:
        stream.write("emotion,pixels,Usage\n")
        for at, label in enumerate(_labels(count, 7)):
            pixels = " ".join(map(str, generator.integers(0, 256, 2304).tolist()))
            usage = "Training" if at % 10 else "PublicTest"
            stream.write(f"{label},{pixels},{usage}\n")


def _loop_fer2013(root: Path) -> list[dict[str, Any]]:
    with (root / "fer2013.csv").open(newline="") as stream:
        return [
            {"row": at, "label": int(row["emotion"]), "split": row["Usage"]}
            for at, row in enumerate(csv.DictReader(stream))
        ]


def _write_folders(root: Path, count: int) -> None:
    names = ("happy", "sad", "neutral", "angry", "surprise")
    for at, label in enumerate(_labels(count, 5)):
        split = "train" if at % 10 else "test"
        _write(root / split / names[label] / f"{at}.jpg", b"")


def _loop_folders(root: Path) -> list[dict[str, Any]]:
    codes = {"happy": 1, "sad": 2, "neutral": 0, "angry": 6, "surprise": 3}
    return [
        {"path": str(path.relative_to(root)), "label": codes[path.parent.name]}
        for path in root.rglob("*.jpg")
    ]


def _write_raf_db(root: Path, count: int) -> None:
    lines = [
        f"{'train' if at % 10 else 'test'}_{at:06d}.jpg {label + 1}"
        for at, label in enumerate(_labels(count, 7))
    ]
    _write(root / "EmoLabel" / "list_patition_label.txt", "\n".join(lines) + "\n")
    (root / "Image" / "aligned").mkdir(parents=True)


def _loop_raf_db(root: Path) -> list[dict[str, Any]]:
    found = []
    path = root / "EmoLabel" / "list_patition_label.txt"
    with path.open(newline="") as stream:
        for name, label in csv.reader(stream, delimiter=" "):
            aligned = name.replace(".jpg", "_aligned.jpg")
            found.append(
                {
                    "path": f"Image/aligned/{aligned}",
                    "label": int(label),
                    "split": name.split("_")[0],
                }
            )
    return found


_SETS: Mapping[str, tuple[Callable[[Path, int], None], int, str]] = {
    "affectnet-2021": (_write_affectnet_2021, _FILES, "photos"),
    "affectnet-plus": (_write_affectnet_plus, _FILES, "photos"),
    "csv": (_write_csv, _LIST_ROWS, "rows"),
    "expw": (_write_expw, _LIST_ROWS, "rows"),
    "fer2013": (_write_fer2013, _FER2013_ROWS, "rows"),
    "folders": (_write_folders, _FILES, "photos"),
    "raf-db": (_write_raf_db, _LIST_ROWS, "rows"),
}
"""Each format, what writes a set of it without photos, and how large."""

_LOOPS: Mapping[str, Callable[[Path], list[dict[str, Any]]]] = {
    "affectnet-2021": _loop_affectnet_2021,
    "affectnet-plus": _loop_affectnet_plus,
    "csv": _loop_csv,
    "expw": _loop_expw,
    "fer2013": _loop_fer2013,
    "folders": _loop_folders,
    "raf-db": _loop_raf_db,
}
