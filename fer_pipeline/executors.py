"""Where steps run: processes of this machine, or jobs on a Ray cluster.

The Ray executor is dagster-ray's, told here what a step of this graph needs, and made to end where
it would wait for ever: jobs that were stopped, a cluster that no longer answers.
"""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.base import Executor
from dagster._core.executor.init import InitExecutorContext

from fer_pipeline.settings import Settings

TRAINING_POOL = "training"
"""At most one training step at a time: two would take each other's cores, or the GPU's memory."""
LOCAL = "local"
RAY = "ray"

_OF_MODELS = {"trained_model", "evaluation_report", "label_issues"}
"""Assets whose steps load `preload_models`."""
_POLL_SECONDS = 0.3
_HEALTH_SECONDS = 5
_SILENCE_SECONDS = 60.0


def executor_for(settings: Settings) -> dg.ExecutorDefinition:
    """The executor that the settings name."""
    if settings.executor == RAY:
        return _ray_executor(settings)
    return _local_executor(settings)


def needed_cpus(settings: Settings, pool: str | None, largest: int) -> int:
    """CPUs that a step asks for: one, or for training `threads` (default: a whole node)."""
    if pool != TRAINING_POOL:
        return 1
    return min(settings.threads or largest, largest)


def _local_executor(settings: Settings) -> dg.ExecutorDefinition:
    @dg.executor(name="multiprocess", requirements=multiple_process_executor_requirements())
    def multiprocess(context: InitExecutorContext) -> Executor:
        """One process for each step."""
        from dagster._core.executor.multiprocess import MultiprocessExecutor

        asked = context.job.get_definition().asset_layer.selected_asset_keys
        loaded = ["fer_pipeline.preload"]
        if any(key.path[-1] in _OF_MODELS for key in asked):
            loaded.append("fer_pipeline.preload_models")
        return MultiprocessExecutor(
            retries=RetryMode.ENABLED,
            max_concurrent=settings.workers,
            # A forked process would inherit TensorFlow's and OpenCV's threads; a fresh
            # interpreter for each step would import Dagster anew.
            start_method="forkserver",
            explicit_forkserver_preload=loaded,
        )

    return multiprocess


def _ray_executor(settings: Settings) -> dg.ExecutorDefinition:
    @dg.executor(name=RAY, requirements=multiple_process_executor_requirements())
    def ray(_context: InitExecutorContext) -> Executor:
        """One Ray job for each step."""
        from dagster._core.executor.step_delegating import StepDelegatingExecutor

        from fer_pipeline.cluster import find_cluster

        cluster = find_cluster()
        return StepDelegatingExecutor(
            _step_handler(settings, cluster),
            retries=RetryMode.ENABLED,
            sleep_seconds=_POLL_SECONDS,
            check_step_health_interval_seconds=_HEALTH_SECONDS,
            # Ray gives up on a job that has waited a quarter of an hour for a CPU.
            max_concurrent=cluster.cpus,
            should_verify_step=True,
        )

    return ray


def _step_handler(settings: Settings, cluster: Any) -> Any:
    from dagster._core.executor.step_delegating import CheckStepHealthResult
    from dagster_ray.configs import RayExecutionConfig
    from dagster_ray.core.executor import RayStepHandler

    from fer_pipeline import lease
    from fer_pipeline.cluster import node_environment

    class Steps(RayStepHandler):
        """dagster-ray's handler with resources by step and an end to every wait."""

        def __init__(self) -> None:
            super().__init__(
                client=cluster.client,
                env_vars=None,
                runtime_env={"env_vars": node_environment(settings)},
                num_cpus=None,
                num_gpus=None,
                memory=None,
                resources=None,
            )
            self._answered = time.monotonic()
            self._ended: Counter[str] = Counter()

        def launch_step(self, context: Any) -> Iterator[dg.DagsterEvent]:
            lease.keep(context.instance, context.execute_step_args.run_id)
            key = self._get_step_key(context)
            asked = RayExecutionConfig.from_tags(context.step_tags[key])
            pool = context.get_step_context(key).step.pool
            # What is set here goes before the tag in dagster-ray.
            self.num_cpus = asked.num_cpus or needed_cpus(settings, pool, cluster.largest)
            yield from super().launch_step(context)

        def check_step_health(self, context: Any) -> CheckStepHealthResult:
            job = self._get_ray_job_submission_id(context)
            try:
                status = self.client.get_job_status(job)
            except OSError:
                silence = time.monotonic() - self._answered
                if silence < _SILENCE_SECONDS:
                    return CheckStepHealthResult.healthy()
                return CheckStepHealthResult.unhealthy(
                    f"the Ray cluster at {cluster.address} hasn't answered for {silence:.0f} s"
                )
            except RuntimeError:
                return CheckStepHealthResult.unhealthy(
                    f"the Ray cluster at {cluster.address} knows no job {job}: was it restarted?"
                )
            self._answered = time.monotonic()
            # What an ended step has to say is read after its end: the second look decides.
            self._ended[job] += status.is_terminal()
            if self._ended[job] < 2:
                return CheckStepHealthResult.healthy()
            message = self.client.get_job_info(job).message or "it said nothing"
            return CheckStepHealthResult.unhealthy(
                f"Ray job {job} ended ({status}) before its step did: {message}"
            )

    return Steps()
