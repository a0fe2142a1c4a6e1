"""How scores fall when crops get worse: six kinds of damage at five severities.

After Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations (2019), with severities for small crops. The damage is done to the crop, not to the
photo: what it does to the detector isn't seen here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.intervals import Estimate, Integers
from fer_pipeline.core.paired import compare_paired

Crops = NDArray[np.uint8]
Damage = Callable[[Crops, float, np.random.Generator], Crops]

FACES = 400
"""Test faces that are damaged at most, drawn with the seed."""

SEVERITIES: Mapping[str, tuple[float, ...]] = {
    "blur": (0.010, 0.020, 0.030, 0.045, 0.065),
    "brightness": (0.10, 0.20, 0.30, 0.40, 0.50),
    "JPEG": (50, 30, 18, 10, 5),
    "noise": (0.04, 0.08, 0.12, 0.18, 0.26),
    "low resolution": (0.67, 0.50, 0.35, 0.25, 0.17),
    "occlusion": (0.05, 0.10, 0.20, 0.30, 0.40),
}
"""What the severities 1 to 5 are: see `MEANINGS`."""

MEANINGS: Mapping[str, str] = {
    "blur": "Gaussian, its standard deviation as a share of the side",
    "brightness": "share of the full range added or taken away, by chance",
    "JPEG": "quality of the encoder",
    "noise": "Gaussian, its standard deviation as a share of the full range",
    "low resolution": "share of the side that the crop is shrunk to, and enlarged again",
    "occlusion": "share of the area behind a grey square at a place drawn for each face",
}


@dataclass(frozen=True)
class Damaged:
    """The model on faces with one kind of damage at one severity (1 to 5; 0 is none).

    `drop` is the accuracy lost against the same faces undamaged, with a paired bootstrap interval
    by group.
    """

    kind: str
    severity: int
    setting: float
    accuracy: float
    drop: Estimate


@dataclass(frozen=True)
class Robustness:
    """The scores on damaged faces, kinds in the order of `SEVERITIES`, severities rising."""

    faces: int
    clean: float
    damaged: tuple[Damaged, ...]
    example: NDArray[np.uint8]
    """Crops uint8 (kinds, 6, h, w, c) of one face, the first of each kind undamaged."""

    def of(self, kind: str) -> list[Damaged]:
        """The five severities of one kind."""
        return [one for one in self.damaged if one.kind == kind]

    @property
    def mean_accuracy(self) -> float:
        """The mean over all kinds and severities."""
        return float(np.mean([one.accuracy for one in self.damaged]))

    @property
    def worst_kind(self) -> str:
        """The kind with the lowest mean accuracy."""
        return min(SEVERITIES, key=lambda kind: np.mean([one.accuracy for one in self.of(kind)]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the pictures."""
        return {
            "faces": self.faces,
            "clean_accuracy": self.clean,
            "mean_accuracy": self.mean_accuracy,
            "damaged": [
                {
                    "kind": one.kind,
                    "severity": one.severity,
                    "setting": one.setting,
                    "accuracy": one.accuracy,
                    **one.drop.to_dict("drop"),
                }
                for one in self.damaged
            ],
        }


def damage(crops: Crops, kind: str, severity: int, seed: int) -> Crops:
    """Copies of `crops` uint8 (n, h, w, c) with one of `SEVERITIES` at 1 to 5.

    What is by chance depends on the seed, the kind and the number of crops alone, so that the
    severities of a kind hit the same places. Raises KeyError for another kind.
    """
    setting = SEVERITIES[kind][severity - 1]
    generator = np.random.default_rng([seed, list(SEVERITIES).index(kind)])
    return _DAMAGES[kind](crops, setting, generator)


