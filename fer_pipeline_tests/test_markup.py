"""What people name and write reaches the terminal as it is, brackets included."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from fer_pipeline import champion_commands
from fer_pipeline.core.presets import PRESETS
from fer_pipeline.core.sweep import Compared, Trained, Try
from fer_pipeline.summary import summary_tables
from fer_pipeline.sweep import _table

NAMED = "a[dim]b [/] [red]c"


def _shown(*tables: Table) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(*tables)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_reasons_and_data_sets_of_a_summary_keep_their_brackets() -> None:
    figures = {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6, "faces": 9}
    scores = dict.fromkeys(("macro_f1", "majority_accuracy", "linear_accuracy"), 0.5)
    found = {
        "rejected_by_reason": {NAMED: 1},
        "left_out": {NAMED: 2},
        "sources": {NAMED: {"rows_indexed": 3}},
        "streams": {"mood": {**figures, **scores, "n_test": 9, "sources": {NAMED: figures}}},
    }
    shown = [_shown(table) for table in summary_tables(found)]
    assert [text.count(NAMED) for text in shown] == [2, 0, 1, 1, 0]


def test_tries_of_a_sweep_keep_their_brackets() -> None:
    tried = Try(NAMED, PRESETS["smoke"], 0.0)
    trained = Trained(0, "run", None, was_there=True)
    assert f"{NAMED} (was there) (diverged)" in _shown(_table([Compared(tried, [trained])]))


def test_a_reason_keeps_its_brackets_in_the_history(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    entry = {
        **{"at": "2026-01-02T03:04:05", "version": "2", "verdict": "promoted_by_hand"},
        **{"before": "1", "after": "2", "by": NAMED, "why": NAMED},
    }
    found = {"champion": "2", "previous": "1", "history": [entry]}
    champion_commands._print("three_class", found)
    shown = " ".join(capsys.readouterr().err.split())
    assert shown.count(NAMED) == 2
