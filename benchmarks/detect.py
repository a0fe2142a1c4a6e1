"""A face crop with detection, beside OpenCV's Haar cascade as notebooks use it."""

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Bench, Figures, Row, Side, rate
from benchmarks.photos import faces_of, read_faces, release, write_faces

_MOST = 300
_SAME_FACE = 0.4


def rows(bench: Bench) -> Iterator[Row]:
    # Drawn faces fill their photos, which spares the cascade most of its work.
    name, root = "the real photos given", bench.real
    if root is None:
        name = "drawn photos"
        root = release(bench.data, max(10, min(bench.photos, _MOST)), "portrait", bench.tell)
    faces = faces_of(root, min(bench.photos, _MOST))
    given = {"faces": write_faces(bench.data / "faces.json", faces)}
    found = bench.medians(
        {"ours": Side("detect:ours", given), "Haar": Side("detect:beside", given)}
    )
    ours, beside = found["ours"], found["Haar"]
    size = bench.times(len(faces), "faces")
    yield Row(
        f"crop with detection, {name}, one core",
        rate(ours),
        f"cv2.imread, Haar frontal face, crop: {rate(beside)}",
        ours["rate"] / beside["rate"],
        12.0,
        size,
    )
    yield Row(
        f"listed faces found (IoU {_SAME_FACE}), {name}",
        f"{ours['found']:.1%}",
        f"Haar: {beside['found']:.1%}",
        ours["found"],
        0.94,
        size,
    )


def ours(faces: str) -> Figures:
    import cv2

    from fer_pipeline.core.crop import CropSettings, prepare_face

    cv2.setNumThreads(1)
    settings = CropSettings(detect="always")
    chosen = read_faces(faces)
    prepare_face(Path(chosen[0][0]).read_bytes(), chosen[0][1], settings)
    found = 0
    started = time.perf_counter()
    for file, box in chosen:
        face = prepare_face(Path(file).read_bytes(), box, settings)
        found += (face.iou or 0.0) >= _SAME_FACE
    return {"rate": len(chosen) / (time.perf_counter() - started), "found": found / len(chosen)}


def beside(faces: str) -> Figures:
    import cv2

    from fer_pipeline.core.detect import iou

    cv2.setNumThreads(1)
    weights = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
    cascade = cv2.CascadeClassifier(str(weights))
    chosen = read_faces(faces)
    found = 0
    started = time.perf_counter()
    for file, box in chosen:
        image = cv2.imread(file)
        if image is None:
            continue
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        boxes = [
            (float(x), float(y), float(w), float(h))
            for x, y, w, h in cascade.detectMultiScale(grey)
        ]
        if boxes:
            x, y, width, height = (int(side) for side in max(boxes, key=lambda face: face[2]))
            cv2.resize(grey[y : y + height, x : x + width], (48, 48))
        found += any(iou(face, box) >= _SAME_FACE for face in boxes)
    return {"rate": len(chosen) / (time.perf_counter() - started), "found": found / len(chosen)}
