"""Runs a program of another package with its log in the format that FER_LOG_FORMAT names.

    python -m fer_pipeline.logged dagster-daemon run

The program is named as its package installs it.
"""

import sys
from importlib.metadata import entry_points

from fer_pipeline.core.errors import InputError
from fer_pipeline.logs import log_format, write_log


def main() -> None:
    """Run the program that the first word names, with the words after it."""
    words = sys.argv[1:]
    try:
        write_log(log_format())
        programs = entry_points(group="console_scripts", name=words[0] if words else "")
        if not programs:
            raise InputError(f"no program {' '.join(words[:1])!r} is installed: name one")
    except InputError as error:
        sys.exit(f"wrong input: {error}")
    sys.argv = words
    sys.exit(next(iter(programs)).load()())


if __name__ == "__main__":
    main()
