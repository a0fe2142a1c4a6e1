"""Processes that follow a step's output, and outlive a step that was killed as it began.

Dagster starts `tail` on the file of a step's output, then a process that watches for the end of the
step. A step that is killed between the two leaves the `tail` behind for ever.
"""

from collections.abc import Iterable

import psutil

from fer_pipeline.settings import Settings


def end_log_followers(settings: Settings, runs: Iterable[str]) -> int:
    """End what follows the output of these runs, which are over; gives their number.

    Another user's processes stay.
    """
    folders = tuple(f"{settings.dagster_home / 'storage' / run}/" for run in runs)
    ended = 0
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or [""]
        if process.info["name"] == "tail" and words[-1].startswith(folders):
            try:
                process.kill()
            except psutil.Error:
                continue
            ended += 1
    return ended
