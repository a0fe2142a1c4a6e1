"""Training: a network fitted to examples within a number of epochs or minutes.

Backend-agnostic Keras 3; what only TensorFlow offers is asked for behind its name. Which crops
are used is decided in `examples.py`, their order in `batches.py`; scores for reports are in
`metrics.py`; files and tracking are the caller's.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.batches import Batch, crop_batches
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.examples import Examples
from fer_pipeline.core.metrics import confusion_matrix, confusion_scores
from fer_pipeline.core.network import build_network, training_twin
from fer_pipeline.core.presets import Preset

Stopped = Literal["schedule", "early", "time"]

_DEV_BATCH = 256
_PREFETCH = 3
"""Training batches made ahead of the step by the one worker thread."""


@dataclass(frozen=True)
class EpochResult:
    """One epoch. The last one of a run with a time limit may be cut short."""

    epoch: int
    """From 1."""
    seconds: float
    loss: float
    """Mean training loss: weighted, with label smoothing, over augmented crops."""
    dev_loss: float
    """Mean cross-entropy against the dev targets, unweighted and unsmoothed."""
    dev_accuracy: float
    dev_macro_f1: float
    learning_rate: float
    """Of the last step."""
    images_per_second: float
    """Training crops a second, the dev evaluation apart."""
    seconds_left: float
    """Estimated; 0 when this was the last epoch."""


@dataclass(frozen=True)
class TrainingResult:
    """The trained model and how it came about."""

    model: Any
    """`keras.Model` of standard layers with the weights of `best_epoch`."""
    history: list[EpochResult]
    best_epoch: int
    """The epoch with the highest dev macro-F1, the first one of equals."""
    stopped: Stopped
    """What ended training: the schedule, no better dev macro-F1, or the time limit."""


def prepare_process(seed: int, threads: int | None = None) -> None:
    """Set up this process for training; call it once, before TensorFlow makes its first tensor.

    Seeds Python, NumPy and the backend, sets `threads` (None leaves the backend's choice, all
    cores) and makes TensorFlow's operations deterministic, so that the same seed, data and
    number of threads give the same weights on one machine. On Linux with glibc the allocator
    keeps its memory: TensorFlow frees and takes back its large buffers at every step, and half
    of the time went into page faults without this.

    Raises RuntimeError when TensorFlow has already started with another number of threads.
    """
    _keep_freed_memory()
    import cv2
    import keras

    # Warping small crops gains nothing from threads and takes the step's cores.
    cv2.setNumThreads(1)
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
        if (
            threads is not None
            and threads != tf.config.threading.get_intra_op_parallelism_threads()
        ):
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)


def train(
    training: Examples,
    dev: Examples,
    classes: Sequence[str],
    preset: Preset,
    *,
    seed: int,
    minutes: float | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
) -> TrainingResult:
    """Train a new network on `training`, choosing the epoch by macro-F1 on `dev`.

    AdamW (Loshchilov and Hutter, 2019) with a linear warm-up and a cosine to zero. Without
    `minutes` the length is `preset.epochs_for` the data, and the same seed gives the same
    weights after `prepare_process`. With `minutes` the whole call, dev evaluations and graph
    tracing included, keeps to that time and the cosine reaches zero when it is up; how many
    steps fit, and so the weights, then depend on the machine.

    Raises InputError when the crops do not have the preset's shape or `classes` do not match
    the targets, FloatingPointError when the loss is no longer finite.
    """
    clock = _Clock(preset, len(training), minutes)
    for examples in (training, dev):
        if examples.image_shape != preset.image_shape:
            raise InputError(
                f"Crops of {examples.image_shape} do not fit preset {preset.name} "
                f"({preset.image_shape}): make the crops with that preset."
            )
        if examples.target.shape[1] != len(classes):
            raise InputError(
                f"Targets of {examples.target.shape[1]} classes do not fit the stream's "
                f"{len(classes)}: select the examples with the same classes."
            )
    recipe = preset.recipe
    model = build_network(preset, len(classes), seed)
    twin = training_twin(model)
    optimizer = _compile(twin, preset)
    batches = crop_batches(
        training,
        recipe.batch_size,
        seed=seed,
        shuffle=True,
        augmentation=recipe.augmentation,
        label_smoothing=recipe.label_smoothing,
        class_weighting=recipe.class_weighting,
    )
    dev_batches = crop_batches(dev, _DEV_BATCH)
    clock.reserve(_seconds_to_predict(twin, dev_batches))

    history: list[EpochResult] = []
    best_epoch, best_f1, best_weights = 0, -math.inf, model.get_weights()
    stopped: Stopped = "schedule"
    for epoch in range(1, clock.epochs + 1):
        began = time.monotonic()
        seen, loss, rate = 0, 0.0, 0.0
        for images, target, weight in _prefetched(batches):
            rate = clock.learning_rate()
            optimizer.learning_rate = rate
            logs = twin.train_on_batch(images, target, sample_weight=weight, return_dict=True)
            loss += float(logs["loss"]) * len(images)
            seen += len(images)
            clock.step += 1
            if clock.is_up():
                break
        if not math.isfinite(loss):
            raise FloatingPointError(f"Training diverged: the loss of epoch {epoch} is {loss}.")
        trained = time.monotonic()
        probabilities = _probabilities(twin, dev_batches)
        accuracy, macro_f1 = _scores(dev, probabilities)
        if macro_f1 > best_f1:
            best_epoch, best_f1, best_weights = epoch, macro_f1, twin.get_weights()
        batches.on_epoch_end()
        now = time.monotonic()
        clock.reserve(now - trained)

        if clock.is_up():
            stopped = "time"
        elif epoch < clock.epochs and epoch - best_epoch >= recipe.patience:
            stopped = "early"
        done = stopped != "schedule" or epoch == clock.epochs
        result = EpochResult(
            epoch=epoch,
            seconds=now - began,
            loss=loss / seen,
            dev_loss=_cross_entropy(dev, probabilities),
            dev_accuracy=accuracy,
            dev_macro_f1=macro_f1,
            learning_rate=rate,
            images_per_second=seen / (trained - began),
            seconds_left=0.0 if done else clock.seconds_left(),
        )
        history.append(result)
        if on_epoch is not None:
            on_epoch(result)
        if done:
            break
    model.set_weights(best_weights)
    return TrainingResult(model, history, best_epoch, stopped)


def predict(model: Any, examples: Examples, batch_size: int = _DEV_BATCH) -> NDArray[np.float32]:
    """Probabilities, float32 (n, K), of `examples` in their order; crops are read in parts."""
    return _probabilities(model, crop_batches(examples, batch_size))


def predict_crops(
    model: Any, crops: NDArray[np.uint8], batch_size: int = _DEV_BATCH
) -> NDArray[np.float32]:
    """Probabilities, float32 (n, K), of crops uint8 (n, h, w, c) held in memory, in their order."""
    model.jit_compile = _jit()
    parts = []
    for start in range(0, len(crops), batch_size):
        part = crops[start : start + batch_size]
        # Batches of one size keep the backend from tracing anew for the last one.
        padded = np.zeros((batch_size, *crops.shape[1:]), np.uint8)
        padded[: len(part)] = part
        parts.append(np.asarray(model.predict_on_batch(padded), np.float32)[: len(part)])
    return np.concatenate(parts)


class _Clock:
    """How far training is, by steps and by time, whichever is further."""

    def __init__(self, preset: Preset, examples: int, minutes: float | None) -> None:
        self._started = time.monotonic()
        self._recipe = preset.recipe
        self._budget = None if minutes is None else minutes * 60
        self._reserved = 0.0
        self.epochs = preset.epochs_for(examples) if minutes is None else preset.recipe.max_epochs
        self.steps = self.epochs * preset.steps_per_epoch(examples)
        self.step = 0

    def reserve(self, seconds: float) -> None:
        """Keep this much of the budget for the last dev evaluation."""
        self._reserved = seconds

    def progress(self) -> float:
        by_steps = self.step / self.steps
        if self._budget is None:
            return by_steps
        elapsed = time.monotonic() - self._started
        return min(1.0, max(by_steps, elapsed / max(self._budget - self._reserved, 1e-9)))

    def is_up(self) -> bool:
        """Whether the time limit ends training now."""
        return self._budget is not None and self.step < self.steps and self.progress() >= 1

    def learning_rate(self) -> float:
        """Linear from near zero to the peak, then half a cosine to zero."""
        progress, warmup = self.progress(), self._recipe.warmup
        if progress < warmup:
            return self._recipe.learning_rate * max(progress / warmup, 0.01)
        falling = (progress - warmup) / (1 - warmup)
        return self._recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * falling))

    def seconds_left(self) -> float:
        elapsed = time.monotonic() - self._started
        by_steps = elapsed * (self.steps / self.step - 1)
        return by_steps if self._budget is None else min(by_steps, self._budget - elapsed)


def _keep_freed_memory() -> None:
    import ctypes
    import sys

    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "mallopt"):
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    library.mallopt(mmap_threshold, 32 * 2**20)
    library.mallopt(trim_threshold, 2**30)
    library.mallopt(top_pad, 64 * 2**20)


def _compile(model: Any, preset: Preset) -> Any:
    import keras

    recipe = preset.recipe
    optimizer = keras.optimizers.AdamW(recipe.learning_rate, weight_decay=recipe.weight_decay)
    # Decay shrinks kernels; scales, offsets and biases have no size to keep small.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(optimizer, loss="categorical_crossentropy", jit_compile=_jit())
    return optimizer


def _jit() -> bool | str:
    """Compiled by XLA the step is 3 to 7 times slower on TensorFlow and a CPU."""
    import keras

    return False if keras.backend.backend() == "tensorflow" else "auto"


def _prefetched(batches: Any) -> Iterator[Batch]:
    """The batches in order, made ahead by one thread."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as worker:
        waiting = [
            worker.submit(batches.__getitem__, i) for i in range(min(_PREFETCH, len(batches)))
        ]
        try:
            for number in range(len(batches)):
                batch = waiting.pop(0).result()
                if number + _PREFETCH < len(batches):
                    waiting.append(worker.submit(batches.__getitem__, number + _PREFETCH))
                yield batch
        finally:
            worker.shutdown(cancel_futures=True)


def _probabilities(model: Any, batches: Any) -> NDArray[np.float32]:
    # An uncompiled model would be compiled by XLA; see _jit.
    model.jit_compile = _jit()
    parts = [model.predict_on_batch(images) for images, _, _ in _prefetched(batches)]
    return np.concatenate(parts).astype(np.float32)


def _seconds_to_predict(model: Any, batches: Any) -> float:
    """Estimated from one batch, after a first one that traces the graph."""
    images, _, _ = batches[0]
    model.predict_on_batch(images)
    began = time.monotonic()
    model.predict_on_batch(images)
    return (time.monotonic() - began) * len(batches)


def _scores(examples: Examples, probabilities: NDArray[np.float32]) -> tuple[float, float]:
    """Accuracy and macro-F1."""
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(examples.expression, predicted, probabilities.shape[1])
    accuracy, _, macro_f1 = confusion_scores(confusion)
    return float(accuracy), float(macro_f1)


def _cross_entropy(examples: Examples, probabilities: NDArray[np.float32]) -> float:
    logs = np.log(np.maximum(probabilities, 1e-7))
    return float(-(examples.target * logs).sum(axis=1).mean())
