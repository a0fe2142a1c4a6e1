"""Who held an alias before, read from its history; what a registry does is in assets/."""

from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import pytest

from fer_pipeline import champion
from fer_pipeline.assets.steps import step
from fer_pipeline.champion import locked
from fer_pipeline.core.challenge import Verdict
from fer_pipeline.instance import HomeBusyError
from fer_pipeline.registry import Entry, previous_holder
from fer_pipeline.settings import Settings

P, H, B, R = Verdict.PROMOTED, Verdict.BY_HAND, Verdict.ROLLED_BACK, Verdict.REFUSED


def _history(*moves: tuple[Verdict, str]) -> Sequence[Entry]:
    entries: list[Entry] = []
    held: str | None = None
    for verdict, version in moves:
        after = held if verdict == R else version
        entries.append(Entry(str(len(entries)), verdict, version, held, after, "Ann", "so"))
        held = after
    return entries


@pytest.mark.parametrize(
    ("moves", "now", "previous"),
    [
        ((), None, None),
        (((Verdict.FIRST, "1"),), "1", None),
        (((Verdict.FIRST, "1"), (P, "2")), "2", "1"),
        (((Verdict.FIRST, "1"), (P, "2"), (R, "3")), "2", "1"),
        # Each rollback goes one step further back, and never forth again.
        (((Verdict.FIRST, "1"), (P, "2"), (P, "3"), (B, "2")), "2", "1"),
        (((Verdict.FIRST, "1"), (P, "2"), (P, "3"), (B, "2"), (B, "1")), "1", None),
        # A promotion by hand of an older version is a step forth like any other.
        (((Verdict.FIRST, "1"), (P, "2"), (H, "1")), "1", "2"),
        # Somebody moved the alias past the history: the last word of it counts.
        (((Verdict.FIRST, "1"), (P, "2")), "9", "2"),
        (((Verdict.FIRST, "1"), (P, "2")), None, "2"),
    ],
)
def test_previous_holder_is_the_one_before_what_was_not_taken_back(
    moves: Sequence[tuple[Verdict, str]], now: str | None, previous: str | None
) -> None:
    assert previous_holder(_history(*moves), {"1", "2", "3", "9"}, now) == previous


def test_versions_that_were_deleted_are_passed_over() -> None:
    history = _history((Verdict.FIRST, "1"), (P, "2"), (P, "3"))
    assert previous_holder(history, {"1", "3"}, "3") == "1"


def test_lock_of_a_stream_is_waited_for_and_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.fresh(home=tmp_path)
    monkeypatch.setattr(champion, "_LOCK_SECONDS", 0.2)
    with locked(settings, "mood"):
        with (
            pytest.raises(HomeBusyError, match="deciding on the champion of mood"),
            locked(settings, "mood"),
        ):
            pass
        # A step fails with the same words.
        with (
            pytest.raises(dg.Failure, match="deciding on the champion of mood"),
            step(),
            locked(settings, "mood"),
        ):
            pass
        with locked(settings, "three_class"):
            pass
    with locked(settings, "mood"):
        pass
