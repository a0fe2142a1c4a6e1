"""Where a service's log goes, and in what format: FER_LOG_FORMAT.

Text, the default, leaves logging as it is. With JSON every handler that writes to the terminal
writes lines of JSON, whoever made it: Dagster, MLflow, Streamlit and uvicorn each bring handlers
and formats of their own, and Dagster's own format json loses tracebacks and isn't followed by its
runs. How a line is made stands in `log_lines.py`.
"""

import atexit
import io
import logging
import os
import sys
import threading
from types import TracebackType
from typing import Literal, NoReturn, TextIO, get_args

from fer_pipeline.core.errors import InputError
from fer_pipeline.log_lines import BEGINNING, JsonLines

LogFormat = Literal["text", "json"]
VARIABLE = "FER_LOG_FORMAT"

_log = logging.getLogger("fer_pipeline")


def log_format() -> LogFormat:
    """The format that the environment names, for processes that belong to no home.

    Raises InputError when there is no such format.
    """
    given = os.environ.get(VARIABLE) or "text"
    for known in get_args(LogFormat):
        if given == known:
            return known  # type: ignore[no-any-return]
    raise InputError(f"{VARIABLE} is {given!r}: give text or json, or leave it out")


def write_log_of_environment() -> None:
    """As `write_log` for what FER_LOG_FORMAT says; ends the process with 2 when that is wrong."""
    try:
        write_log(log_format())
    except InputError as error:
        end_with(f"wrong input: {error}")


def end_with(problem: str) -> NoReturn:
    """End this process with a sentence and exit code 2."""
    if writes_json():
        _log.error(problem)
    else:
        sys.stderr.write(problem + "\n")
    sys.exit(2)


def write_log(form: LogFormat) -> None:
    """Write all that this process logs and prints in this format, uncaught errors too."""
    if form == "text" or writes_json():
        return
    format_handlers(form)
    sys.stdout = _PrintedLines(sys.stdout)
    sys.stderr = _PrintedLines(sys.stderr)
    sys.excepthook = _tell_error
    threading.excepthook = _tell_error_of_thread


def writes_json() -> bool:
    """Whether what this process prints becomes lines of JSON."""
    return isinstance(sys.stderr, _PrintedLines)


def format_handlers(form: LogFormat) -> None:
    """Let all handlers that write to a stream do it in this format; what is printed stays."""
    if form == "text" or logging.StreamHandler.setFormatter is _set_json_formatter:
        return
    # What every library calls that brings a format of its own.
    logging.StreamHandler.setFormatter = _set_json_formatter  # type: ignore[method-assign, assignment]
    for handler in _handlers():
        handler.setFormatter(None)
    # For loggers without handlers. One at the root would write twice what others write as well.
    last: logging.StreamHandler[TextIO] = logging.StreamHandler(sys.stderr)
    last.setFormatter(None)
    logging.lastResort = last
    _log.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    # It would be given a handler that writes nothing.
    warned = logging.getLogger("py.warnings")
    warned.addHandler(last)
    warned.propagate = False


def json_lines() -> JsonLines:
    """The formatter for a file that configures logging, of a process that no code of ours starts.

    MLflow's server is one: uvicorn starts its workers. Their other handlers follow.
    """
    format_handlers("json")
    return JsonLines()


def _set_json_formatter(
    handler: "logging.StreamHandler[TextIO]", form: logging.Formatter | None
) -> None:
    to_file = isinstance(handler, logging.FileHandler)
    logging.Handler.setFormatter(handler, form if to_file else JsonLines())


def _handlers() -> list["logging.StreamHandler[TextIO]"]:
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    found = {id(one): one for logger in loggers for one in logger.handlers}
    return [
        one
        for one in found.values()
        if isinstance(one, logging.StreamHandler) and not isinstance(one, logging.FileHandler)
    ]


class _PrintedLines(io.TextIOBase):
    """A stream that makes a record of every line that is printed to it, in any thread."""

    def __init__(self, beneath: TextIO) -> None:
        self._beneath = beneath
        self._name = beneath.name.strip("<>")
        self._begun = threading.local()
        atexit.register(self._end)

    def write(self, text: str) -> int:
        """Take text; what has no line end yet waits for it."""
        begun = getattr(self._begun, "text", "")
        if begun and text.startswith(BEGINNING):
            # A record of its own, which what was begun before must not swallow.
            begun += "\n"
        *lines, rest = (begun + text).split("\n")
        self._begun.text = rest
        for line in lines:
            if line.startswith(BEGINNING):
                # A handler wrote it.
                self._beneath.write(line + "\n")
            elif line.strip():
                self._beneath.write(self._json(line.rstrip()) + "\n")
        if lines:
            self._beneath.flush()
        return len(text)

    def _end(self) -> None:
        if getattr(self._begun, "text", ""):
            self.write("\n")

    def _json(self, line: str) -> str:
        record = {"name": self._name, "levelno": logging.INFO, "levelname": "INFO", "msg": line}
        return JsonLines().format(logging.makeLogRecord(record))

    def flush(self) -> None:
        """Pass on; an unfinished line still waits for its end."""
        self._beneath.flush()

    def fileno(self) -> int:
        """The descriptor that lines go to, for processes that are started."""
        return self._beneath.fileno()

    def isatty(self) -> bool:
        """Never a terminal: nobody wants colours in JSON."""
        return False

    def writable(self) -> bool:
        """Whether it takes text: yes."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As what is beneath."""
        return self._beneath.encoding


def _tell_error(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    _log.critical("ended by %s", kind.__name__, exc_info=(kind, error, trace))


def _tell_error_of_thread(given: threading.ExceptHookArgs) -> None:
    # Python's own hook says nothing of a thread that ended itself, either.
    if given.exc_value is not None and given.exc_type is not SystemExit:
        name = given.thread.name if given.thread else "a thread"
        trace = (given.exc_type, given.exc_value, given.exc_traceback)
        _log.error("%s ended by %s", name, given.exc_type.__name__, exc_info=trace)
