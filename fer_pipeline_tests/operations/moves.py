"""Homes that are backed up and restored elsewhere, for the tests that claim something of that."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fer_pipeline import tracking
from fer_pipeline.core.answers import Answer
from fer_pipeline.registry import Registry
from fer_pipeline.settings import Settings
from fer_pipeline_tests.graph import Ended
from fer_pipeline_tests.operations.registered import STREAM, model_bytes

SECRET = "very-secret"  # noqa: S105


def an_answer(item: int, answer: str = "Happiness", annotator: str = "Ann") -> Answer:
    """An answer to one item of a study."""
    at = datetime(2026, 3, 1, 12, 0, item, 123456, tzinfo=UTC)
    return Answer(
        *(f"{STREAM}/people", "sample", annotator, item, f"face{item}", answer),
        *(900, item, False, at),
    )


def backup_of(here: Callable[..., Ended], settings: Settings, file: Path, *words: str) -> Any:
    """Back a home up, and what the command says of it."""
    ended = here("backup", file, "--home", settings.home, "--json", *words)
    assert ended.code == 0, ended.err
    return ended.answer


def restore_into(here: Callable[..., Ended], file: Path, home: Path, *words: str) -> Ended:
    """Restore a backup into a home, and how that ended."""
    return here("restore", file, "--home", home, "--json", *words)


def assert_same(first: Settings, second: Settings) -> None:
    """The registry of one home is that of another, and every model is found where it now stands."""
    one, other = Registry(first, STREAM), Registry(second, STREAM)
    tracking.connect(first)
    versions = one.versions()
    facts = {number: (v.run_id, v.tags, v.source) for number, v in versions.items()}
    aliases = one.aliases()
    figures = {number: (one.run_metrics(number), one.run_parameters(number)) for number in versions}
    held = one.champion(), one.previous(), one.history()
    models = {number: model_bytes(first, number) for number in versions}
    tracking.connect(second)
    versions = other.versions()
    assert facts == {n: (v.run_id, v.tags, v.source) for n, v in versions.items()}
    assert aliases == other.aliases()
    assert figures == {n: (other.run_metrics(n), other.run_parameters(n)) for n in versions}
    assert held == (other.champion(), other.previous(), other.history())
    assert models == {number: model_bytes(second, number) for number in versions}
