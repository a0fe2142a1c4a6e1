import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_pipeline.core.answers import Answer, AnswerStore, checked_annotator
from fer_pipeline.core.answers_database import is_missing_file, sqlite_address
from fer_pipeline.core.errors import InputError
from fer_pipeline_tests.answer_writer import SAMPLE, STUDY, answer_of
from fer_pipeline_tests.postgresql import postgresql

EACH = 500
_JOINED = "\u0645\u06cc\u200c\u062e\u0648\u0631\u0645"
"""A Persian word, which is spelled with a character that isn't seen."""


@pytest.fixture(scope="module")
def server():
    with postgresql() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'studies.db'}"
        return
    address = request.getfixturevalue("server")
    yield address
    import psycopg2

    with psycopg2.connect(address) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS answers")
    connection.close()


@pytest.fixture
def store(url):
    opened = AnswerStore(url)
    yield opened
    opened.close()


def _answers(store, annotator=None):
    return store.answers(STUDY, SAMPLE, annotator)


def test_an_answer_is_read_as_it_was_given(store):
    east = timezone(timedelta(hours=5, minutes=30))
    answer = replace(
        answer_of("Zoë =1+1 <b>'\"; DROP TABLE answers", 3),
        answered_at=datetime(2030, 1, 31, 23, 59, 59, 999999, tzinfo=east),
        milliseconds=10**10,
    )
    assert store.add(answer)
    assert _answers(store) == [answer]
    assert _answers(store)[0].answered_at.tzinfo is UTC


def test_a_second_answer_to_one_item_changes_nothing(store):
    first = answer_of("ann", 3)
    assert store.add(first)
    assert not store.add(replace(first, answer="Happiness", shown_order=9))
    assert _answers(store) == [first]
    assert store.add(answer_of("bob", 3))
    assert store.add(replace(first, sample="f" * 16))
    assert store.add(replace(first, study="three_class/people"))
    assert store.annotators(STUDY, SAMPLE) == {"ann": 1, "bob": 1}


def test_undo_takes_back_the_last_answer_of_this_annotator_alone(store):
    given = [answer_of("ann", item) for item in (0, 1, 2)]
    store.add_all([*given, answer_of("bob", 7)])
    assert store.undo(STUDY, SAMPLE, "ann") == given[2]
    assert store.undo(STUDY, SAMPLE, "ann") == given[1]
    assert store.add(replace(given[2], answer="Happiness"))
    assert store.undo(STUDY, SAMPLE, "ann").answer == "Happiness"
    assert store.undo(STUDY, SAMPLE, "ann") == given[0]
    assert store.undo(STUDY, SAMPLE, "ann") is None
    assert store.annotators(STUDY, SAMPLE) == {"bob": 1}


def test_undo_takes_back_what_was_answered_last_whatever_order_an_import_gave(store):
    imported = [replace(answer_of("ann", item), shown_order=item) for item in (5, 6, 7)]
    store.add_all(imported)
    answered = replace(answer_of("ann", 1), shown_order=0)
    store.add(answered)
    assert store.undo(STUDY, SAMPLE, "ann") == answered
    assert _answers(store) == imported


def test_answers_come_by_annotator_and_shown_order(store):
    store.add_all([answer_of(who, item) for item in (5, 1, 3) for who in ("bob", "ann")])
    order = [(one.annotator, one.shown_order) for one in _answers(store)]
    assert order == [("ann", 1), ("ann", 3), ("ann", 5), ("bob", 1), ("bob", 3), ("bob", 5)]
    assert [one.item for one in _answers(store, "bob")] == [1, 3, 5]
    assert store.annotators(STUDY, SAMPLE) == {"ann": 3, "bob": 3}


def test_the_digest_changes_with_every_answer_and_every_undo(store):
    seen = [store.digest(STUDY)]
    assert seen == [""]

    def changed():
        seen.append(store.digest(STUDY))
        return len(set(seen)) == len(seen)

    store.add(answer_of("ann", 0))
    assert changed()
    store.add(answer_of("bob", 0))
    assert changed()
    store.undo(STUDY, SAMPLE, "bob")
    # Back to what it was: a report of that is up to date.
    assert store.digest(STUDY) == seen[1]
    store.add(replace(answer_of("bob", 0), answer="Happiness"))
    assert changed()
    store.undo(STUDY, SAMPLE, "ann")
    assert changed()
    store.add(replace(answer_of("ann", 0), study="three_class/people"))
    assert store.digest(STUDY) == seen[-1]


