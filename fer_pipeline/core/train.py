"""Training: a network fitted to examples within a number of epochs or minutes.

Backend-agnostic Keras 3; what only TensorFlow offers is asked for behind its name. Which crops
are used is decided in `examples.py`, their order in `batches.py`, the learning rate in
`schedule.py`, a step in `learner.py`; how a trained network is made ready for use in
`serving.py`; files and tracking are the caller's. Run as a program it trains a bundle, see
`elsewhere.py`.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.batches import Batch, crop_batches, training_prior
from fer_pipeline.core.calibration import with_prior
from fer_pipeline.core.checkpoint import Checkpoint, Progress
from fer_pipeline.core.compiling import jit
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.examples import Examples, with_labels
from fer_pipeline.core.learner import Learner
from fer_pipeline.core.metrics import confusion_matrix, confusion_scores, macro_f1_of_labels
from fer_pipeline.core.network import build_network, shift_logits
from fer_pipeline.core.presets import Preset
from fer_pipeline.core.schedule import Clock
from fer_pipeline.core.transfer import Source, Transferred, take_weights

Stopped = Literal["schedule", "early", "time"]

_log = logging.getLogger(__name__)

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
    training_prior: tuple[float, ...]
    """K class shares that training effectively saw."""
    prior: tuple[float, ...]
    """K class shares that the probabilities are to assume: those of the labels, drawn and weighted
    as in training, or with `prior_correction` those of dev."""
    transferred: Transferred | None
    """What was taken from the model that training started from."""


def prepare_process(seed: int, threads: int | None = None) -> None:
    """Set up this process for training, before TensorFlow makes its first tensor where it can be.

    Seeds Python, NumPy and the backend, sets `threads` (None leaves the backend's choice, all
    cores) and makes TensorFlow's operations deterministic, so that the same seed, data and
    number of threads give the same weights on one machine. On Linux with glibc the allocator
    keeps its memory: TensorFlow frees and takes back its large buffers at every step, and half
    of the time went into page faults without this.

    It may be called again. TensorFlow keeps the number of threads that it started with: where
    that is another one, a warning says so and the process goes on. What it computes is then not
    equal, bit for bit, to what a process with `threads` threads gives.
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
        if threads is not None:
            try:
                tf.config.threading.set_intra_op_parallelism_threads(threads)
                tf.config.threading.set_inter_op_parallelism_threads(threads)
            except RuntimeError:
                now = tf.config.threading.get_intra_op_parallelism_threads()
                _log.warning(
                    "TensorFlow started with %s in this process and stays with that: figures can "
                    "differ in their last digits from those with the %d thread(s) asked for.",
                    f"{now} thread(s)" if now else "all cores",
                    threads,
                )


