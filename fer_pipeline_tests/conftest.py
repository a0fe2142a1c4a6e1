"""Fixtures and limits that every test may rely on; what one part needs stays beside its tests."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

# Before anything imports NumPy or TensorFlow, which read these once.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_NUM_THREADS", "2")

import pytest
from absl import logging as absl_logging
from hypothesis import settings, strategies

from fer_pipeline import cli
from fer_pipeline.core.synthetic import write_release
from fer_pipeline.settings import Settings
from fer_pipeline_tests.graph import SMALL, Ended

# Steady examples and no folder left in the working tree.
settings.register_profile("fer_pipeline", deadline=None, database=None, derandomize=True)
settings.load_profile("fer_pipeline")

# Loaded where it is first used, which in Python 3.11 fails now and then while another thread of a
# test compiles something too.
strategies.from_regex("a").validate()

# TensorFlow's handler would keep what stands for standard error in some test, and close it when
# logging is set up anew: pytest's own file.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes share the work (`-n 2`), each gets whole files, long ones first."""
    from fer_pipeline_tests.workers import WholeFiles

    return WholeFiles(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of the tests where several processes share the work."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        from fer_pipeline_tests.workers import rank

        items.sort(key=lambda item: rank(item.nodeid))


@pytest.fixture(autouse=True)
def own_instance() -> Iterator[None]:
    """No test sees the Dagster instance of an earlier one.

    An instance that was entered twice, as runs in the process do, leaves its storage behind in
    Dagster's context variable; what loads definitions next would ask the closed instance.
    """
    storage = sys.modules.get("dagster._core.storage.defs_state.base")
    with storage.set_defs_state_storage(None) if storage else nullcontext():
        yield


@pytest.fixture(scope="session")
def drawn_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a small drawn AffectNet release with its traps; not to be written to."""
    return write_release(tmp_path_factory.mktemp("drawn") / "release", photos=120, seed=5).root


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets beside the repository."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data: {REAL_DATA} is not there")
    return REAL_DATA


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in this process point it at their home; the test's end takes that back."""
    for name in ("HOME", *(name.upper() for name in Settings.model_fields)):
        monkeypatch.setenv(f"FER_{name}", "")
        monkeypatch.delenv(f"FER_{name}")
    for name, value in {**SMALL, "DAGSTER_HOME": "", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def here(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Runs a command in this process."""

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["fer-pipeline", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, *capfd.readouterr())

    return run
