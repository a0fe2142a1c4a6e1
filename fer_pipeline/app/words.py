"""What the page says, and how words that people typed are kept from being taken for Markdown."""

import re

from fer_pipeline.app.labelling import Pace
from fer_pipeline.core.study import Study

NO_STUDY = (
    "There is no study to label yet: `fer-pipeline study new` draws one, once "
    "`fer-pipeline run` has cropped the faces."
)
NOT_STORED = (
    "That was not stored: press again, or tell whoever runs this page, whose terminal says why."
)
KINDS = {"people": "a sample of all faces", "suspects": "faces whose label is in doubt"}


def plain(text: str) -> str:
    """The text as Markdown that shows it as it is."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def study_words(study: Study) -> str:
    """A study in a list of studies."""
    return f"{study.name}: {len(study):,} pictures, {KINDS[study.kind]}"


def place_words(place: int, total: int) -> str:
    """Where one is, such as "31 of 1,050"; `place` counts from 0."""
    return f"{place + 1:,} of {total:,}"


def pace_words(pace: Pace | None) -> str:
    """How fast it goes and how long the rest takes; nothing before there is a pace."""
    if pace is None:
        return ""
    speed = f"{pace.answers_a_minute:.0f} a minute"
    return f"{speed}, {_time_words(pace.seconds_left)} left"


def _time_words(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "under a minute"
    if minutes < 60:
        return f"about {minutes} min"
    return f"about {minutes // 60} h {minutes % 60} min"