def test_the_digest_tells_a_database_that_took_the_place_of_another(tmp_path):
    def digest(name, answer):
        there = AnswerStore(f"sqlite:///{tmp_path / name}")
        there.add(replace(answer_of("ann", 0), answer=answer))
        found = there.digest(STUDY)
        there.close()
        return found

    assert digest("a.db", "Happiness") == digest("b.db", "Happiness") != digest("c.db", "Sadness")


def test_of_many_answers_with_a_wrong_one_none_is_stored(store):
    def failing():
        yield answer_of("ann", 0)
        raise ValueError("a bad row")

    with pytest.raises(ValueError, match="a bad row"):
        store.add_all(failing())
    assert _answers(store) == []
    many = [answer_of("ann", item) for item in range(30)]
    assert store.add_all([*many, many[3]]) == (30, 1)
    assert store.add_all(many) == (0, 30)


def test_threads_may_share_a_store(store):
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda at: store.add(answer_of("ann", at % 40)), range(120)))
    assert sum(added) == len(_answers(store)) == 40
    with ThreadPoolExecutor(8) as pool:
        undone = list(pool.map(lambda _: store.undo(STUDY, SAMPLE, "ann"), range(50)))
    taken = [one.item for one in undone if one is not None]
    assert sorted(taken) == list(range(40))
    assert _answers(store) == []


class _Writers:
    """Processes that answer, all set off at once."""

    def __init__(self, url, *people):
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "fer_pipeline_tests.answer_writer", url, *map(str, person)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for person in people
        ]
        for process in self.processes:
            assert process.stdout.readline() == "ready\n"
        for process in self.processes:
            process.stdin.write("\n")
            process.stdin.flush()

    def stored(self):
        """Of each process, when all have ended, the items it was told to be stored."""
        said = [process.stdout.read().split() for process in self.processes]
        for process in self.processes:
            process.wait(timeout=30)
            process.stdin.close()
        return [[int(word) for word in words if not word.startswith("-")] for words in said]


def test_two_processes_at_once_lose_no_answer_and_double_none(url):
    writers = _Writers(url, ("ann", 0, EACH), ("bob", 0, EACH))
    assert writers.stored() == [list(range(EACH))] * 2
    store = AnswerStore(url)
    found = [(one.annotator, one.item, one.answer) for one in _answers(store)]
    store.close()
    assert len(found) == 2 * EACH
    assert found == [
        (who, item, answer_of(who, item).answer) for who in ("ann", "bob") for item in range(EACH)
    ]


def test_two_pages_of_one_annotator_store_each_item_once(url):
    first, second = _Writers(url, ("ann", 0, EACH), ("ann", 0, EACH)).stored()
    assert sorted(first + second) == list(range(EACH))
    store = AnswerStore(url)
    assert [one.item for one in _answers(store)] == list(range(EACH))
    store.close()


def test_what_was_stored_outlives_a_killed_process(url):
    writers = _Writers(url, ("ann", 0, 100_000), ("bob", 0, EACH))
    killed = writers.processes[0]
    heard = [killed.stdout.readline() for _ in range(60)]
    os.kill(killed.pid, signal.SIGKILL)
    stored = [int(word) for word in heard] + writers.stored()[0]
    store = AnswerStore(url)
    there = [one.item for one in _answers(store, "ann")]
    # The last one may have been stored without its process living to say so.
    assert there in (stored, [*stored, len(stored)])
    assert len(_answers(store, "bob")) == EACH
    assert store.add(answer_of("ann", len(there)))
    store.close()


def test_many_processes_may_open_an_empty_database_at_once(url):
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(AnswerStore, [url] * 16))
    for at, store in enumerate(stores):
        assert store.add(answer_of("ann", at))
        store.close()


def test_sqlite_writes_ahead_and_waits_for_the_disk(tmp_path):
    path = tmp_path / "new" / "folder" / "studies.db"
    store = AnswerStore(f"sqlite:///{path}")
    with store._engine.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        }
    store.close()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 30_000}


@pytest.mark.parametrize("name", ["plain", "a b", "é@:", "a?b=c", "100%", "a%20b", "a#b", "+"])
def test_a_file_is_where_its_path_says_whatever_its_name(tmp_path, name):
    path = tmp_path / name / "studies.db"
    url = sqlite_address(path)
    assert is_missing_file(url)
    store = AnswerStore(url)
    store.add(answer_of("ann", 0))
    store.close()
    assert not is_missing_file(url)
    assert path.is_file()
    assert [folder.name for folder in tmp_path.iterdir()] == [name]


