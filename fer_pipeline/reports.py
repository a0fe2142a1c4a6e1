"""The files of a stream's reports in the home: where they stand, and their figures."""

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


def model_card_file(settings: Settings, stream: str) -> Location:
    """A stream's model card as Markdown."""
    return settings.report_folder(stream) / "model_card.md"


def people_figures_file(settings: Settings, stream: str) -> Location:
    """The figures of a stream's report on people as JSON."""
    return settings.report_folder(stream) / "people.json"


def people_report_file(settings: Settings, stream: str) -> Location:
    """A stream's report on people as one HTML page."""
    return settings.report_folder(stream) / "people.html"


def read_metrics(settings: Settings, stream: str) -> dict[str, Any]:
    """The figures of a stream's report; raises InputError when there is none."""
    return _read(metrics_file(settings, stream), f"{stream}/evaluation_report")


def read_people_figures(settings: Settings, stream: str) -> dict[str, Any]:
    """The figures of a stream's report on people; raises InputError when there is none."""
    return _read(people_figures_file(settings, stream), f"{stream}/human_error_report")


def _read(path: Location, asset: str) -> dict[str, Any]:
    if not is_file(path):
        raise InputError(f"{path} is not there: materialize {asset} first")
    found: dict[str, Any] = json.loads(path.read_text())
    return found
