"""The password before the page, when it is shown to other machines."""

import hmac
import threading
import time
from collections.abc import Callable

_FIRST_SECONDS = 0.5
_MOST_SECONDS = 60.0


class Gate:
    """Compares passwords; after each wrong one nobody may try for twice as long as before.

    One gate serves all visitors of a page: a guesser gains nothing by many sessions. Those who
    are in stay in.
    """

    def __init__(self, password: str, now: Callable[[], float] = time.monotonic) -> None:
        """`password` is what is asked for; `now` gives seconds of any steady clock."""
        self._password = password.encode()
        self._now = now
        self._lock = threading.Lock()
        self._wrong = 0
        self._open_at = 0.0

    def admits(self, password: str) -> bool:
        """Whether this is the password; always False while `seconds_closed` is above 0."""
        with self._lock:
            if self._now() < self._open_at:
                return False
            if hmac.compare_digest(password.encode(), self._password):
                self._wrong = 0
                return True
            self._open_at = self._now() + min(_FIRST_SECONDS * 2**self._wrong, _MOST_SECONDS)
            self._wrong = min(self._wrong + 1, 16)
            return False

    @property
    def seconds_closed(self) -> float:
        """How long nobody may try."""
        with self._lock:
            return max(0.0, self._open_at - self._now())
