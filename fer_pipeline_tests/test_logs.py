"""Lines of the log: how a record becomes one, and which programs write nothing else."""

import io
import json
import logging
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fer_pipeline.log_lines import BEGINNING, JsonLines
from fer_pipeline_tests.graph import environment

_RUN = """
import logging, sys, threading, warnings
import dagster as dg
from fer_pipeline.logs import log_format, write_log
write_log(log_format())

@dg.op
def divides(context):
    context.log.info("one\\ntwo")
    1 / 0

@dg.job(executor_def=dg.in_process_executor)
def failing():
    divides()

with dg.DagsterInstance.ephemeral() as instance:
    failing.execute_in_process(instance=instance, raise_on_error=False)
print("printed", end=" ")
print("in parts")
warnings.warn("careful")
logging.getLogger("fer_pipeline.x").info("quiet otherwise")
thread = threading.Thread(target=lambda: [][1], name="worker")
thread.start()
thread.join()
leaving = threading.Thread(target=sys.exit, name="leaving")
leaving.start()
leaving.join()
sys.stderr.write("waiting ...")
logging.getLogger("fer_pipeline.x").error("grave")
sys.stdout.write("unfinished")
raise ValueError("the end")
"""


def _line(logger: logging.Logger | None = None, **call: Any) -> dict[str, Any]:
    """What a call of `logger.error` writes, parsed."""
    stream = io.StringIO()
    logger = logger or logging.Logger("a.name")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    logger.error(call.pop("msg", "a message"), *call.pop("args", ()), **call)
    text = stream.getvalue()
    assert text.isascii()
    assert text.startswith(BEGINNING)
    assert text.count("\n") == 1
    found: dict[str, Any] = json.loads(text)
    return found


def test_line_says_when_how_grave_who_and_what() -> None:
    line = _line(msg="%s of %d", args=("one", 2), extra={"_of_a_package": 1})
    assert list(line) == ["time", "level", "logger", "message"]
    assert line | {"time": ""} == {
        "time": "",
        "level": "error",
        "logger": "a.name",
        "message": "one of 2",
    }
    age = datetime.now(UTC) - datetime.fromisoformat(line["time"])
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert line["time"].endswith("Z")


@pytest.mark.parametrize(
    "message",
    ["two\nlines\r\n", "Grüße 表情 😀", 'quotes " and \\', "\u2028", "\udc80", "\x1b[31m"],
)
def test_any_text_is_one_line_and_comes_back_as_it_was(message: str) -> None:
    assert _line(msg="%s", args=(message,))["message"] == message


def test_traceback_is_one_string() -> None:
    try:
        json.loads("no JSON")
    except ValueError:
        line = _line(exc_info=True)
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert "JSONDecodeError" in line["exception"]
    assert "exception" not in _line(exc_info=False)


def test_extra_fields_stand_beside_the_others_and_replace_none() -> None:
    line = _line(extra={"ms": 1.5, "path": None, "level": "mine", "what": {1}})
    assert line["ms"] == 1.5
    assert line["path"] is None
    assert line["what"] == "{1}"
    assert line["level"] == "error"


def test_access_line_of_uvicorn_has_fields_and_no_query() -> None:
    words = ("127.0.0.1:1", "GET", "/a?token=secret", "1.1", 200)
    line = _line(logging.Logger("uvicorn.access"), msg='%s - "%s %s HTTP/%s" %d', args=words)
    assert (line["method"], line["path"], line["status"]) == ("GET", "/a", 200)
    assert "secret" not in str(line)


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    """What a program writes that runs a failing job of Dagster, prints, warns and fails."""
    ended = subprocess.run(
        [sys.executable, "-c", _RUN],
        env=environment(FER_LOG_FORMAT="json"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    return [json.loads(line) for line in (ended.stdout + ended.stderr).splitlines()]


def test_lines_of_a_run_name_it_and_a_failure_has_its_traceback(
    lines: list[dict[str, Any]],
) -> None:
    of_run = [line for line in lines if "run_id" in line]
    assert len({line["run_id"] for line in of_run}) == 1
    (told,) = [line for line in of_run if line["message"] == "one\ntwo"]
    assert (told["job"], told["step"], told["level"]) == ("failing", "divides", "info")
    (failure,) = [line for line in of_run if line.get("event") == "STEP_FAILURE"]
    assert "ZeroDivisionError" in failure["exception"]
    assert failure["level"] == "error"


def test_what_is_printed_warned_of_and_uncaught_is_a_line_too(lines: list[dict[str, Any]]) -> None:
    by_message = {line["message"]: line for line in lines}
    assert by_message["printed in parts"]["logger"] == "stdout"
    assert by_message["unfinished"]["logger"] == "stdout"
    assert by_message["quiet otherwise"]["level"] == "info"
    assert "careful" in next(line["message"] for line in lines if line["logger"] == "py.warnings")
    assert by_message["waiting ..."]["level"] == "info"
    assert by_message["grave"]["level"] == "error"
    assert not [message for message in by_message if "leaving" in message]
    assert "IndexError" in by_message["worker ended by IndexError"]["exception"]
    assert by_message["ended by ValueError"]["exception"].endswith("ValueError: the end")
    assert by_message["ended by ValueError"]["level"] == "critical"


@pytest.mark.parametrize(
    ("form", "words", "said"),
    [
        ("xml", ("logged", "dagster"), "FER_LOG_FORMAT is 'xml': give text or json"),
        ("xml", ("webserver",), "FER_LOG_FORMAT is 'xml': give text or json"),
        ("text", ("logged", "no-such-program"), "no program 'no-such-program' is installed"),
        ("json", ("logged",), "no program '' is installed"),
    ],
)
def test_wrong_format_or_program_is_one_sentence(
    form: str, words: tuple[str, ...], said: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", f"fer_pipeline.{words[0]}", *words[1:]],
        env=environment(FER_LOG_FORMAT=form),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
