"""`fer-pipeline champion` on a home whose registry is a database file, after one whole run."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fer_pipeline import tracking
from fer_pipeline.champion import champion_file
from fer_pipeline.core.challenge import Verdict
from fer_pipeline.registry import ALIAS, Registry
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.graph import Ended, Finished

STREAM = "three_class"

pytestmark = pytest.mark.usefixtures("own_environment")


def _with_two_versions(drawn_release: Path, folder: Path) -> Finished:
    """A copy of a finished home, in whose registry the stream has a second version."""
    copied = graph.finished(drawn_release).copy(folder)
    settings = copied.settings()
    client = tracking.connect(settings)
    name = tracking.registered_name(STREAM)
    first = client.get_model_version(name, "1")
    client.create_model_version(name, first.source, first.run_id)
    return copied


@pytest.fixture
def home(drawn_release: Path, tmp_path: Path) -> Finished:
    """A home with two versions, free to be changed."""
    return _with_two_versions(drawn_release, tmp_path / "home")


@pytest.fixture(scope="module")
def unchanged(drawn_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A home with two versions, for commands that change nothing in it."""
    return _with_two_versions(drawn_release, tmp_path_factory.mktemp("champion") / "home")


def _holder(settings: Settings) -> str | None:
    return Registry(settings, STREAM).champion()


def test_first_version_is_the_champion_after_a_run(drawn_release: Path) -> None:
    done = graph.finished(drawn_release)
    for stream in graph.STREAMS:
        told = done.ended.answer["streams"][stream]["champion"]
        assert told["version"] == told["challenger"] == "1"
        assert told["verdict"] == "first"
        assert told["model_uri"] == done.ended.answer["streams"][stream]["model_uri"]
        assert Registry(done.settings(), stream).champion() == "1"
    assert f"{STREAM} champion: version 1; version 1 first: no version was" in done.ended.words


def test_version_is_promoted_and_rolled_back_by_one_command_each(
    here: Callable[..., Ended], home: Finished
) -> None:
    settings = home.settings()
    where = ("--stream", STREAM, "--home", home.home, "--json")
    ended = here("champion", "promote", 2, "--why", "people prefer it", *where)
    assert ended.code == 0, ended.err
    assert ended.answer["champion"] == "2"
    assert ended.answer["moved"]["why"] == "people prefer it"
    assert _holder(settings) == "2"
    ended = here("champion", "rollback", "--why", "it fails on [dim] photos", *where)
    assert ended.code == 0, ended.err
    assert "version 1 is the champion, version 2 was: it fails on [dim] photos" in ended.words
    assert ended.answer["model_uri"] == f"models:/fer-{STREAM}/1"
    assert _holder(settings) == "1"

    ended = here("champion", "show", "--home", home.home, "--json")
    assert ended.code == 0, ended.err
    assert "it fails on [dim] photos" in ended.words
    found = ended.answer["streams"]
    assert set(found) == set(graph.STREAMS)
    told = [(one["verdict"], one["after"]) for one in found[STREAM]["history"]]
    assert told == [("first", "1"), ("promoted_by_hand", "2"), ("rolled_back", "1")]
    assert [one["version"] for one in found[STREAM]["versions"]] == ["1", "2"]
    kept = json.loads(champion_file(settings, STREAM).read_text())
    assert kept["champion"] == "1"
    assert kept["history"] == found[STREAM]["history"]
    assert kept["decision"]["verdict"] == "first"


def test_second_run_makes_nothing_when_a_person_moved_the_alias(
    here: Callable[..., Ended], home: Finished
) -> None:
    where = ("--stream", STREAM, "--home", home.home)
    assert here("champion", "promote", 2, "--why", "mine", *where).code == 0
    ended = here("status", "--home", home.home, "--json")
    assert ended.answer["assets"][f"{STREAM}/champion"]["up_to_date"]
    assert ended.answer["streams"][STREAM]["champion"]["version"] == "2"


def test_champion_is_evaluated_by_its_alias(
    here: Callable[..., Ended], unchanged: Finished
) -> None:
    ended = here(
        *("evaluate", "--model", f"models:/fer-{STREAM}@champion", "--dataset", "affectnet"),
        *("--root", unchanged.root, "--home", unchanged.home, "--json"),
    )
    assert ended.code == 0, ended.err
    assert ended.answer["classes"] == ["Happiness", "Sadness", "Surprise"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("promote", 7, "--why", "x", "--stream", STREAM), "has no version 7 in .*: it has the"),
        (("promote", 2, "--why", " ", "--stream", STREAM), "--why needs a reason of 1 to 1000"),
        (("promote", 2, "--why", "x"), "--stream takes one of three_class, mood"),
        (("promote", 2, "--why", "x", "--stream", "nine"), "--stream takes one of .*, not 'nine'"),
        (("rollback", "--why", "x", "--stream", STREAM), "there is nothing to roll back to"),
        (("show", "--stream", "nine"), "--stream takes one of .*, not 'nine'"),
    ],
)
def test_what_can_not_be_done_is_told_in_one_sentence(
    here: Callable[..., Ended], unchanged: Finished, words: tuple[object, ...], problem: str
) -> None:
    ended = here("champion", *words, "--home", unchanged.home, "--json")
    assert ended.code == 2
    assert re.search(problem, ended.words)
    assert "Traceback" not in ended.err
    assert _holder(unchanged.settings()) == "1"


def test_version_that_holds_the_alias_stays_without_an_entry(
    here: Callable[..., Ended], unchanged: Finished
) -> None:
    where = ("--stream", STREAM, "--home", unchanged.home, "--json")
    ended = here("champion", "promote", 1, "--why", "mine", *where)
    assert ended.code == 0
    assert "version 1 is the champion already" in ended.words
    assert ended.answer["moved"] is None
    assert len(Registry(unchanged.settings(), STREAM).history()) == 1


def test_alias_that_was_moved_in_mlflow_is_shown_as_moved_without_a_reason(
    here: Callable[..., Ended], tmp_path: Path
) -> None:
    settings = Settings.fresh(home=tmp_path)
    registry, client = Registry(settings, STREAM), tracking.connect(settings)
    client.create_registered_model(registry.name)
    for _ in range(2):
        client.create_model_version(registry.name, "file:///nowhere")

    def shown() -> str:
        ended = here("champion", "show", "--stream", STREAM, "--home", tmp_path)
        assert ended.code == 0, ended.err
        return ended.words

    assert f"{STREAM} no version is the champion" in shown()
    registry.decide(Verdict.FIRST, "1", before=None, by="run a", why="no version was")
    assert "moved the alias in MLflow" not in shown()
    client.set_registered_model_alias(registry.name, ALIAS, "2")
    said = shown()
    assert f"{STREAM} version 2 (before it: version 1)" in said
    assert "somebody moved the alias in MLflow since" in said


def test_home_without_models_has_no_champion(here: Callable[..., Ended], tmp_path: Path) -> None:
    ended = here("champion", "show", "--home", tmp_path)
    assert ended.code == 2
    assert "holds no model yet" in ended.words


def test_server_that_is_gone_is_told_of_in_one_sentence(
    here: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for words in (("champion", "show"), ("run", "--like", "0" * 32)):
        ended = here(*words, "--home", tmp_path)
        assert ended.code == 2
        assert "MLflow can't be used (API request to http://127.0.0.1:9" in ended.words
        assert "FER_MLFLOW_TRACKING_URI" in ended.words
