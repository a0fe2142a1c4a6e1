"""How long one answer takes on this machine: the network, and apart from it the way to the crop."""

import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.crop import CropSettings, prepare_face
from fer_pipeline.core.decode import decode, photo_of
from fer_pipeline.core.detect import find_face
from fer_pipeline.core.train import predict_crops

BATCHES = (1, 64)
PHOTOS = 24
"""Photos on which decoding and detection are timed at most."""

_REPEATS = 60
_SECONDS = 2.0
"""A measurement ends after this time, whatever its number of repeats, but not before five."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call, over `repeats` of them after a warm-up."""

    what: str
    faces: int
    """Faces of one call."""
    repeats: int
    p50: float
    p95: float

    @property
    def faces_per_second(self) -> float:
        """By the median."""
        return 1000 * self.faces / self.p50

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Latency:
    """Timings of the network by batch size, of the detector and of the way from photo to crop."""

    network: tuple[Timing, ...]
    detector: Timing | None
    """YuNet on one decoded photo; None where none could be read or the pictures are faces."""
    crop: Timing | None
    """Decoding and cropping one photo as the model's crop settings say, detection included."""
    machine: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "network": [one.to_dict() for one in self.network],
            "detector": None if self.detector is None else self.detector.to_dict(),
            "crop": None if self.crop is None else self.crop.to_dict(),
            "machine": self.machine,
        }


def measure_latency(model: Any, photos: Iterable[Any], settings: CropSettings) -> Latency:
    """Time a Keras model on crops of noise, and detection and cropping on `photos`.

    `photos` are stored bytes, as `DataSet.read_photos` gives them; what can't be read is skipped.
    Takes a few seconds. Other work on the machine makes the figures worse.
    """
    import keras

    shape = settings.shape
    generator = np.random.default_rng(0)
    timings = []
    for batch in BATCHES:
        crops = generator.integers(0, 256, (batch, *shape), np.uint8)
        timings.append(timed("network", batch, [partial(predict_crops, model, crops, batch)]))
    pictures = {data: _pixels(data, settings) for data in photos if isinstance(data, bytes)}
    readable = {data: pixels for data, pixels in pictures.items() if pixels is not None}
    detector = crop = None
    if readable:
        crop = timed("crop", 1, [partial(prepare_face, data, None, settings) for data in readable])
        if settings.detect != "whole":
            photos_read = map(photo_of, readable.values())
            detector = timed("detector", 1, [partial(find_face, photo) for photo in photos_read])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = (
        f"{platform.machine()}, {cores} cores, Keras {keras.__version__} "
        f"on {keras.backend.backend()}"
    )
    return Latency(tuple(timings), detector, crop, machine)


def timed(what: str, faces: int, calls: Sequence[Callable[[], Any]]) -> Timing:
    """The time of the calls, taken in turn until there are enough, after a few unmeasured."""
    for call in [*calls[:3], calls[0], calls[0]]:
        call()
    took: list[float] = []
    began = time.perf_counter()
    while len(took) < _REPEATS and (time.perf_counter() - began < _SECONDS or len(took) < 5):
        call = calls[len(took) % len(calls)]
        start = time.perf_counter()
        call()
        took.append(1000 * (time.perf_counter() - start))
    p50, p95 = np.quantile(took, [0.5, 0.95]).tolist()
    return Timing(what, faces, len(took), p50, p95)


def _pixels(data: bytes, settings: CropSettings) -> NDArray[np.uint8] | None:
    try:
        return decode(data, settings.bounds)
    except UnreadableError:
        return None
