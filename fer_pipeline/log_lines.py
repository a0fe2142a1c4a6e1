"""Log records as lines of JSON. When and where they are written so stands in `logs.py`."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

BEGINNING = '{"time": "'
"""What every line begins with."""

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LEFT_OUT = _OWN | {
    # Objects of Dagster, whose fields are taken one by one.
    "dagster_meta",
    "dagster_event",
    "dagster_event_batch_metadata",
    # uvicorn's message once more, for terminals.
    "color_message",
}
_ACCESS = "uvicorn.access"


class JsonLines(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, message, and what else is known.

    `exception` is the traceback, as one string. What a call gave as `extra` are fields by their
    names; none takes the place of another. Records of a Dagster run have `run_id`, `job`, `step`
    and `event`, those of uvicorn's access log `method`, `path` (without its query, which may hold
    a secret) and `status`. Anything beyond ASCII is escaped, so that any stream takes a line.
    """

    def __init__(self, *_: object, **__: object) -> None:
        """Take the place of any formatter, whatever that was told of its format."""
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, without its end."""
        known = {name: value for name, value in _fields(record) if value is not None}
        # What begins with an underscore is some package's own, such as Ray's.
        more = {
            name: value
            for name, value in vars(record).items()
            if not (name in _LEFT_OUT or name.startswith("_"))
        }
        exception = self._exception(record)
        if exception:
            known["exception"] = exception
        return json.dumps(
            known | {name: more[name] for name in more if name not in known}, default=str
        )

    def _exception(self, record: logging.LogRecord) -> str | None:
        parts = [_error_of_event(record)]
        if record.exc_info and record.exc_info[0] is not None:
            parts.append(self.formatException(record.exc_info))
        elif record.exc_text:
            parts.append(record.exc_text)
        if record.stack_info:
            parts.append(self.formatStack(record.stack_info))
        return "\n".join(part for part in parts if part) or None


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    # With microseconds always, so that lines sort as they stand.
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
    yield "time", time.replace("+00:00", "Z")
    yield "level", record.levelname.lower()
    yield "logger", record.name
    meta = getattr(record, "dagster_meta", None)
    if meta is not None:
        # The message of the record repeats these, and the traceback, before its own words.
        yield "message", str(meta["orig_message"])
        event = meta["dagster_event"]
        yield "run_id", meta["run_id"]
        yield "job", meta["job_name"]
        yield "step", meta["step_key"]
        yield "event", None if event is None else event.event_type_value
    elif record.name == _ACCESS and isinstance(record.args, tuple) and len(record.args) == 5:
        _, method, address, _, status = record.args
        path = str(address).partition("?")[0]
        yield "message", f"{method} {path} {status}"
        yield "method", method
        yield "path", path
        yield "status", status
    else:
        yield "message", record.getMessage()


def _error_of_event(record: logging.LogRecord) -> str | None:
    meta = getattr(record, "dagster_meta", None) or {}
    data = getattr(meta.get("dagster_event"), "event_specific_data", None)
    error = getattr(data, "error", None)
    if error is None:
        return None
    return str(getattr(data, "error_display_string", None) or error.to_string())
