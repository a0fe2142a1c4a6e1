"""Where MLflow is asked and as whom, what is said where it is out of reach, how long it is waited
for.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fer_pipeline.core.storage import causes
from fer_pipeline.settings import Settings

_LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_LONGEST = 200
_REFUSALS = frozenset(
    (
        *("RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"),
        *("INVALID_PARAMETER_VALUE", "INVALID_STATE"),
    )
)
"""Codes of what MLflow answers where it is well and what it is asked for isn't there."""


def without_login(address: str) -> tuple[str, tuple[str, str] | None]:
    """A web address without the name and password in it, and these, if there are any.

    MLflow's client repeats the address in errors, on the terminal and in what it logs. An address
    of another kind stays as it is.
    """
    parts = urlsplit(address)
    login, mark, host = parts.netloc.rpartition("@")
    if parts.scheme not in ("http", "https") or not mark:
        return address, None
    user, _, password = login.partition(":")
    return parts._replace(netloc=host).geturl(), (unquote(user), unquote(password))


def log_in(address: str) -> None:
    """Give MLflow's client the name and password of a web address, where it has them."""
    _, login = without_login(address)
    # Of one without its password that of the environment counts.
    for name, value in zip(_LOGIN, login or ("", ""), strict=True):
        if value:
            os.environ[name] = value


def tracking_uri(settings: Settings) -> str:
    """The MLflow server, without a name and password, or the SQLite database in the home folder."""
    if settings.mlflow_tracking_uri:
        return without_login(settings.mlflow_tracking_uri)[0]
    return f"sqlite:///{database_file(settings)}"


def shown_tracking_uri(settings: Settings) -> str:
    """That address as it may be told: without the password of a database."""
    return re.sub(r"//[^/]*@", "//", tracking_uri(settings))


def database_file(settings: Settings) -> Path:
    """MLflow's database in the home folder."""
    return settings.mlflow_folder / "mlflow.db"


def server_problem(error: BaseException) -> str | None:
    """One sentence for what MLflow's client raised; None for any other error."""
    known = [one for one in causes(error) if type(one).__module__.partition(".")[0] == "mlflow"]
    if not known:
        return None
    said = " ".join(str(known[0]).split())[:_LONGEST]
    if _refuses(known[0]) and not out_of_reach(error):
        return (
            f"MLflow refuses ({said}): see in its pages whether a run, model or experiment was "
            "deleted or changed there, and restore it"
        )
    return (
        f"MLflow can't be used ({said}): see that its server runs and that "
        "FER_MLFLOW_TRACKING_URI is right, then run again, which goes on from what is there"
    )


def _refuses(error: BaseException) -> bool:
    from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException as WrongAddress

    # A wrong address has the code of a wrong question.
    return getattr(error, "error_code", None) in _REFUSALS and not isinstance(error, WrongAddress)


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
