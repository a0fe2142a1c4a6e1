"""Asset checks: what must hold before anything downstream may run, and what is only said.

Checks read what was published, not what the asset said of itself. A blocking check that fails
ends the run.
"""

from collections.abc import Iterable, Sequence

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from fer_pipeline.assets.steps import step
from fer_pipeline.core.crop_set import read_crop_set
from fer_pipeline.core.datasets.base import UNKNOWN_LABEL
from fer_pipeline.core.index import count_kept_and_rejected, rejected_rows, row_batches
from fer_pipeline.core.inspection import unknown_labels
from fer_pipeline.core.labels import CODES
from fer_pipeline.core.manifest import missing_classes, published_manifest_hash, read_manifest
from fer_pipeline.core.splits import groups_on_two_sides
from fer_pipeline.core.storage import parquet_source
from fer_pipeline.core.study import SMALL_STUDY
from fer_pipeline.core.votes import chosen_expression
from fer_pipeline.reports import read_metrics, read_people_figures
from fer_pipeline.settings import Settings

_FEW = 5


def index_checks() -> Sequence[dg.AssetChecksDefinition]:
    """Checks of `file_list_index`."""
    asset = dg.AssetKey("file_list_index")

    @dg.multi_asset_check(
        specs=[
            dg.AssetCheckSpec(
                "every_row_accounted_for",
                asset=asset,
                blocking=True,
                description="Rows indexed and rejected are, list by list, the rows of the files.",
            ),
            dg.AssetCheckSpec(
                "no_unknown_label",
                asset=asset,
                blocking=True,
                description="Every label stands in the table of labels.",
            ),
        ]
    )
    def index_is_complete(settings: dg.ResourceParam[Settings]) -> Iterable[dg.AssetCheckResult]:
        with step():
            yield _every_row_accounted_for(asset, settings)
            yield _no_unknown_label(asset, settings)

    return [index_is_complete]


def manifest_checks() -> Sequence[dg.AssetChecksDefinition]:
    """Checks of `class_manifest`."""
    asset = dg.AssetKey("class_manifest")

    @dg.multi_asset_check(
        specs=[
            dg.AssetCheckSpec(
                "no_group_on_two_sides",
                asset=asset,
                blocking=True,
                description="No photo, nor an identical copy of it, stands in two splits.",
            ),
            dg.AssetCheckSpec(
                "every_class_in_every_split",
                asset=asset,
                blocking=True,
                description="Every class of every stream has faces in train, dev and test.",
            ),
            dg.AssetCheckSpec(
                "only_wanted_labels",
                asset=asset,
                blocking=True,
                description="Each face stands once, with a label of one of the wanted classes.",
            ),
        ]
    )
    def manifest_is_sound(settings: dg.ResourceParam[Settings]) -> Iterable[dg.AssetCheckResult]:
        with step():
            manifest = read_manifest(settings.manifest_folder)
            groups, split = manifest["group_id"].to_numpy(), manifest["split"].to_numpy()
            leaked = [f"group {group}" for group in groups_on_two_sides(groups, split)]
            # Groups are made from these; a leak of one file under two names shows in both.
            hashed = manifest["content_hash"].is_valid().to_numpy()
            contents = manifest["content_hash"].to_numpy()[hashed]
            leaked += [
                f"content {content}" for content in groups_on_two_sides(contents, split[hashed])
            ]
            yield _result(
                asset,
                "no_group_on_two_sides",
                leaked,
                "photos stand on two sides",
                {"groups": len(set(groups))},
            )
            missing = missing_classes(manifest, settings.active_streams, settings.label_rule)
            yield _result(
                asset,
                "every_class_in_every_split",
                [f"{name} ({stream}) in {split}" for stream, split, name in missing],
                "classes lack faces; choose other streams, a larger dev_share or more data",
                {"streams": ", ".join(settings.active_streams)},
            )
            wanted = {CODES[name] for name in settings.wanted_classes}
            codes = chosen_expression(manifest, settings.label_rule).tolist()
            ids = manifest["face_id"].to_pylist()
            wrong = [
                f"face {face} with code {code}"
                for face, code in zip(ids, codes, strict=True)
                if code not in wanted
            ]
            if len(set(ids)) != len(ids):
                wrong.append("faces that are listed twice")
            yield _result(
                asset, "only_wanted_labels", wrong, "faces are wrong", {"faces": len(ids)}
            )

    return [manifest_is_sound]


