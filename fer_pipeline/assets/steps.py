"""What every step does around its work: fail in one clear sentence, and never outlive its run.

And the factory of the assets that each stream has.
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait

import dagster as dg

from fer_pipeline import lease
from fer_pipeline.core.disk import disk_problem
from fer_pipeline.core.errors import BusyError, InputError
from fer_pipeline.core.storage import storage_problem
from fer_pipeline.failures import UNEXPECTED
from fer_pipeline.settings import DEFAULT_HOME, Settings
from fer_pipeline.tracking_server import server_problem
from fer_pipeline.versions import code_version
from fer_pipeline.waiting import Place, wait_for_command

WRONG_INPUT = "wrong_input"
"""Metadata key of a failure whose cause is the user's input."""

ONCE_MORE = dg.RetryPolicy(max_retries=1)
"""Of long steps, for a process that was killed: within `step` nothing else is tried again."""


@contextmanager
def step() -> Iterator[None]:
    """Run the body of an asset; what it raises becomes a failure that is not tried again."""
    _end_with_parent()
    lease.follow()
    _wait_for_command()
    try:
        yield
    except InputError as error:
        raise dg.Failure(str(error), metadata={WRONG_INPUT: True}, allow_retries=False) from error
    except (BusyError, FloatingPointError) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except Exception as error:
        problem = storage_problem(error) or server_problem(error)
        if problem is not None:
            raise dg.Failure(problem, metadata={WRONG_INPUT: True}, allow_retries=False) from error
        problem = disk_problem(error, os.environ.get("FER_HOME", DEFAULT_HOME))
        if problem is not None:
            raise dg.Failure(problem, allow_retries=False) from error
        # Its traceback is the cause, which the run's page and log show.
        raise dg.Failure(
            f"{type(error).__name__}: {error}", metadata={UNEXPECTED: True}, allow_retries=False
        ) from error


def _wait_for_command() -> None:
    try:
        context = dg.OpExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        # The body is called by hand.
        return
    taken = context.get_step_execution_context().step
    place = None
    if taken.pool is not None:
        place = Place(context.instance, taken.pool, context.run, taken.key)
    wait_for_command(context.resources.settings, context.run, place, context.log.info)


def stream_asset(
    body: Callable[[dg.AssetExecutionContext, Settings, str], dg.MaterializeResult[None]],
    settings: Settings,
    stream: str,
    name: str,
    *,
    kinds: set[str],
    deps: Sequence[str],
    description: str,
    pool: str | None = None,
    tags: Mapping[str, str] | None = None,
    retry_policy: dg.RetryPolicy | None = None,
) -> dg.AssetsDefinition:
    """The asset `stream/name`, made by `body` of context, settings of the run and stream.

    `deps` are the keys of its upstream assets as text.
    """

    @dg.asset(
        name=name,
        key_prefix=stream,
        group_name=stream,
        kinds=kinds,
        deps=[dg.AssetKey.from_user_string(key) for key in deps],
        pool=pool,
        tags=tags,
        retry_policy=retry_policy,
        code_version=code_version(name, settings, stream),
        description=description,
    )
    def made(
        context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
    ) -> dg.MaterializeResult[None]:
        with step():
            return body(context, settings, stream)

    return made


def tell_progress(context: dg.AssetExecutionContext, what: str) -> Callable[[int, int], None]:
    """A function that is told the number done and the number to do, and logs it now and then."""
    every_so_often = EverySoOften()

    def tell(done: int, total: int) -> None:
        if every_so_often():
            context.log.info(f"{done:,} of {total:,} {what}")

    return tell


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
