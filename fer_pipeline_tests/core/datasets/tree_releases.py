"""Small releases of data sets that are trees of files, written in their official shapes."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fer_pipeline.core.drawing import draw_photo
from fer_pipeline_tests.core.small_release import encoded, noise

ATTRIBUTES = "Annotation/manual/{}_manu_attri.txt"
BOXES = "Annotation/boundingbox/{}_boundingbox.txt"
RAF_LIST = "EmoLabel/list_patition_label.txt"
SOFT = (0.04, 0.8, 0.02, 0.04, 0.02, 0.02, 0.03, 0.03)


def write(root: Path, path: str, data: bytes | str) -> None:
    """Write one file under the root."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data if isinstance(data, bytes) else data.encode())


def drawn(seed: int, expression: str, side: int = 160) -> bytes:
    """A drawn face in a square photo, as a PNG file."""
    return encoded(draw_photo(np.random.default_rng(seed), expression, size=(side, side)).image)


def npy(value: object) -> bytes:
    """A NumPy file that holds one value."""
    buffer = io.BytesIO()
    np.save(buffer, np.array(value))
    return buffer.getvalue()


def affectnet_2021(root: Path, train: int = 6, val: int = 3) -> Path:
    """Photos 0.jpg and so on with their four files, the values as texts as in the release."""
    for folder, count in (("train_set", train), ("val_set", val)):
        for number in range(count):
            picture = encoded(noise(number + 100 * (folder == "val_set"), 224, 224), "JPEG")
            write(root, f"{folder}/images/{number}.jpg", picture)
            note = f"{folder}/annotations/{number}"
            write(root, f"{note}_exp.npy", npy(str(number % 8)))
            write(root, f"{note}_val.npy", npy(f"{number / 10 - 0.3:.2f}"))
            write(root, f"{note}_aro.npy", npy("0.25"))
            write(root, f"{note}_lnd.npy", npy(np.linspace(10.0, 200.0, 136)))
    return root


def note(label: object = 1, soft: object = SOFT, **changed: object) -> str:
    """One annotation of AffectNet+, spelt as in the release."""
    whole = {
        "human-label": label,
        "soft-label": list(soft) if isinstance(soft, tuple) else soft,
        "subset": 1,
        "meta-data": {
            "age": 31,
            "valence": 0.5,
            "arousal": -2,
            "gender": {"female": 0.9, "male": 0.1},
            "race": {"white": 0.2, "asian": 0.7, "black": 0.1},
            "pose": {"yaw": -12.4, "pitch": 3.1, "roll": 0.2},
            "landmark-68": list(range(136)),
        },
    }
    return json.dumps(whole | changed)


def affectnet_plus(root: Path, train: int = 6, validation: int = 3) -> Path:
    """`human_annotated` with images and annotations of two splits."""
    for folder, count in (("train_set", train), ("validation_set", validation)):
        for number in range(count):
            at = f"human_annotated/{folder}"
            picture = encoded(noise(number + 100 * (folder != "train_set"), 224, 224), "JPEG")
            write(root, f"{at}/images/{number}.jpg", picture)
            write(root, f"{at}/annotations/{number}.json", note(number % 8))
    return root


def raf_db(
    root: Path, rows: Sequence[str] = ("train_00001.jpg 5", "train_00002.jpg 4", "test_0001.jpg 7")
) -> Path:
    """The list, an aligned and an original picture for each row, attributes and boxes."""
    write(root, RAF_LIST, "".join(f"{row}\n" for row in rows))
    for number, row in enumerate(rows):
        stem = row.split()[0].removesuffix(".jpg")
        aligned = encoded(noise(number, 100, 100), "JPEG")
        write(root, f"Image/aligned/{stem}_aligned.jpg", aligned)
        write(root, f"Image/original/{stem}.jpg", encoded(noise(number, 200, 300), "JPEG"))
        points = "".join(f"{10.5 + point}\t{20.25 + point}\n" for point in range(5))
        write(root, ATTRIBUTES.format(stem), f"{points}1\n2\n3\n")
        write(root, BOXES.format(stem), "40.2 30.6 160.2 150.6 \n")
    return root


def expw(root: Path, rows: Sequence[str], photos: Mapping[str, bytes] | None = None) -> Path:
    """The list `label/label.lst` and photos in `image/origin`."""
    write(root, "label/label.lst", "".join(f"{row}\n" for row in rows))
    (root / "image/origin").mkdir(parents=True, exist_ok=True)
    for name, data in (photos or {}).items():
        write(root, f"image/origin/{name}", data)
    return root


def sequence(
    root: Path,
    subject: str,
    number: str,
    frames: int = 4,
    label: object = None,
    picture: bytes | None = None,
) -> None:
    """One sequence of CK+; with a label the file of it, as CK+ writes it."""
    stem = f"{subject}_{number}"
    for frame in range(1, frames + 1):
        seed = int(subject[1:]) * 1000 + int(number) * 100 + frame
        data = picture if picture is not None else encoded(noise(seed, 49, 64))
        write(root, f"cohn-kanade-images/{subject}/{number}/{stem}_{frame:08d}.png", data)
    folder = root / "Emotion" / subject / number
    folder.mkdir(parents=True, exist_ok=True)
    if label is not None:
        text = f"   {label:.7e}\n" if isinstance(label, int | float) else str(label)
        (folder / f"{stem}_{frames:08d}_emotion.txt").write_text(text)


def ck_plus(root: Path, subjects: int = 12) -> Path:
    """Subjects with a labelled sequence and one without each."""
    for at in range(subjects):
        sequence(root, f"S{at + 5:03d}", "001", label=1 + at % 7)
        sequence(root, f"S{at + 5:03d}", "002")
    return root


def fei(root: Path, persons: int = 12, folder: str = "frontalimages_manuallyaligned_part1") -> Path:
    """A neutral and a smiling picture for each person."""
    for person in range(1, persons + 1):
        for letter, seed in (("a", 0), ("b", 500)):
            picture = encoded(noise(person + seed, 72, 52), "JPEG")
            write(root, f"{folder}/{person}{letter}.jpg", picture)
    return root
