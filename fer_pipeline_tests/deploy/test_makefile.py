"""The Makefile, with a stand-in for the Python that makes the environment."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fer_pipeline_tests.deploy.native import ROOT
from fer_pipeline_tests.system import require_program

# Answers as an interpreter does: venv makes an environment of itself, and pip notes its words.
FAKE_PYTHON = """#!/bin/sh
here=$(dirname "$0")
case "$*" in
    *version_info*) exit ${OLD_PYTHON:-0} ;;
    *ensurepip*) exit ${NO_VENV:-0} ;;
    "-m venv --clear .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip install"*) echo "$*" >> pip.log; exit ${FAILING_PIP:-0} ;;
    -V) echo "Python 3.9.2" ;;
    "-m pytest"*) echo tested ;;
esac
"""
TARGETS = ("setup", "demo", "test", "soak", "bench", "lint", "ui", "up-native", "clean", "help")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python-stand-in"
    python.write_text(FAKE_PYTHON, encoding="utf-8")
    python.chmod(0o755)
    return tmp_path


def _make(project: Path, target: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(require_program("make")), target, f"PYTHON={project / 'python-stand-in'}"]
    # What an outer make passes down would change how the inner one reports.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(
        command,
        cwd=project,
        env=inherited | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def _installations(project: Path) -> int:
    log = project / "pip.log"
    return len(log.read_text(encoding="utf-8").splitlines()) if log.exists() else 0


def test_help_lists_every_target_and_is_the_default(project: Path) -> None:
    shown = _make(project, "help").stdout
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    declared = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert declared is not None
    assert set(declared[1].split()) == set(TARGETS)
    assert {line.split()[1] for line in shown.splitlines()} == set(TARGETS)
    assert _make(project, "-s").stdout == shown


def test_environment_is_made_once_and_again_when_its_list_changes(project: Path) -> None:
    assert _make(project, "setup").returncode == 0
    (installed,) = (project / "pip.log").read_text(encoding="utf-8").splitlines()
    assert "-c constraints.txt -e .[dev]" in installed

    assert "tested" in _make(project, "test").stdout
    assert _installations(project) == 1

    newer = (project / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(project / "constraints.txt", (newer, newer))
    assert _make(project, "test").returncode == 0
    assert _installations(project) == 2


def test_failed_installation_is_tried_again(project: Path) -> None:
    failed = _make(project, "test", FAILING_PIP="1")
    assert failed.returncode != 0
    assert "tested" not in failed.stdout

    assert "tested" in _make(project, "test").stdout
    assert _installations(project) == 2


def test_failed_update_does_not_count_as_the_earlier_success(project: Path) -> None:
    assert _make(project, "setup").returncode == 0
    newer = (project / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(project / "pyproject.toml", (newer, newer))
    assert _make(project, "test", FAILING_PIP="1").returncode != 0
    assert not (project / ".venv" / ".installed").exists()


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        ("OLD_PYTHON", "is Python 3.9.2, and the project needs 3.11 or newer"),
        ("NO_VENV", "apt-get install python3-venv"),
    ],
)
def test_unfit_python_is_refused_in_one_sentence(
    project: Path, variable: str, sentence: str
) -> None:
    refused = _make(project, "setup", **{variable: "1"})
    assert refused.returncode != 0
    assert sentence in refused.stderr
    assert not (project / ".venv").exists()


def test_clean_keeps_what_was_run(project: Path) -> None:
    assert _make(project, "setup").returncode == 0
    kept = project / "fer-home" / "index"
    kept.mkdir(parents=True)
    cleaned = _make(project, "clean")
    assert cleaned.returncode == 0
    assert "fer-home" in cleaned.stdout
    assert kept.exists()
    assert not (project / ".venv").exists()


@pytest.mark.parametrize(
    "script", [".ci/run", "deploy/postgres-init/make-databases.sh"], ids=["ci", "databases"]
)
def test_shell_scripts_parse_and_may_be_started(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    subprocess.run([require_program("bash"), "-n", path], check=True)
