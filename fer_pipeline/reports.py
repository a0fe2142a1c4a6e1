"""The files of a stream's report in the home folder: where they stand, and their figures."""

import json
from pathlib import Path
from typing import Any

from fer_pipeline.core.errors import InputError
from fer_pipeline.settings import Settings


def metrics_file(settings: Settings, stream: str) -> Path:
    """The figures of a stream's report as JSON."""
    return settings.report_folder(stream) / "metrics.json"


def report_file(settings: Settings, stream: str) -> Path:
    """A stream's report as one HTML page."""
    return settings.report_folder(stream) / "report.html"


def read_metrics(settings: Settings, stream: str) -> dict[str, Any]:
    """The figures of a stream's report; raises InputError when there is none."""
    path = metrics_file(settings, stream)
    if not path.is_file():
        raise InputError(f"{path} is not there: materialize {stream}/evaluation_report first")
    found: dict[str, Any] = json.loads(path.read_text())
    return found
