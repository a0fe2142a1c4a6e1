"""What people answered: one table in SQLite (WAL) or PostgreSQL, several annotators at once.

An answer is stored when `add` has returned, whatever becomes of the process after that. Nothing
here knows what a study shows; files of answers are the business of `exchange.py`.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fer_pipeline.core.answers_database import (
    WRITES,
    answers_table,
    database_address,
    open_engine,
)
from fer_pipeline.core.disk import is_full
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import text_digest

ANNOTATOR_LENGTH = 40
"""Characters of an annotator's name at most."""

_JOINERS = "\u200c\u200d"
"""Format characters that words of some languages, and some emoji, are spelled with."""
_TABLE_LOCK = 0x6665725F
"""Any number that is the same for everyone who makes the table."""


@dataclass(frozen=True)
class Answer:
    """One answer: `answer` is a class name, UNSURE or NOT_A_FACE of `study.py`.

    `study` is the key stream/name, `sample` the identity of what was drawn; `shown_order` counts
    what the annotator has seen, `milliseconds` is the time from showing to answering, `repeat`
    says that the face had been shown before, `answered_at` has a time zone.
    """

    study: str
    sample: str
    annotator: str
    item: int
    face_id: str
    answer: str
    milliseconds: int
    shown_order: int
    repeat: bool
    answered_at: datetime

    def __post_init__(self) -> None:
        """Refuse what could not be stored and read again as it is."""
        if self.answered_at.tzinfo is None:
            raise ValueError("answered_at needs a time zone")
        if min(self.item, self.milliseconds, self.shown_order) < 0:
            raise ValueError("item, milliseconds and shown_order are not negative")


def checked_annotator(name: str) -> str:
    """The name of an annotator, without blanks around it and in Unicode's composed form.

    Raises InputError unless that has 1 to 40 characters that can be seen.
    """
    stripped = unicodedata.normalize("NFC", name).strip()
    hidden = [
        char
        for char in stripped
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
        and char not in _JOINERS
    ]
    if not stripped.strip(_JOINERS) or len(stripped) > ANNOTATOR_LENGTH or hidden:
        shown = ascii(name[: 2 * ANNOTATOR_LENGTH])
        raise InputError(
            f"{shown} can't name an annotator: give 1 to {ANNOTATOR_LENGTH} characters, none of "
            "them a control character"
        )
    return stripped