def test_a_server_is_never_a_missing_file():
    assert not is_missing_file("postgresql://user@host/answers")


def _one_sentence(url, *words):
    with pytest.raises(InputError) as refused:
        AnswerStore(url)
    said = str(refused.value)
    assert "\n" not in said
    assert "secret" not in said
    assert all(word in said for word in words), said


def test_a_file_that_is_no_database_is_named(tmp_path):
    path = tmp_path / "studies.db"
    path.write_bytes(b"no database, but longer than a header of one\n" * 50)
    _one_sentence(f"sqlite:///{path}", "studies.db", "file is not a database", "FER_ANSWERS_URL")
    assert path.read_bytes().startswith(b"no database")


def test_a_database_damaged_inside_is_named_and_not_touched(tmp_path):
    path = tmp_path / "studies.db"
    store = AnswerStore(f"sqlite:///{path}")
    store.add_all([answer_of("ann", item) for item in range(400)])
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(InputError, match=r"studies\.db.*malformed"):
        AnswerStore(f"sqlite:///{path}").digest(STUDY)


def test_a_table_of_others_is_not_written_to(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE answers (id INTEGER PRIMARY KEY, question TEXT)")
    _one_sentence(f"sqlite:///{path}", "another table named answers", "annotator", "of its own")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", ("in memory",)),
        ("sqlite:///:memory:", ("in memory",)),
        ("sqlite:///file:answers?mode=memory&uri=true", ("sqlite:///FILE",)),
        ("mysql://user:secret@host/answers", ("mysql", "postgresql://")),
        ("sqlite+other:///file", ("sqlite+other", "sqlite:///FILE")),
        ("user:secret@host", ("can't be understood",)),
        ("postgresql://user:secret@host:port/answers", ("can't be understood",)),
        ("postgresql://user:secret@127.0.0.1:1/answers", ("127.0.0.1", "refused")),
        ("", ("can't be understood",)),
    ],
)
def test_an_address_that_cannot_be_used_is_told_without_its_password(url, words):
    _one_sentence(url, *words)


def test_a_place_that_cannot_hold_a_database_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    _one_sentence(f"sqlite:///{tmp_path}/file/studies.db", "file/studies.db", "another place")
    _one_sentence(f"sqlite:///{tmp_path}", str(tmp_path), "unable to open database file")


@pytest.fixture
def as_nobody():
    """For a while this process has no right that not everybody has."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    if user == 0:
        os.seteuid(0)


@pytest.fixture
def closed_folder():
    """A folder that everybody may enter, unlike pytest's own, and nobody may write."""
    folder = Path(tempfile.mkdtemp(prefix="fer-answers-"))
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.usefixtures("as_nobody")
def test_a_folder_that_may_not_be_written_is_named(closed_folder):
    _one_sentence(f"sqlite:///{closed_folder}/studies.db", "unable to open", "writable")
    _one_sentence(f"sqlite:///{closed_folder}/new/studies.db", "Permission denied")


def test_an_answer_without_a_time_zone_or_below_zero_is_no_answer():
    answer = answer_of("ann", 1)
    for values in ({"answered_at": datetime(2030, 1, 1)}, {"item": -1}, {"milliseconds": -1}):
        with pytest.raises(ValueError, match=r"time zone|not negative"):
            Answer(**{**vars(answer), **values})


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("  Ann  ", "Ann"),
        ("Zoe\u0308", "Zoë"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("=HYPERLINK(1)", "=HYPERLINK(1)"),
        ("../../etc/passwd", "../../etc/passwd"),
        (_JOINED, _JOINED),
        ("x" * 40, "x" * 40),
    ],
)
def test_a_name_is_taken_as_text_without_blanks_around_it(given, name):
    assert checked_annotator(given) == name
    assert checked_annotator(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "   ", "\t", "a\0b", "a\nb", "a\x1b[31m", "\u202eann", "\u200b", "\u200d"),
        *("\ud800", "x" * 41, "a\u2028b", "\ufeff"),
    ],
)
def test_a_name_that_cannot_be_seen_or_steers_a_terminal_is_refused(name):
    with pytest.raises(InputError, match="can't name an annotator") as refused:
        checked_annotator(name)
    assert str(refused.value).isprintable()


@given(st.text(max_size=60))
def test_every_name_is_refused_or_steady(name):
    try:
        checked = checked_annotator(name)
    except InputError:
        return
    assert checked_annotator(checked) == checked
    assert 1 <= len(checked) <= 40
