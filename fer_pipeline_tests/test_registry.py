"""What a registry keeps when a process is killed while it moves the alias, or MLflow is gone."""

import itertools
from typing import Any

import pytest

from fer_pipeline import tracking
from fer_pipeline.core.challenge import Verdict
from fer_pipeline.registry import DEMOTED_TAG, VERDICT_TAG, WHY_TAG, Registry
from fer_pipeline.settings import Settings

WRITES = ("set_model_version_tag", "set_registered_model_alias", "delete_model_version_tag")
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.fresh(home=tmp_path_factory.mktemp("registry"))


@pytest.fixture
def registry(settings: Settings) -> Registry:
    """Two versions of a model, of which the second was promoted."""
    found = Registry(settings, f"stream_{next(NUMBERS)}")
    client = tracking.connect(settings)
    client.create_registered_model(found.name)
    for _ in range(2):
        client.create_model_version(found.name, "file:///nowhere")
    found.decide(Verdict.FIRST, "1", before=None, by="run a", why="no version was the champion")
    found.decide(Verdict.PROMOTED, "2", before="1", by="run b", why="the gain holds")
    return found


class _KilledError(BaseException):
    pass


def _roll_back(registry: Registry) -> None:
    registry.decide(Verdict.ROLLED_BACK, "1", before="2", by="Ann", why="it fails at night")


def _dying(registry: Registry, writes: int) -> Registry:
    """The same registry in a process that is killed after so many writes."""
    one = Registry(registry.settings, registry.stream)
    left = iter(range(writes))

    def mortal(write: Any) -> Any:
        def tried(*words: Any) -> Any:
            if next(left, None) is None:
                raise _KilledError
            return write(*words)

        return tried

    for name in WRITES:
        setattr(one._client, name, mortal(getattr(one._client, name)))
    return one


@pytest.mark.parametrize("writes", range(9))
def test_process_that_is_killed_at_any_write_leaves_a_true_history(
    registry: Registry, writes: int
) -> None:
    try:
        _roll_back(_dying(registry, writes))
        survived = True
    except _KilledError:
        survived = False
    assert survived == (writes == 8)
    moved = registry.champion() == "1"
    assert moved == (writes >= 2)
    history = registry.history()
    assert [one.after for one in history] == ["1", "2", *(["1"] if moved else [])]
    assert registry.previous() == (None if moved else "1")
    # The run that comes next promotes nothing that a person took the alias from.
    assert registry.taken_by_hand("2") == ("by Ann: it fails at night" if moved else None)

    held = "1" if moved else "2"
    registry.decide(Verdict.KEPT, held, before=held, by="run c", why="it is the champion already")
    assert registry.history() == history
    tags = {number: one.tags for number, one in registry.versions().items()}
    assert tags[held][VERDICT_TAG] == history[-1].verdict
    assert tags[held][WHY_TAG] == history[-1].why
    assert (DEMOTED_TAG in tags["2"]) == moved
    if not moved:
        _roll_back(registry)
        assert registry.champion() == "1"
        assert [one.after for one in registry.history()] == ["1", "2", "1"]


def test_move_that_was_only_announced_is_forgotten_when_another_is_made(registry: Registry) -> None:
    with pytest.raises(_KilledError):
        _roll_back(_dying(registry, 1))
    registry.decide(Verdict.BY_HAND, "1", before="2", by="Bob", why="mine")
    assert [one.verdict for one in registry.history()][2:] == ["promoted_by_hand"]
    assert registry.taken_by_hand("2") == "by Bob: mine"
