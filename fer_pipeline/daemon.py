"""Dagster's daemon, which ends when the clock is set back; its log in FER_LOG_FORMAT.

Its loops wait by the time of day: set back by an hour, it would start no run for an hour, and still
look healthy. Whoever runs it starts it anew, as compose does; runs aren't its children.
"""

import logging
import os
import threading
import time

from dagster._daemon.cli import main as run_daemon

from fer_pipeline.logs import write_log_of_environment

_LOOK_SECONDS = 5.0
_SET_BACK_SECONDS = 30.0
_log = logging.getLogger("fer_pipeline.daemon")


def main() -> None:
    """Run `dagster-daemon` with the words of this process."""
    write_log_of_environment()
    threading.Thread(target=_end_when_set_back, daemon=True).start()
    run_daemon()


def _end_when_set_back() -> None:
    latest = _offset()
    while (offset := _offset()) > latest - _SET_BACK_SECONDS:
        # A clock that is slowed down until it is right again never goes back.
        latest = offset
        time.sleep(_LOOK_SECONDS)
    _log.error("the clock was set back by %.0f s: ending, to be started anew", latest - offset)
    os._exit(1)


def _offset() -> float:
    """The time of day against a clock that only goes forward, in seconds."""
    return time.time() - time.monotonic()


if __name__ == "__main__":
    main()