def train(
    training: Examples,
    dev: Examples,
    classes: Sequence[str],
    preset: Preset,
    *,
    seed: int,
    minutes: float | None = None,
    init: Source | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainingResult:
    """Train a new network on `training`, choosing the epoch by macro-F1 on `dev`.

    The learning rate has a linear warm-up and a cosine to zero. With `init` the network starts
    from the weights of that model that fit. Evaluated and kept are the weights, or their moving
    average where the recipe asks for one, with the probabilities corrected to the class shares
    of `dev` where it asks for that. Without `minutes` the length is `preset.epochs_for` the
    data, and the same seed gives the same weights after `prepare_process`. With `minutes` the
    whole call, dev evaluations and graph tracing included, keeps to that time and the cosine
    reaches zero when it is up; how many steps fit, and so the weights, then depend on the
    machine.

    With a `checkpoint` the state after an epoch is saved when one is due, and after the last one.
    Training goes on from what was saved before, to the weights that one process would have come
    to; `on_epoch` is told of the epochs that this process trained.

    Raises InputError when the crops do not have the preset's shape, `classes` do not match the
    targets, `init` fits nowhere, or a class whose share is to be corrected has no example;
    FloatingPointError when the loss is no longer finite.
    """
    clock = Clock(preset, len(training), minutes)
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
    seen = training_prior(training, recipe)
    prior = (
        _dev_prior(seen, dev, classes)
        if recipe.prior_correction
        else training_prior(with_labels(training), recipe)
    )
    model = build_network(preset, len(classes), seed)
    transferred = None if init is None else take_weights(model, init, classes)
    learner = Learner(model, preset)
    batches = crop_batches(
        training,
        recipe.batch_size,
        seed=seed,
        shuffle=True,
        augmentation=recipe.augmentation,
        label_smoothing=recipe.label_smoothing,
        class_weighting=recipe.class_weighting,
        sampling=recipe.sampling,
        mixup_alpha=recipe.mixup,
    )
    dev_batches = crop_batches(dev, _DEV_BATCH)
    clock.reserve(_seconds_to_predict(learner.network, dev_batches))

    history: list[EpochResult] = []
    stopped: Stopped | None = None
    saved = None if checkpoint is None else checkpoint.load()
    if saved is not None:
        arrays, progress = saved
        learner.restore(arrays)
        history = [EpochResult(**row) for row in progress.history]
        stopped = cast("Stopped | None", progress.stopped)
        clock.resume(progress.step, progress.elapsed)
        batches.start_epoch(len(history))
    while stopped is None:
        epoch = len(history) + 1
        began = time.monotonic()
        count, loss, rate = 0, 0.0, 0.0
        for batch in _prefetched(batches):
            rate = clock.learning_rate()
            size = len(batch[0])
            loss += learner.step(batch, rate) * size
            count += size
            clock.step += 1
            if clock.is_up():
                break
        if not math.isfinite(loss):
            raise _diverged(f"the loss of epoch {epoch} is {loss}", checkpoint)
        trained = time.monotonic()
        with learner.evaluated() as network:
            probabilities = _probabilities(network, dev_batches)
        if recipe.prior_correction:
            probabilities = with_prior(probabilities, seen, prior).astype(np.float32)
        accuracy, macro_f1 = _scores(dev, probabilities)
        dev_loss = _cross_entropy(dev, probabilities)
        if not math.isfinite(dev_loss):
            raise _diverged(f"after epoch {epoch} the loss on dev is {dev_loss}", checkpoint)
        if not history or macro_f1 > max(earlier.dev_macro_f1 for earlier in history):
            learner.keep()
        batches.on_epoch_end()
        now = time.monotonic()
        clock.reserve(now - trained)
        result = EpochResult(
            epoch=epoch,
            seconds=now - began,
            loss=loss / count,
            dev_loss=dev_loss,
            dev_accuracy=accuracy,
            dev_macro_f1=macro_f1,
            learning_rate=rate,
            images_per_second=count / (trained - began),
            seconds_left=clock.seconds_left(),
        )
        history.append(result)
        if clock.is_up():
            stopped = "time"
        elif epoch == clock.epochs:
            stopped = "schedule"
        elif epoch - _best_epoch(history) >= recipe.patience:
            stopped = "early"
        if stopped is not None:
            history[-1] = result = replace(result, seconds_left=0.0)
        if checkpoint is not None and (stopped is not None or checkpoint.is_due()):
            rows = [asdict(each) for each in history]
            checkpoint.save(learner.state(), Progress(rows, stopped, clock.step, clock.elapsed()))
            # Saving takes its time after the last epoch too.
            clock.reserve(time.monotonic() - trained)
        if on_epoch is not None:
            on_epoch(result)
    best = learner.best()
    if recipe.prior_correction:
        shift_logits(best, np.log(prior) - np.log(seen))
    return TrainingResult(best, history, _best_epoch(history), stopped, seen, prior, transferred)


def _diverged(what: str, checkpoint: Checkpoint | None) -> FloatingPointError:
    """The error; what was saved before is forgotten, since it leads there again."""
    if checkpoint is not None:
        checkpoint.forget()
    return FloatingPointError(
        f"training diverged: {what}; a smaller learning rate or a longer warm-up may help "
        "(--set learning_rate=..., --set warmup=...)"
    )


def _best_epoch(history: Sequence[EpochResult]) -> int:
    """The epoch with the highest dev macro-F1, the first one of equals."""
    return max(history, key=lambda each: each.dev_macro_f1).epoch


def predict(model: Any, examples: Examples, batch_size: int = _DEV_BATCH) -> NDArray[np.float32]:
    """Probabilities, float32 (n, K), of `examples` in their order; crops are read in parts."""
    return _probabilities(model, crop_batches(examples, batch_size))


def predict_crops(
    model: Any, crops: NDArray[np.uint8], batch_size: int = _DEV_BATCH
) -> NDArray[np.float32]:
    """Probabilities, float32 (n, K), of crops uint8 (n, h, w, c) held in memory, in their order."""
    model.jit_compile = jit()
    parts = []
    for start in range(0, len(crops), batch_size):
        part = crops[start : start + batch_size]
        # Batches of one size keep the backend from tracing anew for the last one.
        padded = np.zeros((batch_size, *crops.shape[1:]), np.uint8)
        padded[: len(part)] = part
        parts.append(np.asarray(model.predict_on_batch(padded), np.float32)[: len(part)])
    return np.concatenate(parts)


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
    # An uncompiled model would be compiled by XLA; see compiling.py.
    model.jit_compile = jit()
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
    """Accuracy and macro-F1 over the classes that occur."""
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(examples.expression, predicted, probabilities.shape[1])
    return float(confusion_scores(confusion)[0]), float(macro_f1_of_labels(confusion))


def _cross_entropy(examples: Examples, probabilities: NDArray[np.float32]) -> float:
    logs = np.log(np.maximum(probabilities, 1e-7))
    return float(-(examples.target * logs).sum(axis=1).mean())


def _dev_prior(seen: Sequence[float], dev: Examples, classes: Sequence[str]) -> tuple[float, ...]:
    """The class shares of `dev`; raises InputError where a class is missing on either side."""
    shares = with_labels(dev).target.mean(axis=0, dtype=np.float64)
    for where, found in (("training", seen), ("dev", shares)):
        empty = [name for name, share in zip(classes, found, strict=True) if not share > 0]
        if empty:
            raise InputError(
                f"The {where} split holds no face of {', '.join(empty)}, so class shares can't be "
                "corrected: turn prior_correction off."
            )
    return tuple(float(share) for share in shares)


if __name__ == "__main__":
    from fer_pipeline.core.elsewhere import main

    main()
