"""The schedule of a training: how long it lasts and the learning rate at each step.

What a step does is in `learner.py`.
"""

import math
import time

from fer_pipeline.core.presets import Preset


class Clock:
    """How far training is, by steps and by time, whichever is further."""

    def __init__(self, preset: Preset, examples: int, minutes: float | None) -> None:
        """Start now; `examples` are those of one epoch, `minutes` the whole time, if limited."""
        self._started = time.monotonic()
        self._recipe = preset.recipe
        self._budget = None if minutes is None else minutes * 60
        self._reserved = 0.0
        self.epochs = preset.epochs_for(examples) if minutes is None else preset.recipe.max_epochs
        self.steps = self.epochs * preset.steps_per_epoch(examples)
        self.step = 0

    def resume(self, step: int, elapsed: float) -> None:
        """Go on after `step` steps and `elapsed` seconds of an earlier process."""
        self.step = step
        self._started -= elapsed

    def elapsed(self) -> float:
        """Seconds since the start, those of earlier processes included."""
        return time.monotonic() - self._started

    def reserve(self, seconds: float) -> None:
        """Keep this much of the budget for the last dev evaluation."""
        self._reserved = seconds

    def progress(self) -> float:
        """From 0 to 1, where training ends."""
        by_steps = self.step / self.steps
        if self._budget is None:
            return by_steps
        left_of_it = max(self._budget - self._reserved, 1e-9)
        return min(1.0, max(by_steps, self.elapsed() / left_of_it))

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
        """Estimated from the steps so far."""
        elapsed = self.elapsed()
        by_steps = elapsed * (self.steps / self.step - 1)
        return by_steps if self._budget is None else min(by_steps, self._budget - elapsed)
