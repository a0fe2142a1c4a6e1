"""The baseline that every report sets beside the model: a linear model on pixels.

It returns probabilities in the order of the stream's classes, so `metrics.evaluate_predictions`
scores it as it scores a model.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.errors import InputError

LINEAR_SIDE = 24
"""Longest side, in pixels, of the grey image that the linear model sees."""

LINEAR_TRAIN_CAP = 30_000
"""Training faces the linear model uses at most; more are sampled down with the seed."""

_LINEAR_C = 0.001
"""Inverse strength of the L2 penalty: pixels outnumber the faces of a small data set."""

_LINEAR_ITERATIONS = 150
_IMAGES_AT_ONCE = 1024
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def _counts(train_labels: NDArray[np.integer[Any]], classes_count: int) -> NDArray[np.int64]:
    if len(train_labels) == 0:
        raise InputError(
            "The training split holds no usable face for a baseline; check the statuses of the "
            "crops and that the training lists name the stream's classes."
        )
    if train_labels.min() < 0 or train_labels.max() >= classes_count:
        raise ValueError(f"a training label lies outside 0..{classes_count - 1}")
    return np.bincount(train_labels, minlength=classes_count).astype(np.int64)


def _area_weights(side: int, reduced: int) -> NDArray[np.float32]:
    """Matrix (reduced, side) that averages `side` pixels over `reduced` equal stretches."""
    edges = np.arange(reduced + 1) * (side / reduced)
    pixels = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights: NDArray[np.float64] = np.clip(overlap, 0, None) / (side / reduced)
    return weights.astype(np.float32)


def grey_pixels(images: NDArray[Any], longest: int = LINEAR_SIDE) -> NDArray[np.float32]:
    """Grey images by area averaging, at most `longest` pixels a side, as rows.

    Args:
        images: uint8 (n, h, w, c), grey (c = 1) or RGB (c = 3; Rec. 601 luma).
        longest: side in pixels; smaller images keep their size.

    Returns:
        float32 (n, min(h, longest) * min(w, longest)), 0 to 255.
    """
    n, height, width, channels = images.shape
    down = _area_weights(height, min(height, longest))
    across = _area_weights(width, min(width, longest)).T
    pixels = np.empty((n, down.shape[0] * across.shape[1]), np.float32)
    for start in range(0, n, _IMAGES_AT_ONCE):
        part = images[start : start + _IMAGES_AT_ONCE].astype(np.float32)
        grey = part @ _LUMA if channels == 3 else part[..., 0]
        pixels[start : start + len(part)] = (down @ grey @ across).reshape(len(part), -1)
    return pixels


def small_images(parts: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Images that come in parts, uint8 (n, h, w, c) each, as small as the linear model sees them.

    `linear_baseline` takes them as it takes the images, which then needn't all be in memory.

    Returns:
        float32 (n of all, min(h, LINEAR_SIDE), min(w, LINEAR_SIDE), 1).
    """
    small = []
    for part in parts:
        height, width = (min(side, LINEAR_SIDE) for side in part.shape[1:3])
        small.append(grey_pixels(part).reshape(-1, height, width, 1))
    return np.concatenate(small)


def linear_baseline(
    train_images: NDArray[Any],
    train_labels: NDArray[np.integer[Any]],
    test_images: NDArray[Any],
    classes_count: int,
    seed: int,
) -> NDArray[np.float64]:
    """Multinomial logistic regression on standardised grey pixels (at most 24x24).

    Trains on at most `LINEAR_TRAIN_CAP` faces, drawn with the seed. A class that is absent in
    training keeps its column, with probability 0.

    Args:
        train_images: uint8 (n, h, w, c), grey or RGB, or what `small_images` gives.
        train_labels: int (n,), positions 0..classes_count-1.
        test_images: uint8 (m, h, w, c), of the same size.
        classes_count: number of classes K.
        seed: of the sampling.

    Returns:
        float64 (m, K), rows sum to 1.

    Raises:
        InputError: no training face.
        ValueError: a label out of range, or other sizes in test than in training.
    """
    _counts(train_labels, classes_count)
    if train_images.shape[1:] != test_images.shape[1:]:
        raise ValueError(
            f"training images are {train_images.shape[1:]}, test images {test_images.shape[1:]}"
        )
    chosen = np.arange(len(train_labels))
    if len(chosen) > LINEAR_TRAIN_CAP:
        generator = np.random.default_rng(seed)
        chosen = np.sort(generator.choice(chosen, LINEAR_TRAIN_CAP, replace=False))
    labels = np.asarray(train_labels)[chosen]
    present = np.unique(labels)
    probabilities = np.zeros((len(test_images), classes_count), np.float64)
    if len(present) == 1 or len(test_images) == 0:
        probabilities[:, present[0]] = 1
        return probabilities
    train, test = grey_pixels(train_images[chosen]), grey_pixels(test_images)
    probabilities[:, present] = _logistic(train, labels, test)
    return probabilities


def _logistic(
    train: NDArray[np.float32], labels: NDArray[np.integer[Any]], test: NDArray[np.float32]
) -> NDArray[np.float64]:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=_LINEAR_C, max_iter=_LINEAR_ITERATIONS)
    )
    with warnings.catch_warnings():
        # The bound on iterations is what bounds the time; the last iterate is good enough.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, labels)
    shares: NDArray[np.float64] = model.predict_proba(test).astype(np.float64)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares
