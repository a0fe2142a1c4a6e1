"""Probabilities that can be believed: temperature, class bias, another prior, how well they fit.

Pure functions of arrays; classes are positions 0..K-1. Where a temperature is fitted (the dev
split, never the test split) and how it becomes part of a model is the business of training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.intervals import Floats, Integers
from fer_pipeline.core.metrics import (
    CalibrationBin,
    brier_score,
    calibration_bins,
    expected_calibration_error,
    negative_log_likelihood,
)

TEMPERATURES = (0.05, 20.0)
"""Bounds of a fitted temperature: where every row is right the best one would be 0."""
LEAST_FACES = 50
"""Faces below which a model keeps temperature 1. The standard error of a fitted ln T is about
1 / sqrt(n v), v the variance of a row's logits under its own probabilities; with the usual v of 0.2
to 1.2 that is 0.13 to 0.32 for 50 faces, and more than the usual correction for fewer."""

BIAS_DEVIATION = 0.5
"""Standard deviation that the bias of a class is expected to have before any face was seen: with
the 7 or so dev faces a class that 50 faces leave, the fitted bias is drawn to 0 by a third."""

_CHANCE_DRAWS = 200
"""Test splits drawn to see what ECE chance makes of perfect probabilities."""

_SMALLEST = float(np.finfo(np.float32).tiny)
"""Probabilities below it, which float32 can't tell from 0, count as this."""


@dataclass(frozen=True)
class ChosenTemperature:
    """The temperature that a model is used with."""

    value: float
    unfitted: str | None
    """Why it is 1 and not a fitted one; None where it was fitted."""


@dataclass(frozen=True)
class CalibrationScores:
    """How well probabilities fit: see `metrics.Evaluation` for units and ranges."""

    ece: float
    nll: float
    brier: float
    bins: tuple[CalibrationBin, ...]

    def to_dict(self, suffix: str = "") -> dict[str, float]:
        """The three figures under their names."""
        figures = {"ece": self.ece, "nll": self.nll, "brier": self.brier}
        return {f"{name}{suffix}": value for name, value in figures.items()}


def calibration_scores(expression: Integers, probability: Floats) -> CalibrationScores:
    """ECE, NLL and Brier score of `probability` (n, K) for true classes `expression` (n,)."""
    probability = np.asarray(probability, np.float64)
    right = probability.argmax(axis=1) == expression
    bins = calibration_bins(probability.max(axis=1), right)
    return CalibrationScores(
        ece=expected_calibration_error(bins),
        nll=negative_log_likelihood(expression, probability),
        brier=brier_score(expression, probability),
        bins=bins,
    )


def ece_by_chance(confidence: Floats, *, seed: int) -> float:
    """The ECE that perfect probabilities stay below in 95 of 100 test splits.

    ECE is never 0 on few faces: their share right differs from any probability by chance. Here
    each face is right with the probability that it says, again and again (Bröcker and Smith,
    Increasing the Reliability of Reliability Diagrams, 2007); faces count as independent.

    Args:
        confidence: float (n,), the largest probability of each face.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    drawn = [
        expected_calibration_error(
            calibration_bins(confidence, generator.random(len(confidence)) < confidence)
        )
        for _ in range(_CHANCE_DRAWS)
    ]
    return float(np.quantile(drawn, 0.95))


def with_temperature(probability: Floats, temperature: float) -> NDArray[np.float64]:
    """softmax(log p / T), the probabilities of a model whose logits are divided by T.

    Args:
        probability: float (n, K), rows sum to 1.
        temperature: above 1 makes rows flatter, below 1 sharper; 1 / T undoes T.

    Returns:
        float64 (n, K), rows sum to 1; the order of the classes of a row stays.

    Raises ValueError when the temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"a temperature has to lie above 0, got {temperature}")
    return _softmax(_logarithm(probability) / temperature)


