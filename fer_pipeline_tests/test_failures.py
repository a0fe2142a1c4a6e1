import dagster as dg
from dagster._core.events import EngineEventData
from dagster._core.execution.plan.objects import StepFailureData
from dagster._utils.error import SerializableErrorInfo

from fer_pipeline.failures import STOPPED, StepFailures


def _failed(error: SerializableErrorInfo) -> dg.DagsterEvent:
    return dg.DagsterEvent(
        event_type_value="STEP_FAILURE",
        job_name="pipeline",
        step_key="crop_shard[shard_00003]",
        event_specific_data=StepFailureData(error=error, user_failure_data=None),
    )


def test_a_step_that_a_signal_stopped_is_told_of_as_stopped_not_as_broken():
    interrupted = SerializableErrorInfo("stopped\n", [], "DagsterExecutionInterruptedError")
    wrapped = SerializableErrorInfo("step\n", [], "DagsterExecutionStepError", cause=interrupted)
    broken = SerializableErrorInfo("step\n", [], "DagsterExecutionStepError", cause=None)
    assert StepFailures().sentence(_failed(interrupted)) == STOPPED
    assert StepFailures().sentence(_failed(wrapped)) == STOPPED
    assert StepFailures().sentence(_failed(broken)) == "crop_shard[shard_00003]: step"


_KILLED = dg.DagsterEvent(
    event_type_value="ENGINE_EVENT",
    job_name="pipeline",
    step_key="crop_shard[shard_00003]",
    message="Multiprocess executor: child process for step crop_shard[shard_00003] was "
    "terminated by signal 9 (SIGKILL). This usually indicates that the process was killed.",
    event_specific_data=EngineEventData(),
)


def test_process_killed_after_its_work_is_told_of_with_the_remedy():
    failures = StepFailures()
    assert failures.after_success() is None
    failures.follow(_KILLED)
    assert failures.after_success() == (
        "crop_shard[shard_00003] was killed by signal 9 (SIGKILL) when it had done its work: "
        "run again, which goes on from what is there"
    )


def _retry(kind):
    return dg.DagsterEvent(
        event_type_value=kind, job_name="pipeline", step_key="crop_shard[shard_00003]"
    )


def test_step_that_was_killed_and_succeeds_when_tried_again_is_no_reason_any_more():
    failures = StepFailures()
    failures.follow(_KILLED)
    failures.follow(_retry("STEP_UP_FOR_RETRY"))
    assert failures.again(_retry("STEP_UP_FOR_RETRY")) == (
        "crop_shard[shard_00003] was killed by signal 9 (SIGKILL): trying once more"
    )
    failures.follow(_retry("STEP_RESTARTED"))
    assert failures.after_success() is None


def test_step_that_was_stopped_is_not_said_to_be_tried_again():
    assert StepFailures().again(_retry("STEP_UP_FOR_RETRY")) is None
