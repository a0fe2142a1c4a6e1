"""The files of a stream's report in the home: where they stand, and their figures."""

import json
from typing import Any

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.storage import Location, is_file
from fer_pipeline.settings import Settings


def metrics_file(settings: Settings, stream: str) -> Location:
    """The figures of a stream's report as JSON."""
    return settings.report_folder(stream) / "metrics.json"


def report_file(settings: Settings, stream: str) -> Location:
    """A stream's report as one HTML page."""
    return settings.report_folder(stream) / "report.html"


def read_metrics(settings: Settings, stream: str) -> dict[str, Any]:
    """The figures of a stream's report; raises InputError when there is none."""
    path = metrics_file(settings, stream)
    if not is_file(path):
        raise InputError(f"{path} is not there: materialize {stream}/evaluation_report first")
    found: dict[str, Any] = json.loads(path.read_text())
    return found
