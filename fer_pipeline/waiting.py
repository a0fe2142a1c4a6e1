"""A step of a run of Dagster's pages waits for a command that works on its home.

Its place in a pool it gives up meanwhile where another run wants it: the command may need that
place to end.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from dagster import DagsterInstance, DagsterRun

from fer_pipeline.instance import is_of_a_command, lock_holder
from fer_pipeline.settings import Settings

_log = logging.getLogger(__name__)
_SECONDS = 1.0
_PRIORITY_TAG = "dagster/priority"


@dataclass(frozen=True)
class Place:
    """A step of a run, and the pool in which it has a place.

    Where the database of events can't be asked for a while, nothing is done, and nothing is so.
    """

    instance: DagsterInstance
    pool: str
    run: DagsterRun
    step: str

    def is_taken(self) -> bool:
        """Whether the step has it; where pools count runs, steps have none."""
        with _database_away():
            return (self.run.run_id, self.step) in self._holders()
        return False

    def is_wanted(self) -> bool:
        """Whether a step of another run stands in line for it."""
        with _database_away():
            return any(run_id != self.run.run_id for run_id, _ in self._line())
        return False

    def leave(self) -> bool:
        """Give it, or the wait for it, up; whether that was done.

        Steps of the same run leave the line too: in the line before this step they would bar its
        way, as their run may have no process to spare for them until this one ends. The run puts
        them there again.
        """
        with _database_away():
            self._send_siblings_away()
            self._free(self.step)
            return True
        return False

    def take(self) -> bool:
        """Ask for it, and stand in line for it until that says True; True for a pool without limit.

        Steps of the same run that are in the line are sent away, as in `leave`.
        """
        storage = self.instance.event_log_storage
        with _database_away():
            self._send_siblings_away()
            if all(one.name != self.pool for one in storage.get_pool_limits()):
                storage.initialize_concurrency_limit_to_default(self.pool)
                if all(one.name != self.pool for one in storage.get_pool_limits()):
                    return True
            priority = self.run.tags.get(_PRIORITY_TAG, "")
            claim = storage.claim_concurrency_slot(
                *(self.pool, self.run.run_id, self.step),
                int(priority) if priority.lstrip("-").isdigit() else 0,
            )
            return bool(claim.is_claimed)
        return False

    def _holders(self) -> set[tuple[str, str]]:
        found = self.instance.event_log_storage.get_concurrency_info(self.pool).claimed_slots
        return {(one.run_id, one.step_key) for one in found}

    def _line(self) -> set[tuple[str, str]]:
        """Run and step of all that stand in line."""
        found = self.instance.event_log_storage.get_concurrency_info(self.pool).pending_steps
        return {(one.run_id, one.step_key) for one in found} - self._holders()

    def _send_siblings_away(self) -> None:
        for run_id, step in self._line():
            if run_id == self.run.run_id and step != self.step:
                self._free(step)

    def _free(self, step: str) -> None:
        self.instance.event_log_storage.free_concurrency_slot_for_step(self.run.run_id, step)


def _database_away() -> contextlib.suppress:
    # Its import takes a tenth of a second, which every step would pay.
    from sqlalchemy.exc import SQLAlchemyError

    return contextlib.suppress(SQLAlchemyError)


def wait_for_command(
    settings: Settings,
    run: DagsterRun,
    place: Place | None = None,
    tell: Callable[[str], None] = _log.info,
) -> None:
    """Return when no command holds the home's lock; for the steps of a run of Dagster's pages.

    A command isn't always seen in the queue of runs, and may read what a step replaces, as a sweep
    reads crops. It never waits for a run in its turn, see `refuse_beside_ui_runs`, except for the
    `place` of this step, which is therefore left and taken again. `tell` is told whom a step waits
    for.
    """
    if is_of_a_command(run) or lock_holder(settings.state_folder) is None:
        return
    if place is not None and not place.is_taken():
        place = None
    told = None
    there = True
    while True:
        holder = lock_holder(settings.state_folder)
        if holder is None:
            if there or place is None:
                return
            there = place.take()
        else:
            if holder != told:
                tell(f"waiting for a command (process {holder}) that works on {settings.home}")
            # The step stands in line where it waited for its place as another command came.
            if place is not None and (place.is_wanted() if there else told is None):
                left = place.leave()
                there = there and not left
        told = holder
        # A place that was just taken: another command may have come before it was.
        if holder is not None or not there:
            time.sleep(_SECONDS)
