"""All that is asked of a model beyond its scores: can it be believed, where does it fail, what
does it cost? One call that gathers the answers, with bounded cost.

Each subject has its own module; what is shown of it is decided in `report_details.py`.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fer_pipeline.core.calibration import (
    CalibrationScores,
    calibration_scores,
    ece_by_chance,
    with_temperature,
)
from fer_pipeline.core.curves import (
    COVERAGES,
    OneVsRest,
    RiskCoverage,
    mean_area,
    one_vs_rest,
    risk_coverage,
)
from fer_pipeline.core.examples import Examples, load_images
from fer_pipeline.core.intervals import Estimate
from fer_pipeline.core.latency import Latency, measure_latency
from fer_pipeline.core.metrics import evaluate_predictions
from fer_pipeline.core.model_file import ModelCard
from fer_pipeline.core.near_copies import TrainingCopies, find_training_copies
from fer_pipeline.core.paired import PairedComparison, compare_paired
from fer_pipeline.core.predictions import Predictions
from fer_pipeline.core.robustness import Robustness, drawn_faces, robustness
from fer_pipeline.core.saliency import grad_cam, has_gradients
from fer_pipeline.core.slices import Slice, face_subjects, score_slices
from fer_pipeline.core.train import predict_crops

_DAMAGE_RESAMPLES = 1000
_MAPS_OF_ERRORS = 6


@dataclass(frozen=True)
class Part:
    """Accuracy and macro-F1 on some of the test faces; None where there are none."""

    faces: int
    accuracy: Estimate | None
    macro_f1: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        scores = {"accuracy": self.accuracy, "macro_f1": self.macro_f1}
        found: dict[str, Any] = {"faces": self.faces}
        for name, estimate in scores.items():
            found |= {name: None} if estimate is None else estimate.to_dict(name)
        return found


@dataclass(frozen=True)
class Copies:
    """The scores without test faces that training lists hold too, and without near copies also."""

    found: TrainingCopies
    without_listed: Part
    without_any: Part

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **self.found.to_dict(),
            "without_listed": self.without_listed.to_dict(),
            "without_any": self.without_any.to_dict(),
        }


@dataclass(frozen=True)
class SaliencyMap:
    """One face, what the model said of it and where it found that.

    `crop` is uint8 (h, w, c), `cells` float32 (cells, cells), see `saliency.grad_cam`.
    """

    crop: NDArray[np.uint8]
    cells: NDArray[np.float32]
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class BesideChampion:
    """The version that held the alias when this model was evaluated, on the same test faces.

    `comparison` has the champion first and this model second. `seen` counts test faces whose group
    the champion was trained on, left out of it; None where its training kept no list.
    """

    name: str
    comparison: PairedComparison
    seen: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "seen_in_training": self.seen,
            **self.comparison.to_dict("champion", "model"),
        }


@dataclass(frozen=True)
class Examination:
    """The answers; timings apart, the same model and data give the same ones."""

    temperature: float
    flip: bool
    raw: CalibrationScores
    calibrated: CalibrationScores
    ece_by_chance: float
    """What the ECE of perfect probabilities would stay below, see `calibration.ece_by_chance`."""
    risk: RiskCoverage
    by_class: tuple[OneVsRest, ...]
    slices: tuple[Slice, ...]
    copies: Copies
    robustness: Robustness
    maps: tuple[SaliencyMap, ...] | None
    """None on a backend without gradients."""
    champion: BesideChampion | None
    latency: Latency
    model_bytes: int
    seconds: Mapping[str, float]
    unfitted: str | None = None
    """Why no temperature was fitted, see `ModelCard`."""

    def scalars(self) -> dict[str, float]:
        """The single figures, as MLflow wants them; one that isn't defined is left out."""
        small, large = self.latency.network
        found = {
            "temperature": self.temperature,
            **self.raw.to_dict("_before_temperature"),
            "risk_coverage_area": self.risk.area,
            **{f"accuracy_at_coverage_{share:g}": 1 - self.risk.risk_at(share)
               for share in COVERAGES[1:]},
            "mean_roc_area": mean_area([one.roc_area for one in self.by_class]),
            "mean_average_precision": mean_area([one.average_precision for one in self.by_class]),
            "faces_in_training_lists": int(self.copies.found.listed.sum()),
            "near_copies_in_training": int(self.copies.found.near.sum()),
            "mean_accuracy_when_damaged": self.robustness.mean_accuracy,
            "model_megabytes": self.model_bytes / 1e6,
            "latency_1_p50_ms": small.p50,
            "latency_1_p95_ms": small.p95,
            "latency_64_p50_ms": large.p50,
            "latency_64_p95_ms": large.p95,
        }  # fmt: skip
        if self.copies.without_any.accuracy is not None:
            found |= self.copies.without_any.accuracy.to_dict("accuracy_without_copies")
        return {name: float(value) for name, value in found.items() if value is not None}

    def to_dict(self, *, timings: bool = True) -> dict[str, Any]:
        """Plain values for JSON, without pictures; without `timings` what repeats exactly."""
        found = {
            "temperature": self.temperature,
            "flip": self.flip,
            "before_temperature": self.raw.to_dict(),
            "after_temperature": self.calibrated.to_dict(),
            "ece_by_chance": self.ece_by_chance,
            "risk_coverage": self.risk.to_dict(),
            "one_vs_rest": [one.to_dict() for one in self.by_class],
            "slices": [one.to_dict() for one in self.slices],
            "copies_in_training": self.copies.to_dict(),
            "robustness": self.robustness.to_dict(),
            "champion": None if self.champion is None else self.champion.to_dict(),
            "model_bytes": self.model_bytes,
        }
        if timings:
            found |= {"latency": self.latency.to_dict(), "seconds": dict(self.seconds)}
        return found


