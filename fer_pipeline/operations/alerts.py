"""Alerts: the one place that tells people outside what happened, by webhook and by mail.

What is told is decided where it happens: by the sensor of failed runs, by schedules, and where a
champion changes. An alert that can't be sent is logged and stops nothing.
"""

import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from fer_pipeline.origins import is_loopback
from fer_pipeline.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

SECONDS = 10.0
"""How long a webhook or a mail server may take for each answer."""
_LONGEST = 1500
"""Characters of an alert at most."""
_SENDER = "fer-pipeline@localhost"

_log = logging.getLogger(__name__)


def alert(settings: Settings, text: str, log: Any = _log) -> int:
    """Tell everybody that the settings name; give how many were told.

    `log` is a logger, such as a step's, that hears of an alert which couldn't be sent: never the
    address, which is a secret. Raises nothing.
    """
    sent = 0
    text = " ".join(text.split())[:_LONGEST]
    if settings.alert_url is not None:
        sent += _tried("the webhook", log, _post, settings.alert_url.get_secret_value(), text)
    if settings.alert_mail is not None:
        sent += _tried("the mail server", log, _mail, settings.alert_mail.get_secret_value(), text)
    return sent


def run_failed_text(settings: Settings, run: "dg.DagsterRun", sentence: str) -> str:
    """What is told of a run that failed: its id, job, schedule, the first sentence, a link."""
    by = run.tags.get("dagster/schedule_name") or run.tags.get("dagster/sensor_name")
    started = f", started by {by}" if by else ""
    link = "" if settings.dagster_ui_url is None else f" {run_link(settings, run.run_id)}"
    return f"fer_pipeline: run {run.run_id} of job {run.job_name}{started} failed: {sentence}{link}"


def refused_text(schedule: str, sentence: str) -> str:
    """What is told of a schedule that started no run since something is wrong."""
    return f"fer_pipeline: {schedule} started no run: {sentence}"


def champion_text(
    settings: Settings, model: str, before: str | None, after: str | None, by: str, why: str
) -> str:
    """What is told of a registered model that another version is the champion of."""
    was = "no version was" if before is None else f"version {before} was"
    link = ""
    # The default is this machine's own, which is no link for others.
    if "mlflow_ui_url" in settings.model_fields_set:
        link = f" {settings.mlflow_ui_url.rstrip('/')}/#/models/{model}"
    return f"fer_pipeline: version {after} of {model} is the champion, {was}, by {by}: {why}{link}"


def run_link(settings: Settings, run_id: str) -> str:
    """Where people see a Dagster run."""
    return f"{str(settings.dagster_ui_url).rstrip('/')}/runs/{run_id}"


def _tried(who: str, log: Any, send: Any, address: str, text: str) -> int:
    # Wherever the graph is loaded this module is; that needn't cost what few alerts need.
    from http.client import HTTPException

    try:
        send(address, text)
    except (OSError, ValueError, HTTPException) as error:
        log.warning(f"an alert didn't reach {who}: {_reason(error)}")
        return 0
    return 1


def _reason(error: BaseException) -> str:
    """Why it wasn't sent, without anything that may hold a part of the address."""
    import smtplib
    from urllib.error import HTTPError, URLError

    if isinstance(error, HTTPError):
        return f"it answered {error.code}"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"it answered {error.smtp_code}"
    if isinstance(error, _UnencryptedError):
        return str(error)
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {SECONDS:.0f} seconds"
    said = cause.strerror if isinstance(cause, OSError) else None
    return str(said or type(cause).__name__)


class _UnencryptedError(ValueError):
    """A server to which a password would go in clear."""


def _post(address: str, text: str) -> None:
    from urllib.request import Request, urlopen

    request = Request(  # noqa: S310 - the settings take http and https alone
        address,
        data=json.dumps({"text": text}).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    with urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
        answer.read(1)


def _mail(address: str, text: str) -> None:
    import smtplib
    import ssl
    from email.message import EmailMessage

    parts = urlsplit(address)
    asked = parse_qs(parts.query)
    message = EmailMessage()
    message["From"] = asked.get("from", [_SENDER])[0]
    message["To"] = ", ".join(asked["to"])
    message["Subject"] = text[:100]
    message.set_content(text)
    host = str(parts.hostname)
    kind = smtplib.SMTP_SSL if parts.scheme == "smtps" else smtplib.SMTP
    with kind(host, parts.port or 0, timeout=SECONDS) as server:
        encrypted = parts.scheme == "smtps"
        server.ehlo_or_helo_if_needed()
        if not encrypted and server.has_extn("starttls"):
            server.starttls(context=ssl.create_default_context())
            encrypted = True
        if parts.username:
            if not encrypted and not is_loopback(host):
                raise _UnencryptedError(
                    "it offers no encryption, and the password isn't sent in clear"
                )
            server.login(unquote(parts.username), unquote(parts.password or ""))
        server.send_message(message)
