"""Runs a program of another package with its log in the format that FER_LOG_FORMAT names.

    python -m fer_pipeline.logged mlflow server

The program is named as its package installs it.
"""

import sys
from importlib.metadata import entry_points

from fer_pipeline.logs import end_with, write_log_of_environment


def main() -> None:
    """Run the program that the first word names, with the words after it."""
    write_log_of_environment()
    sys.argv = sys.argv[1:]
    name = sys.argv[0] if sys.argv else ""
    programs = entry_points(group="console_scripts", name=name)
    if not programs:
        end_with(f"wrong input: no program {name!r} is installed beside this Python: name one")
    sys.exit(next(iter(programs)).load()())


if __name__ == "__main__":
    main()
