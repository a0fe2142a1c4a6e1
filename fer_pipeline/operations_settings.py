"""The settings of those who look after a home: room, retention, alerts, logs, MLflow's database."""

from typing import Self
from urllib.parse import SplitResult, parse_qs, urlsplit

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from fer_pipeline.data_sources import Address, Optionally
from fer_pipeline.logs import LogFormat


class OperationsSettings(BaseModel):
    """What is checked, kept and told; part of the settings."""

    check_room: bool = Field(
        True, description="Refuse a run whose crops and models have no room on the disk."
    )
    keep_days: int = Field(
        30,
        ge=0,
        description="Days that `prune` keeps logs of runs, failed trainings and old versions.",
    )
    keep_runs: int = Field(
        5, ge=1, description="Newest versions of each stream that `prune` keeps, champions aside."
    )
    alert_url: SecretStr | None = Field(
        None, description="Webhook that is told of failures and new champions, as Slack's are."
    )
    alert_mail: SecretStr | None = Field(
        None,
        description="Mail server and people that are told: "
        "smtp://USER:PASSWORD@HOST:PORT/?to=ADDRESS&from=ADDRESS, or smtps://.",
    )
    log_format: LogFormat = Field(
        "text", description="What `serve` and `review` log: text, or a line of JSON each."
    )
    dagster_ui_url: Optionally = Field(
        None, description="Where people open Dagster, for links in alerts."
    )
    mlflow_database: SecretStr | None = Field(
        None, description="Database of the MLflow server, which backup and restore go by."
    )
    mlflow_files: Address | None = Field(
        None, description="Folder or address in which the MLflow server keeps its artifacts."
    )

    @field_validator("alert_url")
    @classmethod
    def _web_address(cls, value: SecretStr | None) -> SecretStr | None:
        # What pydantic says of a wrong value repeats it, and it is a secret.
        text = "" if value is None else value.get_secret_value()
        if not text:
            return None
        parts = _split(text)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is no address of a webhook: give https://HOST/PATH")
        return value

    @field_validator("alert_mail")
    @classmethod
    def _mail_address(cls, value: SecretStr | None) -> SecretStr | None:
        text = "" if value is None else value.get_secret_value()
        if not text:
            return None
        parts = _split(text)
        if (
            parts is None
            or parts.scheme not in ("smtp", "smtps")
            or not parts.hostname
            or not parse_qs(parts.query).get("to")
        ):
            raise ValueError(
                "names no mail server and people: give "
                "smtp://USER:PASSWORD@HOST:PORT/?to=ADDRESS&from=ADDRESS"
            )
        return value

    @model_validator(mode="after")
    def _database_with_its_files(self) -> Self:
        if (self.mlflow_database is None) != (self.mlflow_files is None):
            raise ValueError(
                "mlflow_database and mlflow_files belong together: give both of the MLflow server, "
                "or neither"
            )
        return self


def _split(text: str) -> SplitResult | None:
    """The parts of an address; None for one that has none, such as a port that is no number."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    return parts