def examine(
    model: Any,
    card: ModelCard,
    predictions: Predictions,
    test: Examples,
    training: Examples,
    manifest: pa.Table,
    *,
    photos: Iterable[Any],
    model_bytes: int,
    champion: BesideChampion | None,
    seed: int,
    resamples: int,
) -> Examination:
    """Ask everything of a served model whose `predictions` are those of `test`, in its order.

    `photos` are stored bytes on which decoding and detection are timed, `model_bytes` the size of
    the model's file; votes in `manifest` are those of people. On two cores and the presets for CPUs
    this takes about half a minute.
    """
    expression, probability = predictions.expression, predictions.probability.astype(np.float64)
    right = predictions.predicted == expression
    raw = with_temperature(probability, 1 / card.temperature)
    seconds: dict[str, float] = {}
    with _timed(seconds, "slices"):
        slices = score_slices(
            expression,
            probability,
            card.classes,
            test.group_id,
            face_subjects(test, manifest),
        )
    with _timed(seconds, "copies"):
        known = find_training_copies(test, training, manifest, seed=seed)
        copies = _copies(predictions, known, seed=seed, resamples=resamples)
    with _timed(seconds, "robustness"):
        worse = _robustness(model, test, seed=seed, resamples=resamples)
    maps = None
    with _timed(seconds, "saliency"):
        if has_gradients():
            maps = _maps(model, predictions, test)
    with _timed(seconds, "latency"):
        latency = measure_latency(model, photos, card.crop)
    return Examination(
        temperature=card.temperature,
        unfitted=card.unfitted,
        flip=card.flip,
        raw=calibration_scores(expression, raw),
        calibrated=calibration_scores(expression, probability),
        ece_by_chance=ece_by_chance(probability.max(axis=1), seed=seed),
        risk=risk_coverage(probability.max(axis=1), right),
        by_class=one_vs_rest(expression, probability, card.classes),
        slices=slices,
        copies=copies,
        robustness=worse,
        maps=maps,
        champion=champion,
        latency=latency,
        model_bytes=model_bytes,
        seconds=seconds,
    )


def beside_champion(
    name: str,
    probability: NDArray[np.float32],
    predictions: Predictions,
    trained_groups: Iterable[str] | None,
    *,
    seed: int,
    resamples: int,
) -> BesideChampion | None:
    """Compare a champion's `probability` (n, K) with `predictions`, columns in the same order.

    Faces of `trained_groups`, those that the champion was trained on, are left out where they
    are known; None when no face is left.
    """
    seen = np.zeros(len(predictions), bool)
    if trained_groups is not None:
        seen = np.isin(predictions.group_id.astype(str), list(trained_groups))
    kept = np.flatnonzero(~seen)
    if not len(kept):
        return None
    truth = predictions.expression[kept]
    comparison = compare_paired(
        probability[kept].argmax(axis=1) == truth,
        predictions.predicted[kept] == truth,
        predictions.group_id[kept],
        seed=seed,
        resamples=resamples,
        strata=truth,
    )
    return BesideChampion(name, comparison, None if trained_groups is None else int(seen.sum()))


def _copies(
    predictions: Predictions, found: TrainingCopies, *, seed: int, resamples: int
) -> Copies:
    def part(kept: NDArray[np.bool_]) -> Part:
        if not kept.any():
            return Part(0, None, None)
        scored = evaluate_predictions(
            predictions.expression[kept],
            predictions.probability[kept],
            predictions.classes,
            predictions.group_id[kept],
            seed=seed,
            resamples=resamples,
        )
        return Part(scored.n, scored.accuracy, scored.macro_f1)

    return Copies(found, part(~found.listed), part(~found.either))


def _robustness(model: Any, test: Examples, *, seed: int, resamples: int) -> Robustness:
    rows = drawn_faces(len(test), seed)
    batch = min(200, len(rows))
    return robustness(
        lambda crops: predict_crops(model, crops, batch),
        load_images(test, rows),
        test.expression[rows],
        test.group_id[rows],
        seed=seed,
        resamples=min(resamples, _DAMAGE_RESAMPLES),
    )


def _maps(model: Any, predictions: Predictions, test: Examples) -> tuple[SaliencyMap, ...]:
    """Of each class the right answer that the model is surest of, then the surest errors."""
    answer, sure = predictions.predicted, predictions.probability.max(axis=1)
    right = answer == predictions.expression
    order = np.argsort(-sure, kind="stable")
    first = [
        order[right[order] & (answer[order] == place)][:1]
        for place in range(len(predictions.classes))
    ]
    rows = np.concatenate([*first, order[~right[order]][:_MAPS_OF_ERRORS]]).astype(np.int64)
    if not len(rows):
        return ()
    crops = load_images(test, rows)
    cells = grad_cam(model, crops, answer[rows])
    names = predictions.classes
    return tuple(
        SaliencyMap(
            crop,
            cell,
            names[predictions.expression[row]],
            names[answer[row]],
            float(sure[row]),
        )
        for row, crop, cell in zip(rows, crops, cells, strict=True)
    )


@contextmanager
def _timed(seconds: dict[str, float], subject: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[subject] = round(time.monotonic() - began, 2)
