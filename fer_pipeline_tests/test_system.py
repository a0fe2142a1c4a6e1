"""How a test that needs a program of the system ends without it."""

from pathlib import Path

import pytest

from fer_pipeline_tests.system import REQUIRED, find_program, require_program

ABSENT = "no-such-program-anywhere"


def test_absent_program_skips_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match=ABSENT):
        require_program(ABSENT)


def test_absent_program_fails_where_every_system_test_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception, match=ABSENT):
        require_program(ABSENT)


def test_newest_postgresql_is_found_outside_the_path(tmp_path: Path) -> None:
    for version in ("9.6", "15", "17"):
        program = tmp_path / version / "bin" / ABSENT
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)
    assert find_program(ABSENT, tmp_path) == tmp_path / "17" / "bin" / ABSENT


def test_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "initdb").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert require_program("initdb") == tmp_path / "initdb"
