"""What a look at a home found: one line each, and never a secret in it."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from pydantic import SecretStr

from fer_pipeline.core.disk import disk_problem
from fer_pipeline.core.errors import BusyError, InputError
from fer_pipeline.core.storage import storage_problem
from fer_pipeline.settings import Settings
from fer_pipeline.tracking_server import server_problem

State = Literal["ok", "warning", "problem"]
_PASSWORDS = ("DAGSTER_POSTGRES_PASSWORD", "POSTGRES_PASSWORD", "PGPASSWORD")
"""Variables that hold passwords of databases."""
_LONGEST = 300


@dataclass(frozen=True)
class Finding:
    """What was found of a subject, in one sentence, and what to do where that isn't well."""

    subject: str
    state: State
    said: str
    remedy: str = ""


def ok(subject: str, said: str) -> Finding:
    """A finding that is well."""
    return Finding(subject, "ok", said)


def warning(subject: str, said: str, remedy: str) -> Finding:
    """A finding that a run may go on beside."""
    return Finding(subject, "warning", said, remedy)


def problem(subject: str, said: str, remedy: str) -> Finding:
    """A finding that a run would fail of."""
    return Finding(subject, "problem", said, remedy)


def asked(
    subject: str, look: Callable[[], Iterable[Finding]], settings: Settings | None
) -> Iterator[Finding]:
    """The findings of a look, and whatever it failed of as one more."""
    secrets = secrets_of(settings)
    try:
        for finding in look():
            yield _without(finding, secrets)
    except (InputError, BusyError) as error:
        yield _without(problem(subject, str(error), ""), secrets)
    except Exception as error:  # noqa: BLE001 - what a look fails of is what it found
        known = storage_problem(error) or server_problem(error) or disk_problem(error, "the home")
        words = " ".join(str(error).split())[:_LONGEST]
        said = known or f"it can't be looked at ({type(error).__name__}: {words})"
        remedy = "" if known else "see that it is there, whole, and may be read by this user"
        yield _without(problem(subject, said, remedy), secrets)


def secrets_of(settings: Settings | None) -> set[str]:
    """Everything that must not be printed, in the spellings in which a message may hold it."""
    found = {os.environ.get(name, "") for name in _PASSWORDS}
    values = {} if settings is None else dict(settings)
    # Settings that can't be read still come from somewhere.
    values |= {name: value for name, value in os.environ.items() if name.startswith("FER_")}
    for name, value in values.items():
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, str) and "@" in text and "://" in text:
            found.add(_password(text))
        # Of an address of a database the rest may be told.
        if isinstance(value, SecretStr) and name != "mlflow_database":
            found.add(text)
    return {
        spelling
        for secret in found
        if secret
        for spelling in (secret, unquote(secret), quote(unquote(secret), safe=""))
    }


def without_secrets(text: str, secrets: set[str]) -> str:
    """The text with every secret taken out."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _password(address: str) -> str:
    try:
        return urlsplit(address).password or ""
    except ValueError:
        return ""


def _without(finding: Finding, secrets: set[str]) -> Finding:
    return Finding(
        finding.subject,
        finding.state,
        without_secrets(finding.said, secrets),
        without_secrets(finding.remedy, secrets),
    )
