"""A small data set of drawn faces in each format, with the classes of the stream `three_class`.

No picture is in two of them, each side of each set has faces, and enough are there to train on.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from fer_pipeline.core.drawing import DrawnPhoto, draw_photo
from fer_pipeline.core.labels import CK_PLUS, CODES, FER2013, RAF_DB
from fer_pipeline.core.synthetic import write_release
from fer_pipeline_tests.core.datasets import tree_releases as trees
from fer_pipeline_tests.core.datasets.table_releases import fer_row, write_fer2013, write_votes
from fer_pipeline_tests.core.parquet_faces import write_split
from fer_pipeline_tests.core.small_release import encoded

NAMES = ("happy", "sad", "surprise")
EXPRESSIONS = ("Happiness", "Sadness", "Surprise")
_TRAIN, _TEST = 45, 12
_USAGES = {"Training": _TRAIN, "PublicTest": _TEST, "PrivateTest": _TEST}


def _photos(seed: int, count: int) -> list[tuple[str, DrawnPhoto]]:
    """Square photos of one face each, expressions in turn."""
    rng = np.random.default_rng(seed)
    names = [EXPRESSIONS[at % len(EXPRESSIONS)] for at in range(count)]
    return [(name, draw_photo(rng, name, size=(160, 160))) for name in names]


def _faces(seed: int, count: int, side: int) -> list[tuple[str, np.ndarray]]:
    """Faces cut out of such photos, uint8 (side, side, 3)."""
    import cv2

    found = []
    for name, photo in _photos(seed, count):
        assert photo.box is not None
        x, y, width, height = (max(0, round(edge)) for edge in photo.box)
        face = cv2.resize(photo.image[y : y + height, x : x + width], (side, side))
        found.append((name, np.asarray(face, np.uint8)))
    return found


def _number(table: Mapping[str, str], expression: str) -> str:
    return next(number for number, name in table.items() if name == expression)


def _affectnet(root: Path) -> None:
    """A release with its traps, of which one row's label is in no table."""
    write_release(root, photos=120, seed=5)


def _affectnet_2021(root: Path) -> None:
    for folder, count, seed in (("train_set", _TRAIN, 11), ("val_set", _TEST, 12)):
        for at, (name, face) in enumerate(_faces(seed, count, 224)):
            trees.write(root, f"{folder}/images/{at}.jpg", encoded(face, "JPEG"))
            trees.write(root, f"{folder}/annotations/{at}_exp.npy", trees.npy(str(CODES[name])))


def _affectnet_plus(root: Path) -> None:
    for folder, count, seed in (("train_set", _TRAIN, 21), ("validation_set", _TEST, 22)):
        for at, (name, face) in enumerate(_faces(seed, count, 224)):
            place = f"human_annotated/{folder}"
            trees.write(root, f"{place}/images/{at}.jpg", encoded(face, "JPEG"))
            note = trees.note(CODES[name], None)
            trees.write(root, f"{place}/annotations/{at}.json", note)


def _ck_plus(root: Path) -> None:
    for at, (name, photo) in enumerate(_photos(31, _TRAIN + _TEST)):
        label = int(_number(CK_PLUS, name))
        picture = encoded(photo.image)
        trees.sequence(root, f"S{at + 5:03d}", "001", 1, label, picture)


def _csv(root: Path) -> None:
    rows = []
    for at, (name, photo) in enumerate(_photos(41, _TRAIN + _TEST)):
        trees.write(root, f"photos/{at}.png", encoded(photo.image))
        rows.append({"path": f"photos/{at}.png", "label": name.upper()})
    pd.DataFrame(rows).to_csv(root / "list.csv", index=False)


def _expw(root: Path) -> None:
    rows, photos = [], {}
    for at, (name, photo) in enumerate(_photos(51, _TRAIN + _TEST)):
        assert photo.box is not None
        x, y, width, height = map(round, photo.box)
        box = (y, x, x + width, y + height)
        photos[f"{at}.jpg"] = encoded(photo.image, "JPEG", quality=95)
        rows.append(" ".join(map(str, (f"{at}.jpg", 0, *box, 60.5, _number(FER2013, name)))))
    trees.expw(root, rows, photos)


def _fei(root: Path) -> None:
    rng = np.random.default_rng(61)
    for person in range(1, _TRAIN + 1):
        for letter, name in (("a", "Neutral"), ("b", "Happiness")):
            picture = encoded(draw_photo(rng, name, size=(160, 160)).image, "JPEG")
            trees.write(root, f"frontalimages_manuallyaligned_part1/{person}{letter}.jpg", picture)


def _fer2013(root: Path, seed: int = 71) -> None:
    rows = []
    for at, (usage, count) in enumerate(_USAGES.items()):
        for name, face in _faces(seed + at, count, 48):
            rows.append(fer_row(_number(FER2013, name), face[:, :, 1], usage))
    write_fer2013(root, rows)


def _ferplus(root: Path) -> None:
    _fer2013(root, seed=81)
    votes = {"Happiness": 1, "Surprise": 2, "Sadness": 3}
    rows = []
    for usage, count in _USAGES.items():
        for at in range(count):
            cast = [0] * 10
            cast[votes[EXPRESSIONS[at % len(EXPRESSIONS)]]] = 10
            rows.append((usage, "", cast))
    write_votes(root, rows)


def _folders(root: Path) -> None:
    for split, count, seed in (("train", _TRAIN, 91), ("test", _TEST, 92)):
        for at, (name, face) in enumerate(_faces(seed, count, 64)):
            trees.write(root, f"{split}/{name.lower()}/{at}.png", encoded(face))


def _hf_parquet(root: Path) -> None:
    for split, count, seed in (("train", _TRAIN, 1), ("validation", _TEST, 2)):
        faces = _faces(seed, count, 48)
        labels = [EXPRESSIONS.index(name) for name, _ in faces]
        images = [encoded(face) for _, face in faces]
        write_split(root, split, labels, names=NAMES, images=images, row_group_size=16)


def _raf_db(root: Path) -> None:
    rows = []
    for split, count, seed in (("train", _TRAIN, 101), ("test", _TEST, 102)):
        for at, (name, face) in enumerate(_faces(seed, count, 100), start=1):
            stem = f"{split}_{at:05d}"
            rows.append(f"{stem}.jpg {_number(RAF_DB, name)}\n")
            trees.write(root, f"Image/aligned/{stem}_aligned.jpg", encoded(face, "JPEG"))
            points = "".join("10.5\t20.5\n" for _ in range(5))
            trees.write(root, trees.ATTRIBUTES.format(stem), f"{points}{at % 2}\n{at % 3}\n2\n")
    trees.write(root, trees.RAF_LIST, "".join(rows))


SETS: Mapping[str, Callable[[Path], None]] = {
    "affectnet": _affectnet,
    "affectnet-2021": _affectnet_2021,
    "affectnet-plus": _affectnet_plus,
    "ck-plus": _ck_plus,
    "csv": _csv,
    "expw": _expw,
    "fei": _fei,
    "fer2013": _fer2013,
    "ferplus": _ferplus,
    "folders": _folders,
    "hf-parquet": _hf_parquet,
    "raf-db": _raf_db,
}
"""Each format, and what writes a data set of it into a folder."""