def crop_checks() -> Sequence[dg.AssetChecksDefinition]:
    """Checks of `face_crops`."""
    asset = dg.AssetKey("face_crops")

    @dg.asset_check(
        asset=asset,
        blocking=True,
        name="one_status_for_each_face",
        description="The shards hold one row for each face of the manifest, in its order.",
    )
    def one_status_for_each_face(settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
        with step():
            crop_set = read_crop_set(settings.crops_folder)
            problems = []
            if crop_set.manifest_hash != published_manifest_hash(settings.manifest_folder):
                problems.append("the crops belong to another manifest")
            listed = read_manifest(settings.manifest_folder, ["face_id"])["face_id"]
            faces = pa.chunked_array(
                [
                    chunk
                    for path in crop_set.paths
                    for chunk in pq.read_table(parquet_source(path), columns=["face_id"])[
                        "face_id"
                    ].chunks
                ],
                pa.string(),
            )
            if not faces.equals(listed):
                problems.append(f"{len(faces)} rows in the shards, not the manifest's faces")
            ok = crop_set.statuses["ok"]
            if not ok:
                problems.append("no face could be cropped; is --root right?")
            return _result(
                asset, "one_status_for_each_face", problems, "problems", {"faces_ok": ok}
            )

    return [one_status_for_each_face]


def stream_checks(stream: str) -> Sequence[dg.AssetChecksDefinition]:
    """Checks of one stream's report: they warn, and stop nothing."""
    asset = dg.AssetKey([stream, "evaluation_report"])

    @dg.asset_check(
        asset=asset,
        name="above_the_majority_class",
        description="The whole interval of the accuracy lies above the largest class's share.",
    )
    def above_the_majority_class(settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
        with step():
            found = read_metrics(settings, stream)
            passed = found["accuracy_low"] > found["majority_accuracy"]
            return dg.AssetCheckResult(
                passed=bool(passed),
                severity=dg.AssetCheckSeverity.WARN,
                description=f"accuracy {found['accuracy']:.3f} ({found['accuracy_low']:.3f} to "
                f"{found['accuracy_high']:.3f}), majority class {found['majority_accuracy']:.3f}",
                metadata={"n_test": int(found["n"])},
            )

    return [above_the_majority_class]


def people_checks(stream: str) -> Sequence[dg.AssetChecksDefinition]:
    """Checks of one stream's report on people: they warn, and stop nothing."""
    asset = dg.AssetKey([stream, "human_error_report"])

    @dg.asset_check(
        asset=asset,
        name="enough_answers",
        description=f"People gave at least {SMALL_STUDY} answers, or the data set brings votes.",
    )
    def enough_answers(settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
        with step():
            found = read_people_figures(settings, stream)
            answers = int(found["people"]["answers"])
            voted = found["votes"] is not None
            words = f"{answers:,} answers to the study"
            if answers < SMALL_STUDY:
                words += (
                    f": fewer than {SMALL_STUDY} say little"
                    + (", the votes stand beside them" if voted else "")
                    + "; `fer-pipeline review` asks for more"
                )
            return dg.AssetCheckResult(
                passed=answers >= SMALL_STUDY or voted,
                severity=dg.AssetCheckSeverity.WARN,
                description=words,
                metadata={"answers": answers, "votes": voted},
            )

    return [enough_answers]


def _every_row_accounted_for(asset: dg.AssetKey, settings: Settings) -> dg.AssetCheckResult:
    dataset = settings.open_dataset()
    files = dataset.lists()
    counts = count_kept_and_rejected(settings.index_folder, files)
    problems = []
    read = 0
    for name in files:
        kept, rejected, numbered = counts.get(name, (0, 0, True))
        in_files = dataset.count_rows(name)
        read += in_files
        if kept + rejected != in_files or not numbered:
            problems.append(
                f"{name}: {kept} indexed and {rejected} rejected of {in_files} rows in the file"
            )
    return _result(
        asset,
        "every_row_accounted_for",
        problems,
        "lists don't add up",
        {
            "rows_in_files": read,
            "rows_indexed": sum(
                batch.num_rows for batch in row_batches(settings.index_folder, ["row"])
            ),
            "rows_rejected": rejected_rows(settings.index_folder).num_rows,
        },
    )


def _no_unknown_label(asset: dg.AssetKey, settings: Settings) -> dg.AssetCheckResult:
    unknown = rejected_rows(settings.index_folder, UNKNOWN_LABEL)
    stops = settings.unknown_labels == "stop"
    remedy = "correct the list, or set unknown_labels to reject to go on without these rows"
    return dg.AssetCheckResult(
        passed=not unknown.num_rows,
        asset_key=asset,
        check_name="no_unknown_label",
        severity=dg.AssetCheckSeverity.ERROR if stops else dg.AssetCheckSeverity.WARN,
        description=(
            f"{unknown_labels(settings.open_dataset(), unknown)}: {remedy}"
            if unknown.num_rows
            else "every label is known"
        ),
        metadata={"rows": unknown.num_rows},
    )


def _result(
    asset: dg.AssetKey,
    name: str,
    problems: Sequence[str],
    what: str,
    metadata: dict[str, int | str],
) -> dg.AssetCheckResult:
    shown = "; ".join(problems[:_FEW]) + ("; ..." if len(problems) > _FEW else "")
    return dg.AssetCheckResult(
        passed=not problems,
        asset_key=asset,
        check_name=name,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{len(problems)} {what}: {shown}" if problems else "holds",
        metadata=metadata,
    )
