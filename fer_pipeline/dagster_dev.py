"""Runs `dagster dev` with the web server of `webserver.py` in place of Dagster's.

    python -m fer_pipeline.dagster_dev dev -m fer_pipeline.definitions

`dagster dev` has no option for it: what it starts is looked through here.
"""

import subprocess
from collections.abc import Sequence
from typing import Any

from dagster import _cli
from dagster._cli import dev

_THEIRS, _OURS = "dagster_webserver", "fer_pipeline.webserver"
_start = dev.open_ipc_subprocess  # type: ignore[attr-defined]


def started(parts: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
    """Start a process of `dagster dev`; in place of its web server our own."""
    ours = [_OURS if part == _THEIRS else part for part in parts]
    return _start(ours, **options)


def main() -> None:
    """Run the command of Dagster that this process is given."""
    dev.open_ipc_subprocess = started  # type: ignore[attr-defined]
    _cli.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
