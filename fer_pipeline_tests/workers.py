"""Which tests run in one process where several share the work (`pytest -n 2`), and in what order.

Files stay whole, for their fixtures. Those that look at the home of the one whole run stay
together, so that it is made once and nothing reads it while something else runs on it.
"""

from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer

_FINISHED_HOME = (
    "assets/test_examined.py",
    "assets/test_people.py",
    "assets/test_stream.py",
    "assets/test_suspects.py",
    "automation/test_answers.py",
    "test_champion_commands.py",
    "test_cli.py",
    "test_moved_home.py",
    "test_run.py",
    "test_tracking.py",
    "test_ui.py",
)
_LONG = (
    *_FINISHED_HOME,
    "test_interrupted_run.py",
    "test_ray.py",
    "test_repeat_run.py",
    "test_review.py",
    "test_benchmarks.py",
    "assets/test_champion.py",
    "test_demo.py",
    "deploy/test_services.py",
    "test_object_store.py",
    "test_two_runs.py",
    "test_full_disk.py",
    "test_schedule.py",
    "test_elsewhere.py",
    "core/test_train.py",
    "core/test_elsewhere.py",
    "test_hostile_photos.py",
    "test_sweep.py",
    "test_all_formats.py",
    "service/test_serve.py",
    "service/test_mlflow_serving.py",
)
"""Files to begin with: the last ones are to be short, which no other process waits for."""


class WholeFiles(LoadScopeScheduling):
    """Gives each process whole files, the long ones first."""

    def __init__(self, config: "pytest.Config", log: "Producer | None" = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        file = _file(nodeid)
        return "the finished home" if file in _FINISHED_HOME else file


def rank(nodeid: str) -> int:
    """The place of a test's file in the order."""
    file = _file(nodeid)
    return _LONG.index(file) if file in _LONG else len(_LONG)


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0].removeprefix("fer_pipeline_tests/")
