"""One annotator's way through one study, without a page around it.

What is stored decides what comes next; this object only remembers it between two answers.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from fer_pipeline.core.answers import Answer, AnswerStore
from fer_pipeline.core.study import Study, order_for

_PACE_OF = 30
"""Answers that the pace is taken from: the last ones, since people get quicker."""
_MOST_MILLISECONDS = 24 * 3600 * 1000


@dataclass(frozen=True)
class Showing:
    """A picture that is shown: its item, its place in the annotator's order (from 0), its token.

    The token is drawn anew each time a picture is shown, so that a late or doubled answer is never
    taken for the answer to another picture. It tells nothing about the picture.
    """

    token: str
    item: int
    place: int


@dataclass(frozen=True)
class Pace:
    """Answers a minute, pauses left out, and the seconds that the rest takes at that pace."""

    answers_a_minute: float
    seconds_left: float


class Labelling:
    """Shows the items of `study` to `annotator` in their order and stores what they answer."""

    def __init__(
        self,
        study: Study,
        annotator: str,
        store: AnswerStore,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read what the annotator has answered; `now` gives seconds of any steady clock.

        Raises InputError when the store can't be read.
        """
        self.study = study
        self.annotator = annotator
        self.total = len(study)
        self._store = store
        self._now = now
        self._order = order_for(study, annotator)
        self._face_ids = study.items["face_id"].to_pylist()
        self._repeats = study.items["repeat_of"].is_valid().to_pylist()
        self.refresh()

    @property
    def answered(self) -> int:
        """How many items this annotator has answered."""
        return len(self._given)

    @property
    def showing(self) -> Showing | None:
        """What is to be shown; None when everything is answered."""
        return self._showing

    def refresh(self) -> None:
        """Read what is stored, and show the first item of the order that has no answer."""
        stored = self._store.answers(self.study.key, self.study.sample, self.annotator)
        self._given = {answer.item: answer for answer in stored}
        self._show()

    def answer(self, token: str, choice: str, milliseconds: int | None) -> bool:
        """Store an answer to what is shown, then show the next item.

        False, and nothing is stored, when `token` is not that of what is shown, or when the item
        was answered elsewhere meanwhile (which is then shown as answered). `milliseconds` is what
        the page measured; without it, or beyond a day, it is the time since the picture was sent.
        Raises what the store raises; then the same item is still shown. Raises ValueError for a
        choice that the study doesn't have.
        """
        if choice not in self.study.choices:
            raise ValueError(f"{choice!r} is no answer of this study")
        shown = self._showing
        if shown is None or shown.token != token:
            return False
        if milliseconds is None or not 0 <= milliseconds <= _MOST_MILLISECONDS:
            milliseconds = min(int((self._now() - self._since) * 1000), _MOST_MILLISECONDS)
        answer = Answer(
            study=self.study.key,
            sample=self.study.sample,
            annotator=self.annotator,
            item=shown.item,
            face_id=self._face_ids[shown.item],
            answer=choice,
            milliseconds=milliseconds,
            shown_order=shown.place,
            repeat=self._repeats[shown.item],
            answered_at=datetime.now(UTC),
        )
        if not self._store.add(answer):
            self.refresh()
            return False
        self._given[shown.item] = answer
        self._show()
        return True

    def undo(self, token: str) -> bool:
        """Take the last answer back and show its item again; False when there is none.

        As for an answer, `token` must be that of what is shown ("" once everything is answered).
        """
        if token != (self._showing.token if self._showing else ""):
            return False
        taken = self._store.undo(self.study.key, self.study.sample, self.annotator)
        self.refresh()
        return taken is not None

    def upcoming(self, count: int) -> list[int]:
        """The next items without an answer after the one that is shown, `count` at most."""
        if self._showing is None:
            return []
        rest = self._order[self._showing.place + 1 :]
        return [item for item in rest if item not in self._given][:count]

    def pace(self) -> Pace | None:
        """How fast it goes, from the last answers; None before the first."""
        # Answers from files may have no time.
        timed = [answer for answer in self._given.values() if answer.milliseconds]
        if not timed:
            return None
        last = sorted(timed, key=lambda answer: answer.answered_at)[-_PACE_OF:]
        seconds = sum(answer.milliseconds for answer in last) / 1000
        return Pace(60 * len(last) / seconds, seconds / len(last) * (self.total - self.answered))

    def given(self) -> Counter[str]:
        """How often each choice was answered."""
        return Counter(answer.answer for answer in self._given.values())

    def _show(self) -> None:
        place = next((at for at, item in enumerate(self._order) if item not in self._given), None)
        self._since = self._now()
        self._showing = (
            None if place is None else Showing(secrets.token_hex(8), self._order[place], place)
        )
