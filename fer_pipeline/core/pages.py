"""HTML pages from templates: one environment, one style, the filters that write figures.

Every text is escaped; a page needs nothing beside it. What a page says is the business of
`report.py` and `people_page.py`.
"""

from importlib.resources import files
from typing import Any


def render_page(template: str, **values: Any) -> str:
    """The page that `template`, a file of the folder `templates`, makes of `values`.

    A template may include others of the folder; a value that it names and doesn't get is an
    error (`jinja2.UndefinedError`).
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        loader=FunctionLoader(_source),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["score"] = score
    environment.filters["thousands"] = thousands
    return environment.get_template(template).render(values)


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage: 0.693 is 69.3%."""
    return "not defined" if share is None else f"{share:.{digits}%}"


def score(value: float | None) -> str:
    """A score with three digits."""
    return "not defined" if value is None else f"{value:.3f}"


def thousands(number: Any) -> str:
    """A count with commas."""
    return f"{number:,}"


def _source(name: str) -> str:
    return files("fer_pipeline.core").joinpath("templates", name).read_text(encoding="utf-8")