class AnswerStore:
    """The answers of all studies at one database address; may be shared by threads."""

    def __init__(self, url: str) -> None:
        """Open the database and make its table where it is missing.

        `url` is an address as SQLAlchemy knows them: sqlite:///FILE, or
        postgresql://USER:PASSWORD@HOST/DATABASE. Raises InputError when it can't be used.
        """
        address = database_address(url)
        self.address = address.render_as_string(hide_password=True)
        with self._told("opened"):
            self._engine = open_engine(address)
            # SQLite must know at the start of a transaction that it is going to write.
            self._writer = self._engine.execution_options(**{WRITES: True})
            self._table = answers_table()
            try:
                self._make_table()
            except BaseException:
                self._engine.dispose()
                raise

    def add(self, answer: Answer) -> bool:
        """Store an answer; False when this annotator has answered this item, nothing changes."""
        return self.add_all([answer])[0] == 1

    def add_all(self, answers: Iterable[Answer]) -> tuple[int, int]:
        """Store answers, all of them or none; give how many were added and were there already."""
        added = already = 0
        with self._told("written"), self._writer.begin() as connection:
            for answer in answers:
                if connection.execute(self._insert().values(_row(answer))).rowcount == 1:
                    added += 1
                else:
                    already += 1
        return added, already

    def undo(self, study: str, sample: str, annotator: str) -> Answer | None:
        """Take back the answer of this annotator that was stored last; None when there is none."""
        from sqlalchemy import delete

        columns = self._table.c
        # Not by shown order, which a file that was taken in counts in its own way.
        chosen = self._chosen(study, sample, annotator).order_by(None)
        last = chosen.order_by(columns.id.desc()).limit(1)
        while True:
            with self._told("written"), self._writer.begin() as connection:
                row = connection.execute(last).one_or_none()
                if row is None:
                    return None
                gone = connection.execute(delete(self._table).where(columns.id == row.id))
                # On PostgreSQL another page of the same annotator may have taken it back.
                if gone.rowcount == 1:
                    return _answer(row)

    def answers(self, study: str, sample: str, annotator: str | None = None) -> list[Answer]:
        """The answers to one sample, by annotator and shown order."""
        with self._told("read"), self._engine.connect() as connection:
            rows = connection.execute(self._chosen(study, sample, annotator)).all()
        return [_answer(row) for row in rows]

    def everything(self) -> list[Answer]:
        """All answers to all samples, in the order in which they were stored."""
        from sqlalchemy import select

        query = select(self._table).order_by(self._table.c.id)
        with self._told("read"), self._engine.connect() as connection:
            return [_answer(row) for row in connection.execute(query)]

    def annotators(self, study: str, sample: str) -> dict[str, int]:
        """Who has answered this sample, and how often, in order of the names."""
        from sqlalchemy import func, select

        columns = self._table.c
        query = (
            select(columns.annotator, func.count())
            .where(columns.study == study, columns.sample == sample)
            .group_by(columns.annotator)
        )
        with self._told("read"), self._engine.connect() as connection:
            return dict(
                sorted((str(name), int(count)) for name, count in connection.execute(query))
            )

    def digest(self, study: str) -> str:
        """16 hex digits that change with any answer added or taken back; empty without answers."""
        from sqlalchemy import BigInteger, cast, func, select

        columns = self._table.c
        # A database never gives a number twice, so that count and number tell of every change;
        # the others tell of a database that took the place of this one.
        parts = columns.study, columns.sample, columns.annotator, columns.answer
        query = (
            select(
                *parts,
                func.count(),
                func.max(columns.id),
                cast(func.sum(columns.milliseconds), BigInteger),
            )
            .where(columns.study == study)
            .group_by(*parts)
        )
        with self._told("read"), self._engine.connect() as connection:
            found = sorted(tuple(row) for row in connection.execute(query))
        return text_digest(study, *(value for row in found for value in row)) if found else ""

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _chosen(self, study: str, sample: str, annotator: str | None) -> Any:
        from sqlalchemy import select

        columns = self._table.c
        query = select(self._table).where(columns.study == study, columns.sample == sample)
        if annotator is not None:
            query = query.where(columns.annotator == annotator)
        return query.order_by(columns.annotator, columns.shown_order, columns.id)

    def _insert(self) -> Any:
        if self._engine.dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert as postgresql_insert

            return postgresql_insert(self._table).on_conflict_do_nothing()
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        return sqlite_insert(self._table).on_conflict_do_nothing()

    def _make_table(self) -> None:
        from sqlalchemy import inspect, select
        from sqlalchemy.schema import CreateTable

        with self._writer.begin() as connection:
            if connection.dialect.name == "postgresql":
                # CREATE TABLE IF NOT EXISTS fails where two do it at once.
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TABLE_LOCK})")
            connection.execute(CreateTable(self._table, if_not_exists=True))
            there = {column["name"] for column in inspect(connection).get_columns("answers")}
            missing = sorted({column.name for column in self._table.columns} - there)
            if missing:
                raise InputError(
                    f"{self.address} holds another table named answers (without "
                    f"{', '.join(missing)}): give FER_ANSWERS_URL a database of its own"
                )
            connection.execute(select(self._table).limit(1)).all()

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """What a database says is one sentence with the address; a full disk stays what it is."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except SQLAlchemyError as error:
            if is_full(error):
                raise
            said = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
            raise InputError(
                f"the answers at {self.address} can't be {what} ({said}): check that the database "
                "is there, whole and writable, or give FER_ANSWERS_URL another"
            ) from error


def _row(answer: Answer) -> dict[str, Any]:
    return {**vars(answer), "answered_at": answer.answered_at.astimezone(UTC)}


def _answer(row: Any) -> Answer:
    values = dict(row._mapping)
    del values["id"]
    at: datetime = values["answered_at"]
    # SQLite keeps no time zone; what was written is UTC.
    values["answered_at"] = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return Answer(**values)
