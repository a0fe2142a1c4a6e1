"""A step of a run of Dagster's pages waits for a command that works on its home.

Its place in a pool it gives up meanwhile, since the command may need that place to end.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from dagster import DagsterInstance, DagsterRun

from fer_pipeline.instance import is_of_a_command, lock_holder
from fer_pipeline.settings import Settings

_log = logging.getLogger(__name__)
_SECONDS = 0.5


@dataclass(frozen=True)
class Place:
    """A step of a run, and the pool in which it has a place."""

    instance: DagsterInstance
    pool: str
    run_id: str
    step: str

    def is_taken(self) -> bool:
        """Whether the step has it; where pools count runs, steps have none."""
        held = self.instance.event_log_storage.get_concurrency_info(self.pool).claimed_slots
        return any((one.run_id, one.step_key) == (self.run_id, self.step) for one in held)

    def leave(self) -> None:
        """Give it, or the wait for it, up."""
        self.instance.event_log_storage.free_concurrency_slot_for_step(self.run_id, self.step)

    def take(self) -> bool:
        """Ask for it; until that says True the step stands in the queue for it."""
        claim = self.instance.event_log_storage.claim_concurrency_slot(
            self.pool, self.run_id, self.step
        )
        return bool(claim.is_claimed)


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
        if holder is not None and holder != told:
            tell(f"waiting for a command (process {holder}) that works on {settings.home}")
            if place is not None:
                place.leave()
                there = False
        elif holder is None:
            if there or place is None:
                return
            # Then the lock is looked at once more: another command may have come meanwhile.
            there = place.take()
        told = holder
        if holder is not None or not there:
            time.sleep(_SECONDS)
