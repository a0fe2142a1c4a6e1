"""Random changes to training crops: geometry, light, erased parts, blends of two.

Pure functions of arrays and a random generator. Which crops are in a batch is decided in
`batches.py`, how strong the changes are in `presets.py`.
"""

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.presets import Augmentation


def augment(
    images: NDArray[np.uint8], augmentation: Augmentation, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Random flip, rotation, shift, zoom, brightness, contrast and erasing of each image.

    uint8 (n, h, w, c) to float32 (n, h, w, c) in 0..255; the border is reflected. One affine
    warp an image, so that it is resampled once. Erasing paints a rectangle of 2 to 20% of the
    image, its sides 0.3 to 3.3 to one, with one random value (Zhong et al., Random Erasing Data
    Augmentation, 2017).
    """
    import cv2

    count, height, width, channels = images.shape
    angle = np.deg2rad(rng.uniform(-1, 1, count) * augmentation.rotation)
    zoom = 1 + rng.uniform(-1, 1, count) * augmentation.scale
    shift = rng.uniform(-1, 1, (count, 2)) * augmentation.shift * (width, height)
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0) if augmentation.flip else np.ones(count)
    gain = 1 + rng.uniform(-1, 1, (count, 1, 1, 1)) * augmentation.contrast
    bias = rng.uniform(-1, 1, (count, 1, 1, 1)) * augmentation.brightness * 255

    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    linear = np.stack([cosine * mirror, -sine, sine * mirror, cosine], axis=1).reshape(-1, 2, 2)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    matrices = np.concatenate([linear, (centre + shift - linear @ centre)[:, :, None]], axis=2)

    warped = np.empty((count, height, width, channels), np.float32)
    for index in range(count):
        warped[index] = cv2.warpAffine(
            images[index],
            matrices[index],
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        ).reshape(height, width, channels)
    # In place: this thread shares its cores with the training step.
    warped -= 127.5
    warped *= gain.astype(np.float32)
    warped += (bias + 127.5).astype(np.float32)
    np.clip(warped, 0, 255, out=warped)
    if augmentation.erasing:
        _erase(warped, augmentation.erasing, rng)
    return warped


def mixup(
    images: NDArray[np.float32],
    target: NDArray[np.float32],
    weight: NDArray[np.float32],
    alpha: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Each image (n, h, w, c), target (n, K) and weight (n,) blended with those of another one.

    The share of the other is drawn from Beta(alpha, alpha) for each image and is at most a half,
    so that each keeps its own place (Zhang et al., mixup: Beyond Empirical Risk Minimization,
    2018). The loss of a blend is the blend of the two weighted losses: in its target a class
    counts by the weight of its image, so that blends leave the weight of each class as it was.
    Weights have to be above 0.
    """
    count = len(images)
    share = rng.beta(alpha, alpha, count).astype(np.float32)
    share = np.minimum(share, 1 - share)
    other = rng.permutation(count)
    across = share[:, None, None, None]
    own, others = weight * (1 - share), weight[other] * share
    blended = own + others
    both = target * own[:, None] + target[other] * others[:, None]
    return (
        images * (1 - across) + images[other] * across,
        np.asarray(both / blended[:, None], np.float32),
        blended,
    )


def _erase(images: NDArray[np.float32], share: float, rng: np.random.Generator) -> None:
    count, height, width, channels = images.shape
    chosen = np.flatnonzero(rng.random(count) < share)
    area = rng.uniform(0.02, 0.2, len(chosen)) * height * width
    shape = np.exp(rng.uniform(-np.log(3.3), np.log(3.3), len(chosen)))
    tall = np.clip(np.sqrt(area * shape).round().astype(int), 1, height)
    wide = np.clip(np.sqrt(area / shape).round().astype(int), 1, width)
    top = (rng.random(len(chosen)) * (height - tall + 1)).astype(int)
    left = (rng.random(len(chosen)) * (width - wide + 1)).astype(int)
    value = rng.uniform(0, 255, (len(chosen), channels))
    for at, index in enumerate(chosen):
        images[index, top[at] : top[at] + tall[at], left[at] : left[at] + wide[at]] = value[at]
