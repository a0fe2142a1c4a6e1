import dagster as dg
from dagster._core.events import EngineEventData

from fer_pipeline.failures import StepFailures


def test_process_killed_after_its_work_is_told_of_with_the_remedy():
    failures = StepFailures()
    assert failures.after_success() is None
    failures.follow(
        dg.DagsterEvent(
            event_type_value="ENGINE_EVENT",
            job_name="pipeline",
            step_key="crop_shard[shard_00003]",
            message="Multiprocess executor: child process for step crop_shard[shard_00003] was "
            "terminated by signal 9 (SIGKILL). This usually indicates that the process was killed.",
            event_specific_data=EngineEventData(),
        )
    )
    assert failures.after_success() == (
        "crop_shard[shard_00003] was killed by signal 9 (SIGKILL) when it had done its work: "
        "run again, which goes on from what is there"
    )
