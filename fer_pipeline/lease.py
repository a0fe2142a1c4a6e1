"""A sign of life of a run, for steps on other machines: without it they end themselves.

A step that is a child process sees its run end; one on another machine sees only the Dagster
instance they share, where the run renews a counter every few seconds.
"""

import base64
import os
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from itertools import count

from dagster import DagsterInstance
from dagster._grpc.types import ExecuteStepArgs
from dagster_shared.serdes import deserialize_value

PATIENCE = 45.0
"""Seconds without a sign of life after which a step takes its run for dead."""
_RENEWAL = 5.0
LAST_SECONDS = PATIENCE + 2 * _RENEWAL
"""Seconds after the end of a run in which its steps have noticed and ended themselves."""
_STEP = "DAGSTER_COMPRESSED_EXECUTE_STEP_ARGS"


def keep(instance: DagsterInstance, run_id: str) -> None:
    """Renew the run's sign of life for as long as this process lives."""

    def renew() -> None:
        from sqlalchemy.exc import SQLAlchemyError

        for number in count():
            # A database that is locked now may not be the next time.
            with suppress(SQLAlchemyError):
                instance.daemon_cursor_storage.set_cursor_values({_key(run_id): str(number)})
            time.sleep(_RENEWAL)

    _start(renew, run_id)


def follow() -> None:
    """End this process once its run has given no sign of life for `PATIENCE` seconds.

    Does nothing in a process that isn't a step started through a command line.
    """
    arguments = os.environ.get(_STEP)
    if arguments is None:
        return
    step = deserialize_value(zlib.decompress(base64.b64decode(arguments)).decode(), ExecuteStepArgs)

    reference = step.instance_ref
    if reference is None:
        return

    def watch() -> None:
        from sqlalchemy.exc import SQLAlchemyError

        key, seen, since = _key(step.run_id), None, time.monotonic()
        with DagsterInstance.from_ref(reference) as instance:
            while time.monotonic() - since < PATIENCE:
                try:
                    now = instance.daemon_cursor_storage.get_cursor_values({key}).get(key)
                except SQLAlchemyError:
                    now = seen
                if now != seen:
                    seen, since = now, time.monotonic()
                time.sleep(_RENEWAL)
        os._exit(1)

    _start(watch, step.run_id)


def _key(run_id: str) -> str:
    return f"fer/alive/{run_id}"


def _start(work: Callable[[], None], run_id: str) -> None:
    name = _key(run_id)
    if all(thread.name != name for thread in threading.enumerate()):
        threading.Thread(target=work, name=name, daemon=True).start()
