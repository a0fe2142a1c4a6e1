"""MLflow out of reach: what is said of it, and how long it is waited for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from fer_pipeline.core.storage import causes

_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_LONGEST = 200


def server_problem(error: BaseException) -> str | None:
    """One sentence for what MLflow's client raised; None for any other error."""
    known = [one for one in causes(error) if type(one).__module__.partition(".")[0] == "mlflow"]
    if not known:
        return None
    said = " ".join(str(known[0]).split())[:_LONGEST]
    return (
        f"MLflow can't be used ({said}): see that its server runs and that "
        "FER_MLFLOW_TRACKING_URI is right, then run again, which goes on from what is there"
    )


def out_of_reach(error: BaseException) -> bool:
    """Whether MLflow's server didn't answer, rather than answer that there is no such thing."""
    return any(str(one).startswith("API request to ") for one in causes(error))


@contextmanager
def asked_by_a_person() -> Iterator[None]:
    """Give a server that is gone up after seconds, where somebody waits for the answer.

    By default MLflow asks for minutes, which spares a long training a restart of the server.
    """
    if _RETRIES in os.environ:
        yield
        return
    os.environ[_RETRIES] = "2"
    try:
        yield
    finally:
        del os.environ[_RETRIES]
