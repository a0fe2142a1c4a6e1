"""A face crop from a listed box, beside reading the whole photo, slicing and resizing."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.harness import Bench, Figures, Row, Side, rate
from benchmarks.photos import Face, faces_of, read_faces, release, write_faces

BESIDE = "cv2.imread, slice, cv2.resize"
_FEWEST = 10


def rows(bench: Bench) -> Iterator[Row]:
    work = [
        ("crop, photos of about 425 px, boxes of 250 to 350 px", "portrait", 2000, 1.7),
        ("crop, photos of 1800 to 3200 px", "large", 100, 2.3),
    ]
    sets = [
        (name, release(bench.data, max(_FEWEST, min(bench.photos, most)), kind, bench.tell), target)
        for name, kind, most, target in work
    ]
    if bench.real is not None:
        sets.insert(1, ("crop, the real photos given", bench.real, 1.0))
    for name, root, target in sets:
        faces = faces_of(root, min(bench.photos, 2000))
        given = {"faces": write_faces(bench.data / "faces.json", faces)}
        found = bench.medians({"ours": Side("crop:ours", given), "cv2": Side("crop:beside", given)})
        yield Row(
            f"{name}, one core",
            rate(found["ours"]),
            f"{BESIDE}: {rate(found['cv2'])}",
            found["ours"]["rate"] / found["cv2"]["rate"],
            target,
            bench.times(len(faces), "faces"),
        )


def ours(faces: str) -> Figures:
    import cv2

    from fer_pipeline.core.crop import CropSettings, prepare_face

    cv2.setNumThreads(1)
    settings = CropSettings()

    def crop(face: Face) -> None:
        prepare_face(Path(face[0]).read_bytes(), face[1], settings)

    return _timed(faces, crop)


def beside(faces: str) -> Figures:
    import cv2

    cv2.setNumThreads(1)

    def crop(face: Face) -> None:
        image = cv2.imread(face[0])
        if image is None:
            return
        x, y, width, height = (int(side) for side in face[1])
        part = image[max(0, y) : y + height, max(0, x) : x + width]
        if part.size:
            cv2.resize(part, (48, 48))

    return _timed(faces, crop)


def _timed(faces: str, crop: Callable[[Face], None]) -> Figures:
    chosen = read_faces(faces)
    for face in chosen[:_FEWEST]:
        crop(face)
    started = time.perf_counter()
    for face in chosen:
        crop(face)
    return {"rate": len(chosen) / (time.perf_counter() - started)}
