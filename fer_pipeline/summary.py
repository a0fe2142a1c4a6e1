"""What a home holds, as a table for people and as one JSON object for programs."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from fer_pipeline.champion import champion_file, read_champion
from fer_pipeline.core.crop_set import read_crop_set
from fer_pipeline.core.manifest import SPLITS
from fer_pipeline.core.slices import SOURCE
from fer_pipeline.core.storage import is_file
from fer_pipeline.plan import AssetState
from fer_pipeline.reports import (
    people_report_file,
    read_metrics,
    read_people_figures,
    report_file,
)
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
    sources = source_counts(index or {}, manifest or {})
    if len(sources) > 1:
        found["sources"] = sources
        if manifest is not None and "near_copies_across_sets" in manifest:
            found["near_copies_across_sets"] = manifest["near_copies_across_sets"]
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
        if f"{stream}/champion" in metadata:
            figures["champion"] = champion_figures(settings, stream)
    return found


def source_counts(
    index: Mapping[str, Any], manifest: Mapping[str, Any]
) -> dict[str, dict[str, int]]:
    """For each data set its rows indexed and rejected and its faces by split, as far as known."""
    found: dict[str, dict[str, int]] = {}
    for summary in (index, manifest):
        for source, counts in summary.get("rows_by_source", {}).items():
            found.setdefault(source, {}).update(counts)
    return found


def source_figures(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each data set of a mixture the model's scores on its test faces; else empty."""
    slices = (metrics.get("details") or {}).get("slices", [])
    return {
        one["value"]: {n: v for n, v in one.items() if n not in ("subject", "value")}
        for one in slices
        if one["subject"] == SOURCE
    }


def people_figures(settings: Settings, stream: str) -> dict[str, Any]:
    """The figures of one stream's report on people that a summary holds."""
    found = read_people_figures(settings, stream)["scalars"]
    kept = {name: found[name] for name in PEOPLE_FIELDS if name in found}
    return {**kept, "report": str(people_report_file(settings, stream))}


def champion_figures(settings: Settings, stream: str) -> dict[str, Any] | None:
    """Which version is a stream's champion, and what became of the newest one and why.

    None where the file that tells it was deleted: the registry knows, `champion show` asks it.
    """
    if not is_file(champion_file(settings, stream)):
        return None
    found = read_champion(settings, stream)
    decision = found["decision"] or dict.fromkeys(("version", "verdict", "why"))
    return {
        "version": found["champion"],
        "model_uri": found["model_uri"],
        "challenger": decision["version"],
        "verdict": decision["verdict"],
        "why": decision["why"],
    }


def stream_figures(settings: Settings, stream: str) -> dict[str, Any]:
    """The figures of one stream's report that a summary holds."""
    metrics = read_metrics(settings, stream)
    found = {
        **{name: metrics[name] for name in STREAM_FIELDS},
        # Where it stands now: the home may have been moved since.
        "report": str(report_file(settings, stream)),
        "n_test": int(metrics["n"]),
    }
    sources = source_figures(metrics)
    return {**found, "sources": sources} if sources else found


def summary_tables(found: Mapping[str, Any]) -> list[Table]:
    """The summary as tables: rows, faces, streams."""
    rows = Table("rows of the lists", "number", title_justify="left")
    for name in ("rows_read", "rows_indexed", "rows_rejected"):
        if name in found:
            rows.add_row(name.removeprefix("rows_"), f"{found[name]:,}")
    for reason, count in found.get("rejected_by_reason", {}).items():
        rows.add_row(f"  rejected: {escape(reason)}", f"{count:,}")
    for reason, count in found.get("left_out", {}).items():
        rows.add_row(f"  left out of the manifest: {escape(reason)}", f"{count:,}")
    faces = Table("faces of the manifest", "number")
    for split, count in found.get("rows_by_split", {}).items():
        faces.add_row(f"split {split}", f"{count:,}")
    if found.get("near_copies_across_sets"):
        copies = f"{found['near_copies_across_sets']:,}"
        faces.add_row("photos that another data set has in other bytes", copies)
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
    return [rows, faces, *_source_tables(found), streams]


def _source_tables(found: Mapping[str, Any]) -> list[Table]:
    """What each data set of a mixture gives, and what each stream's model scores on it."""
    if "sources" not in found:
        return []
    streams = {n: f["sources"] for n, f in found["streams"].items() if "sources" in f}
    counted = Table("data set", "rows", "rejected", *SPLITS)
    scored = Table("data set", *(f"{stream}: accuracy" for stream in streams))
    for source, counts in found["sources"].items():
        names = ("rows_indexed", "rows_rejected", *SPLITS)
        counted.add_row(escape(source), *(f"{counts.get(name, 0):,}" for name in names))
        if streams:
            scored.add_row(escape(source), *(_score(by.get(source)) for by in streams.values()))
    return [counted, scored]


def _score(figures: Mapping[str, Any] | None) -> str:
    if figures is None:
        return "no test face"
    return (
        f"{figures['accuracy']:.3f} ({figures['accuracy_low']:.3f} to "
        f"{figures['accuracy_high']:.3f}), n = {figures['faces']:,}"
    )
