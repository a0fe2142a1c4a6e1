"""The terminal, kept for what a command has to say."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text


def say(console: Console, text: str, *, head: str = "", style: str = "") -> None:
    """Print a line as it is, whatever brackets it holds, with a styled word before it."""
    words = Text.assemble((f"{head} ", style), text) if head else Text(text, style)
    console.print(words, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON on stdout."""
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()


@contextmanager
def output_to(log: Path, console: Console) -> Iterator[Console]:
    """Send what this process and the steps it starts print to `log`; give a console that doesn't.

    Frameworks and their native libraries write to the terminal as they like, which would break
    the progress bar and the JSON on stdout.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    out, err = os.dup(1), os.dup(2)
    with log.open("ab") as file, os.fdopen(err, "w", closefd=False) as terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield Console(
                file=terminal, force_terminal=console.is_terminal or None, width=console.width
            )
        finally:
            terminal.flush()
            for stream in (sys.stdout, sys.stderr):
                _flush(stream)
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.close(out)
            os.close(err)


def _flush(stream: TextIO) -> None:
    """Flush to the log, or to nowhere when its disk is full: not to the terminal later."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()
