"""What a home holds, as a table for people and as one JSON object for programs."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from fer_pipeline.core.crop_set import read_crop_set
from fer_pipeline.plan import AssetState
from fer_pipeline.reports import people_report_file, read_metrics, read_people_figures
from fer_pipeline.settings import Settings

STREAM_FIELDS = (
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "macro_f1",
    "balanced_accuracy",
    "majority_accuracy",
    "linear_accuracy",
    "ece",
    "mlflow_run_id",
    "model_uri",
    "report",
)
PEOPLE_FIELDS = (
    "answers",
    "annotators",
    "agreement",
    "agreement_low",
    "agreement_high",
    "implied_ceiling",
    "implied_ceiling_low",
    "implied_ceiling_high",
    "test_people_accuracy",
    "test_model_accuracy",
)


def run_summary(settings: Settings, states: Sequence[AssetState]) -> dict[str, Any]:
    """Rows read, indexed and rejected, faces by status, and each stream's figures.

    Only what is up to date is told: a stage that was never made, or was made from other data or
    settings, is left out.
    """
    found: dict[str, Any] = {"home": str(settings.home)}
    metadata = {
        state.key.to_user_string(): state.metadata for state in states if state.reason is None
    }
    index = metadata.get("file_list_index", {}).get("summary")
    if index is not None:
        for name in ("rows_read", "rows_indexed", "rows_rejected"):
            found[name] = index[name]
        found["rejected_by_reason"] = index["rejected_by_reason"]
    manifest = metadata.get("class_manifest", {}).get("summary")
    if manifest is not None:
        found["rows_by_split"] = manifest["rows_by_split"]
        found["left_out"] = manifest["left_out"]
        found["manifest_hash"] = manifest["manifest_hash"]
    crops = "face_crops" in metadata
    found["faces"] = read_crop_set(settings.crops_folder).statuses if crops else {}
    found["streams"] = {
        stream: stream_figures(settings, stream)
        for stream in settings.active_streams
        if f"{stream}/evaluation_report" in metadata
    }
    for stream, figures in found["streams"].items():
        if f"{stream}/human_error_report" in metadata:
            figures["people"] = people_figures(settings, stream)
    return found


def people_figures(settings: Settings, stream: str) -> dict[str, Any]:
    """The figures of one stream's report on people that a summary holds."""
    found = read_people_figures(settings, stream)["scalars"]
    kept = {name: found[name] for name in PEOPLE_FIELDS if name in found}
    return {**kept, "report": str(people_report_file(settings, stream))}


def stream_figures(settings: Settings, stream: str) -> dict[str, Any]:
    """The figures of one stream's report that a summary holds."""
    metrics = read_metrics(settings, stream)
    return {**{name: metrics[name] for name in STREAM_FIELDS}, "n_test": int(metrics["n"])}


def summary_tables(found: Mapping[str, Any]) -> list[Table]:
    """The summary as tables: rows, faces, streams."""
    rows = Table("rows of the lists", "number", title_justify="left")
    for name in ("rows_read", "rows_indexed", "rows_rejected"):
        if name in found:
            rows.add_row(name.removeprefix("rows_"), f"{found[name]:,}")
    for reason, count in found.get("rejected_by_reason", {}).items():
        rows.add_row(f"  rejected: {reason}", f"{count:,}")
    for reason, count in found.get("left_out", {}).items():
        rows.add_row(f"  left out of the manifest: {reason}", f"{count:,}")
    faces = Table("faces of the manifest", "number")
    for split, count in found.get("rows_by_split", {}).items():
        faces.add_row(f"split {split}", f"{count:,}")
    for status, count in found.get("faces", {}).items():
        if count:
            faces.add_row(f"status {status}", f"{count:,}")
    streams = Table("stream", "accuracy (95% interval)", "macro-F1", "majority", "linear")
    for stream, figures in found.get("streams", {}).items():
        streams.add_row(
            stream,
            f"{figures['accuracy']:.3f} ({figures['accuracy_low']:.3f} to "
            f"{figures['accuracy_high']:.3f}), n = {figures['n_test']:,}",
            f"{figures['macro_f1']:.3f}",
            f"{figures['majority_accuracy']:.3f}",
            f"{figures['linear_accuracy']:.3f}",
        )
    return [rows, faces, streams]
