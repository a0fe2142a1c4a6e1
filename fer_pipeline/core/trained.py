"""A whole training, wherever it runs: the network fitted, made ready for use, its card filled in.

The steps themselves are in `train.py` and `serving.py`.
"""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from fer_pipeline.core.bundle import Task
from fer_pipeline.core.checkpoint import Checkpoint
from fer_pipeline.core.compiling import full_precision
from fer_pipeline.core.examples import Examples
from fer_pipeline.core.model_file import ModelCard
from fer_pipeline.core.serving import Served, make_ready
from fer_pipeline.core.train import EpochResult, train
from fer_pipeline.core.transfer import Source


@dataclass(frozen=True)
class TrainingRecord:
    """How a training went, in values that JSON keeps."""

    history: list[EpochResult]
    best_epoch: int
    stopped: str
    """What ended training, see `train.Stopped`."""
    started_from: str | None
    """What was taken from the model that training started from, in words."""
    seconds: float
    environment: Mapping[str, str]
    """See `environment`."""

    def record(self) -> dict[str, Any]:
        """These values by name, to hand them on."""
        return {field.name: getattr(self, field.name) for field in fields(TrainingRecord)}


@dataclass(frozen=True)
class Trained(TrainingRecord):
    """A model that is ready for use, and how it came about."""

    served: Served
    card: ModelCard


def train_task(
    task: Task,
    training: Examples,
    dev: Examples,
    *,
    init: Source | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train the task's network on `training` and make it ready for use on `dev`.

    Call `train.prepare_process` before. Arguments and errors are those of `train.train`.
    """
    started = time.monotonic()
    result = train(
        training,
        dev,
        task.card.classes,
        task.preset,
        seed=task.seed,
        minutes=task.minutes,
        init=init,
        on_epoch=on_epoch,
        checkpoint=checkpoint,
    )
    flip = task.preset.recipe.flip_at_test
    full_precision()
    served = make_ready(result.model, dev, flip, result.prior)
    card = replace(
        task.card,
        temperature=served.temperature,
        flip=flip,
        training_prior=result.training_prior,
        prior=result.prior,
        unfitted=served.unfitted,
    )
    # Earlier processes of a training that was taken up again count too.
    trained = sum(epoch.seconds for epoch in result.history)
    return Trained(
        served=served,
        card=card,
        history=result.history,
        best_epoch=result.best_epoch,
        stopped=result.stopped,
        started_from=None if result.transferred is None else str(result.transferred),
        seconds=max(trained, time.monotonic() - started),
        environment=environment(),
    )


def environment() -> dict[str, str]:
    """What this process trains with: backend, Keras, kind of device and of processor."""
    import keras

    return {
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "device": _device(keras.backend.backend()),
        "machine": platform.machine(),
    }


def _device(backend: str) -> str:
    """The name of the first GPU (or other accelerator) that the backend uses, or CPU."""
    found: Any = None
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            details = tf.config.experimental.get_device_details(gpus[0])
            found = details.get("device_name", "GPU")
    elif backend == "jax":
        import jax

        first = jax.devices()[0]
        found = None if first.platform == "cpu" else first.device_kind
    elif backend == "torch":
        import torch

        found = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return "CPU" if found is None else str(found)