def fit_temperature(probability: Floats, target: NDArray[Any]) -> float:
    """The temperature that gives the least NLL (Guo et al., On Calibration of Modern Neural
    Networks, 2017).

    The NLL is convex in 1 / T, so the minimum within `TEMPERATURES` is the only one. It is an
    estimate whatever the rows: `choose_temperature` says whether a model should use it.

    Args:
        probability: float (n, K), rows sum to 1, of faces that the model wasn't trained on.
        target: int (n,) true classes, or float (n, K) shares whose rows sum to 1.

    Raises ValueError when shapes don't fit or there are no rows.
    """
    from scipy.optimize import minimize_scalar

    logits = _logarithm(probability)
    shares = _shares(np.asarray(target), *logits.shape)

    def loss(logarithm: float) -> float:
        scaled = logits / np.exp(logarithm)
        whole = np.log(np.exp(scaled - scaled.max(axis=1, keepdims=True)).sum(axis=1))
        rows = whole + scaled.max(axis=1) - (shares * scaled).sum(axis=1)
        return float(rows.mean())

    bounds = tuple(np.log(TEMPERATURES))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def fit_class_bias(
    probability: Floats, expression: Integers, weight: Floats | None = None
) -> NDArray[np.float64]:
    """What to add to the logits of each class, fitted together with a temperature (Alexandari,
    Kundaje and Shrikumar, Maximum Likelihood with Bias-Corrected Calibration, 2020).

    It takes back what targets other than the labels taught, such as vote shares, and what
    training knows better than new faces bear out. A normal distribution around 0 with a standard
    deviation of `BIAS_DEVIATION`, in calibrated logits, keeps the bias of a class with few rows
    small, however much each of them weighs. Of a class without a row nothing is known: the others
    are fitted given that it isn't one of those, and its own bias is their mean.

    Args:
        probability: float (n, K), rows sum to 1, of faces that the model wasn't trained on.
        expression: int (n,) true classes.
        weight: float (n,) of each row, or None for equal weights.

    Returns:
        float64 (K,), for the logits before the temperature; the mean is 0.

    Raises ValueError when shapes don't fit or there are no rows.
    """
    from scipy.optimize import minimize

    logits = _logarithm(probability)
    shares = _shares(np.asarray(expression), *logits.shape)
    weights = _weights(weight, len(logits))
    there = shares.sum(axis=0) > 0
    logits, shares = logits[:, there], shares[:, there]
    # As if each row of a class weighed at most 1.
    strength = np.maximum(1.0, weights @ shares / shares.sum(axis=0)) / BIAS_DEVIATION**2

    def loss(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scale, bias = np.exp(-point[0]), point[1:]
        said = _softmax(logits * scale + bias)
        rows = -np.log(np.maximum((said * shares).sum(axis=1), _SMALLEST))
        wrong = (said - shares) * weights[:, None]
        slope = np.append(-(wrong * logits).sum() * scale, wrong.sum(axis=0))
        slope[1:] += strength * bias
        penalty = float((strength * bias**2).sum()) / 2
        return float(rows @ weights) + penalty, slope

    low, high = np.log(TEMPERATURES)
    bounds = [(low, high), *[(None, None)] * logits.shape[1]]
    found = minimize(loss, np.zeros(1 + logits.shape[1]), jac=True, bounds=bounds)
    fitted = found.x[1:] * np.exp(found.x[0])
    bias = np.zeros(len(there))
    bias[there] = fitted - fitted.mean()
    return bias


def choose_temperature(probability: Floats, expression: Integers) -> ChosenTemperature:
    """The fitted temperature where the rows determine one, else 1.

    They don't where they are fewer than `LEAST_FACES`, and where the NLL has no minimum within
    `TEMPERATURES`: no row is wrong, so that ever sharper probabilities would be better, or the
    probabilities say nothing of the classes, so that ever flatter ones would be. A bound would
    then stand in the model as if it had been measured.

    Args:
        probability: float (n, K), rows sum to 1, of faces that the model wasn't trained on.
        expression: int (n,) true classes.

    Raises ValueError when shapes don't fit or there are no rows.
    """
    logits = _logarithm(probability)
    shares = _shares(np.asarray(expression), *logits.shape)
    if len(logits) < LEAST_FACES:
        reason = f"{len(logits)} dev faces are too few, {LEAST_FACES} are needed"
    elif _slope(logits, shares, 1 / TEMPERATURES[0]) <= 0:
        reason = f"no temperature is right for {len(logits)} dev faces with hardly an error"
    elif _slope(logits, shares, 1 / TEMPERATURES[1]) >= 0:
        reason = f"the probabilities say nothing of the classes of {len(logits)} dev faces"
    else:
        return ChosenTemperature(fit_temperature(probability, expression), None)
    return ChosenTemperature(1.0, reason)


def with_prior(
    probability: Floats, trained_prior: Sequence[float], prior: Sequence[float]
) -> NDArray[np.float64]:
    """Probabilities for other class shares than those of training (Saerens, Latinne and
    Decaestecker, Adjusting the outputs of a classifier to new a priori probabilities, 2002).

    Args:
        probability: float (n, K), rows sum to 1.
        trained_prior: K shares of the classes in what training drew.
        prior: K shares where the model is used.

    Returns:
        float64 (n, K), each column times prior / trained_prior, rows brought back to 1.

    Raises ValueError when a prior doesn't have K shares above 0.
    """
    old, new = np.asarray(trained_prior, np.float64), np.asarray(prior, np.float64)
    classes = np.shape(probability)[1]
    for name, shares in (("trained prior", old), ("prior", new)):
        if shares.shape != (classes,) or not (shares > 0).all():
            raise ValueError(f"a {name} needs {classes} shares above 0, got {shares.tolist()}")
    return _softmax(_logarithm(probability) + np.log(new / new.sum()) - np.log(old / old.sum()))


def _slope(logits: NDArray[np.float64], shares: NDArray[np.float64], scale: float) -> float:
    """The derivative of the NLL by 1 / T, at 1 / T = `scale`."""
    expected = (_softmax(logits * scale) * logits).sum(axis=1)
    return float((expected - (shares * logits).sum(axis=1)).mean())


def _logarithm(probability: Floats) -> NDArray[np.float64]:
    values = np.asarray(probability, np.float64)
    if values.ndim != 2 or not len(values):
        raise ValueError(f"probabilities have shape (n, K) with n above 0, got {values.shape}")
    logarithm: NDArray[np.float64] = np.log(np.maximum(values, _SMALLEST))
    return logarithm


def _weights(weight: Floats | None, n: int) -> NDArray[np.float64]:
    weights = np.ones(n) if weight is None else np.asarray(weight, np.float64)
    if weights.shape != (n,) or not weights.sum() > 0:
        raise ValueError(f"{n} rows need as many weights and at least one above 0")
    return weights


def _shares(target: NDArray[Any], n: int, classes: int) -> NDArray[np.float64]:
    if target.shape == (n,) and np.issubdtype(target.dtype, np.integer):
        target = np.eye(classes)[target]
    elif target.shape != (n, classes):
        raise ValueError(f"{n} rows of {classes} classes need {n} targets, got {target.shape}")
    return target.astype(np.float64)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares
