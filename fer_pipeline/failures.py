"""Why a step failed, in one sentence for the user, from the events in its run's log."""

import re
from dataclasses import dataclass, field

from dagster import (
    AssetCheckSeverity,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
)

UNEXPECTED = "unexpected"
"""Metadata key of a failure whose words nobody wrote for the user: they need the step's name."""
_CRASH = "ChildProcessCrashException"
_ENDED = re.compile(
    r"child process for step .+ (was terminated by|unexpectedly exited with) ([^.]+)"
)
_KILLED = "(SIGKILL)"
_REMEDY = "run again, which goes on from what is there"
INTERRUPTED = "DagsterExecutionInterruptedError"
STOPPED = f"stopped: {_REMEDY}"
"""What is said of a run that Ctrl-C or a signal stopped, whether a step was stopped with it or not.
"""


@dataclass
class StepFailures:
    """Follows a run's events; what its executor says of a dead process comes before the failure."""

    _ends: dict[str, str] = field(default_factory=dict)
    _crash_is_told: bool = False

    def follow(self, event: DagsterEvent) -> None:
        """Note how a step's process ended, if the event tells."""
        if event.event_type == DagsterEventType.ENGINE_EVENT and event.step_key:
            found = _ENDED.search(event.message or "")
            if found is not None:
                verb = "was killed by" if "terminated" in found[1] else "ended with"
                self._ends[event.step_key] = f"{verb} {found[2]}"
        elif event.event_type == DagsterEventType.STEP_RESTARTED and event.step_key:
            self._ends.pop(event.step_key, None)

    def again(self, event: DagsterEvent) -> str | None:
        """What is said of a step that is tried once more.

        Nothing of one that was stopped: Dagster says so of it too, and then ends the run.
        """
        how = self._ends.get(event.step_key or "")
        return None if how is None else f"{event.step_key} {how}: trying once more"

    def after_success(self) -> str | None:
        """What is said of a process that was killed when its step had succeeded.

        Dagster's executor ends the whole run then, without a failed step.
        """
        for step, how in self._ends.items():
            return f"{step} {how} when it had done its work: {_REMEDY}"
        return None

    def sentence(self, event: DagsterEvent) -> str | None:
        """Why the step failed; None when that is told elsewhere, or was told of another step."""
        data = event.step_failure_data
        if data.user_failure_data is not None:
            words = str(data.user_failure_data.description)
            unexpected = UNEXPECTED in data.user_failure_data.metadata
            return f"{event.step_key}: {words}" if unexpected else words
        if data.error is None or "AssetCheckFailed" in (data.error.cls_name or ""):
            return None
        if data.error.cls_name != _CRASH:
            cause = data.error.cause or data.error
            if INTERRUPTED in (data.error.cls_name, cause.cls_name):
                return STOPPED
            return f"{event.step_key}: {cause.message.strip()}"
        if self._crash_is_told:
            return None
        self._crash_is_told = True
        how = self._ends.get(event.step_key or "", "ended without a word")
        if _KILLED in how:
            return (
                f"{event.step_key} {how}, as the system does when memory runs out: free some, or "
                f"run fewer steps at once with FER_WORKERS, then {_REMEDY}"
            )
        return f"{event.step_key} {how}: {_REMEDY}"


def first_problem(instance: DagsterInstance, run_id: str) -> str:
    """The first sentence of why a run failed, from the events in its log."""
    failures, ended = StepFailures(), ""
    for entry in instance.all_logs(run_id, of_type=_TELLING):
        event = entry.dagster_event
        if event is None:
            continue
        failures.follow(event)
        if event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
            found = event.asset_check_evaluation_data
            if not found.passed and found.severity == AssetCheckSeverity.ERROR:
                asset = found.asset_key.to_user_string()
                return f"{asset}, check {found.check_name}: {found.description}"
        elif event.event_type == DagsterEventType.STEP_FAILURE:
            sentence = failures.sentence(event)
            if sentence is not None:
                return sentence
        elif event.event_type == DagsterEventType.RUN_FAILURE:
            ended = event.message or ""
            # A run that a sensor closed has no more to tell than that message.
            error = None
            if event.event_specific_data is not None:
                error = event.job_failure_data.error
            if error is not None and error.cls_name == INTERRUPTED:
                ended = STOPPED
    return failures.after_success() or ended or "its log doesn't say why"


_TELLING = {
    DagsterEventType.ASSET_CHECK_EVALUATION,
    DagsterEventType.ENGINE_EVENT,
    DagsterEventType.RUN_FAILURE,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.STEP_RESTARTED,
}
