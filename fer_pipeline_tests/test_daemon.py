"""The daemon's look at the clock; that it is started anew is the soak's to show."""

import os
from collections.abc import Sequence

import pytest

from fer_pipeline import daemon


class _EndedError(Exception):
    """Takes the place of the end of the process."""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    ended: list[int] = []

    def end(code: int) -> None:
        ended.append(code)
        raise _EndedError

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(daemon, "_LOOK_SECONDS", 0.0)
    return ended


def _watch(monkeypatch: pytest.MonkeyPatch, offsets: Sequence[float]) -> None:
    rest = iter(offsets)
    monkeypatch.setattr(daemon, "_offset", lambda: next(rest))
    daemon._end_when_set_back()


def test_daemon_ends_when_the_clock_is_set_back(
    monkeypatch: pytest.MonkeyPatch, looks: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(_EndedError):
        _watch(monkeypatch, [1000.0, 1000.0, 8200.0, 8200.0, 4600.0])
    assert looks == [1]
    assert "set back by 3600 s" in caplog.text


def test_clock_that_is_set_ahead_or_slowed_down_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, looks: list[int]
) -> None:
    slowed = [8200.0 - 20.0 * step for step in range(10)]
    # It runs out of offsets, not out of patience.
    with pytest.raises(StopIteration):
        _watch(monkeypatch, [1000.0, 8200.0, *slowed])
    assert not looks
