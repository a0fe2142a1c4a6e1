"""What every step does around its work: fail in one clear sentence, and never outlive its run."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait

import dagster as dg

from fer_pipeline import lease
from fer_pipeline.core.disk import disk_problem
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.storage import storage_problem
from fer_pipeline.settings import DEFAULT_HOME

WRONG_INPUT = "wrong_input"
"""Metadata key of a failure whose cause is the user's input."""


@contextmanager
def step() -> Iterator[None]:
    """Run the body of an asset; wrong input becomes a failure that is not tried again."""
    _end_with_parent()
    lease.follow()
    try:
        yield
    except InputError as error:
        raise dg.Failure(str(error), metadata={WRONG_INPUT: True}, allow_retries=False) from error
    except Exception as error:
        problem = storage_problem(error)
        if problem is not None:
            raise dg.Failure(problem, metadata={WRONG_INPUT: True}, allow_retries=False) from error
        problem = disk_problem(error, os.environ.get("FER_HOME", DEFAULT_HOME))
        if problem is None:
            raise
        raise dg.Failure(problem, allow_retries=False) from error


class EverySoOften:
    """True when called five seconds or more after it was last true: keeps progress readable."""

    def __init__(self) -> None:
        """Start the clock."""
        self._last = time.monotonic()

    def __call__(self) -> bool:
        """Whether it is time to tell again."""
        now = time.monotonic()
        if now - self._last < _TELL_SECONDS:
            return False
        self._last = now
        return True


def _end_with_parent() -> None:
    """End this step when the run that started it is gone.

    A run killed by SIGKILL can't stop its steps; left alone, they would train on beside the
    next run.
    """
    parent = multiprocessing.parent_process()
    if parent is None or any(thread.name == _WATCH for thread in threading.enumerate()):
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name=_WATCH, daemon=True).start()


_WATCH = "end-with-parent"
_TELL_SECONDS = 5.0
