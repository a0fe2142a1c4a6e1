"""What the process that steps are forked from has loaded, so that no step has to load it again.

Naming this module to Dagster's multiprocess executor takes most of a second off every step; pandas
is among it because pyarrow loads it by itself. What steps need that work with models stands in
`preload_models.py`.
"""

import alembic.command
import cv2
import dagster._core.execution.plan.execute_plan
import dagster._core.storage.event_log.sqlite.sqlite_event_log
import dagster._core.storage.local_compute_log_manager
import dagster._core.storage.runs.sqlite.sqlite_run_storage
import dagster._core.storage.schedules.sqlite.sqlite_schedule_storage
import pandas
import PIL.Image
import pyarrow.parquet

import fer_pipeline.definitions

__all__ = ["PIL", "alembic", "cv2", "dagster", "fer_pipeline", "pandas", "pyarrow"]