def robustness(
    predict: Callable[[Crops], NDArray[Any]],
    crops: Crops,
    expression: Integers,
    groups: NDArray[Any],
    *,
    seed: int,
    resamples: int,
) -> Robustness:
    """Score damaged copies of the crops.

    Args:
        predict: crops uint8 (n, h, w, c) to probabilities (n, K).
        crops: the faces, at most `FACES` of them to keep the cost bounded (31 predictions each).
        expression: int (n,), true classes.
        groups: str (n,), see `paired.compare_paired`.
        seed: of damage and bootstrap.
        resamples: number of bootstrap samples.
    """
    clean = predict(crops).argmax(axis=1) == expression
    found = []
    for kind, settings in SEVERITIES.items():
        for severity, setting in enumerate(settings, start=1):
            worse = damage(crops, kind, severity, seed)
            right = predict(worse).argmax(axis=1) == expression
            drop = compare_paired(right, clean, groups, seed=seed, resamples=resamples).difference
            found.append(Damaged(kind, severity, setting, float(right.mean()), drop))
    return Robustness(len(crops), float(clean.mean()), tuple(found), example_of(crops[:1], seed))


def example_of(crop: Crops, seed: int) -> NDArray[np.uint8]:
    """One crop (1, h, w, c) undamaged and at the five severities, by kind: (kinds, 6, h, w, c)."""
    rows = [
        np.concatenate([crop, *(damage(crop, kind, severity, seed) for severity in range(1, 6))])
        for kind in SEVERITIES
    ]
    return np.stack(rows)


def _each(crops: Crops, change: Callable[[Crops], Any]) -> Crops:
    """`change` of each crop (h, w, c); OpenCV drops the axis of a single channel."""
    return np.stack([np.asarray(change(crop)).reshape(crop.shape) for crop in crops])


def _blur(crops: Crops, share: float, _: np.random.Generator) -> Crops:
    import cv2

    sigma = share * crops.shape[1]
    return _each(crops, lambda crop: cv2.GaussianBlur(crop, (0, 0), sigma))


def _brightness(crops: Crops, share: float, generator: np.random.Generator) -> Crops:
    shift = generator.choice([-1, 1], len(crops)).reshape(-1, 1, 1, 1) * share * 255
    return _bytes(crops + shift.astype(np.float32))


def _jpeg(crops: Crops, quality: float, _: np.random.Generator) -> Crops:
    import cv2

    def change(crop: Crops) -> Any:
        grey = crop.shape[2] == 1
        # OpenCV's encoder takes BGR.
        _, data = cv2.imencode(
            ".jpg", crop if grey else crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)]
        )
        read = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
        return read if grey else np.asarray(read)[..., ::-1]

    return _each(crops, change)


def _noise(crops: Crops, share: float, generator: np.random.Generator) -> Crops:
    return _bytes(crops + generator.standard_normal(crops.shape, np.float32) * share * 255)


def _low_resolution(crops: Crops, share: float, _: np.random.Generator) -> Crops:
    import cv2

    side = crops.shape[1]
    small = max(2, round(side * share))

    def change(crop: Crops) -> Any:
        shrunk = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
        return cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_LINEAR)

    return _each(crops, change)


def _occlusion(crops: Crops, share: float, generator: np.random.Generator) -> Crops:
    height, width = crops.shape[1:3]
    down, across = round(height * share**0.5), round(width * share**0.5)
    places = generator.random((len(crops), 2))
    covered: Crops = crops.copy()
    for crop, (y, x) in zip(covered, places, strict=True):
        top, left = round(y * (height - down)), round(x * (width - across))
        crop[top : top + down, left : left + across] = 128
    return covered


def _bytes(values: NDArray[Any]) -> Crops:
    clipped: Crops = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return clipped


_DAMAGES: Mapping[str, Damage] = {
    "blur": _blur,
    "brightness": _brightness,
    "JPEG": _jpeg,
    "noise": _noise,
    "low resolution": _low_resolution,
    "occlusion": _occlusion,
}


def drawn_faces(count: int, seed: int) -> NDArray[np.int64]:
    """Rows of at most `FACES` of `count` test faces, in their order."""
    if count <= FACES:
        return np.arange(count)
    chosen = np.random.default_rng(seed).choice(count, FACES, replace=False)
    return np.sort(chosen)
