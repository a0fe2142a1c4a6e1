"""Group `faces`: the crops, spread over shards, and a report on what became of every face."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fer_pipeline.assets.steps import ONCE_MORE, EverySoOften, step
from fer_pipeline.core.crop import Status
from fer_pipeline.core.crop_set import CROPS_LIST, CropSet, publish_crop_set, read_crop_set
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import publish_bytes, published, text_digest
from fer_pipeline.core.labels import NAMES
from fer_pipeline.core.manifest import manifest_hash, read_manifest
from fer_pipeline.core.shards import ShardResult, crops_schema, write_shard
from fer_pipeline.core.storage import parquet_source
from fer_pipeline.core.uncompared import check_none_came
from fer_pipeline.core.votes import chosen_expression
from fer_pipeline.core.worklist import crop_progress, left_out, plan_work, read_slice
from fer_pipeline.metadata import (
    FILES,
    column_schema,
    counts_table,
    path_value,
    picture,
    published_files,
)
from fer_pipeline.operations.room import check_room_for_crops
from fer_pipeline.progress import ALL_SHARDS, CropsPlanned, ShardProgress
from fer_pipeline.settings import Settings
from fer_pipeline.versions import code_version

_SHEET = 60
_SHOWN_UNREADABLE = 50


@dg.op(out=dg.DynamicOut(dict[str, int]), ins={"class_manifest": dg.In(dg.Nothing)})
def plan_crop_shards(
    context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]
) -> Iterator[dg.DynamicOutput[Any]]:
    """Cut the manifest into slices of near-equal work, one crop shard each."""
    with step():
        dataset = settings.open_dataset()
        check_none_came(dataset, settings.manifest_folder)
        slices = plan_work(
            dataset,
            settings.manifest_folder,
            settings.crops_folder,
            settings.crop_settings,
            settings.shard_rows,
        )
        progress = crop_progress(settings.crops_folder)
        check_room_for_crops(settings, progress)
        context.log.info(str(CropsPlanned(progress.total, progress.done, len(slices))))
        for part in slices:
            yield dg.DynamicOutput(
                {"number": part.number, "faces": part.rows},
                mapping_key=f"shard_{part.number:05d}",
            )


# A worker that was killed: beside fewer others it may have the memory it needs.
@dg.op(retry_policy=ONCE_MORE)
def crop_shard(
    context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings], part: dict[str, int]
) -> dict[str, Any]:
    """Crop the faces of one slice of the manifest, unless its shard is there already."""
    with step():
        return asdict(_shard(context, settings, part["number"]))


def _shard(context: dg.OpExecutionContext, settings: Settings, number: int) -> ShardResult:
    import cv2

    # One process a shard: threads of OpenCV beside them would only get in the way.
    cv2.setNumThreads(1)
    every_so_often = EverySoOften()
    folder = settings.crops_folder
    started, carried = time.monotonic(), -1

    def tell(done: int, total: int) -> None:
        nonlocal carried
        if carried < 0:
            carried = done - 1
        if every_so_often():
            rate = (done - carried) / (time.monotonic() - started)
            context.log.info(str(ShardProgress(number, done, total, rate)))

    chosen, faces = read_slice(folder, number)
    result = write_shard(
        settings.open_dataset(), chosen, faces, folder, settings.crop_settings, on_faces=tell
    )
    rate = result.made / max(1e-9, time.monotonic() - started)
    context.log.info(str(ShardProgress(number, result.rows, result.rows, rate)))
    context.log.info(f"{ALL_SHARDS} {crop_progress(folder)}")
    return result


@dg.op(out=dg.Out(dg.Nothing))
def publish_crops(
    context: dg.OpExecutionContext,
    settings: dg.ResourceParam[Settings],
    shards: list[dict[str, Any]],
) -> Iterator[dg.Output[None]]:
    """Name the shards that belong together, and tell what they hold."""
    with step():
        folder = settings.crops_folder
        results = [ShardResult(**shard) for shard in shards]
        # A retry from failure leaves out the shards that no step had begun when its run was killed.
        missing = left_out(folder, [shard.file_name for shard in results])
        results.extend(_shard(context, settings, number) for number in missing)
        crop_set = publish_crop_set(
            folder, settings.manifest_folder, settings.crop_settings, results
        )
        made = sum(shard.made for shard in results)
        metadata: dict[str, Any] = {
            "dagster/row_count": crop_set.faces,
            "dagster/column_schema": column_schema(crops_schema(crop_set.settings)),
            "path": path_value(folder / CROPS_LIST),
            FILES: published_files(settings, folder / CROPS_LIST, *crop_set.paths),
            "faces": counts_table(crop_set.statuses, ("status", "faces")),
            "ok_share": crop_set.statuses[Status.OK] / crop_set.faces,
            "shards": len(crop_set.shards),
            "faces_made": made,
            "faces_carried_over": crop_set.faces - made,
            "crop_settings": dg.MetadataValue.json(asdict(crop_set.settings)),
        }
        if made:
            # Left out when nothing was cropped, so that the chart of it shows work alone.
            seconds = crop_progress(folder).seconds
            metadata |= {"faces_per_second": made / seconds, "seconds": seconds}
        yield dg.Output(None, data_version=dg.DataVersion(crop_set.content_hash), metadata=metadata)


def face_assets(settings: Settings) -> Sequence[dg.AssetsDefinition]:
    """The assets of the group `faces`."""

    @dg.graph_asset(
        group_name="faces",
        kinds={"parquet", "image"},
        ins={"class_manifest": dg.AssetIn("class_manifest", dagster_type=dg.Nothing)},
        code_version=code_version("face_crops", settings),
        description="A crop or a status for every face of the manifest, in Parquet shards.",
    )
    def face_crops(class_manifest: Any) -> Any:
        return publish_crops(plan_crop_shards(class_manifest).map(crop_shard).collect())

    @dg.asset(
        group_name="faces",
        kinds={"image", "matplotlib"},
        deps=[face_crops],
        code_version=code_version("crop_report", settings),
        description="Faces by status, agreement of detector and lists, files that don't open, "
        "and a sheet of crops to look at.",
    )
    def crop_report(
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult[None]:
        with step():
            columns = ["face_id", "list", "image_path", "expression", "votes", "split"]
            manifest = read_manifest(settings.manifest_folder, columns)
            crop_set = read_crop_set(settings.crops_folder)
            statuses = pa.concat_tables(
                pq.read_table(parquet_source(path), columns=["face_id", "status", "reason", "iou"])
                for path in crop_set.paths
            )
            failed = _failed(manifest, statuses)
            path = settings.home / "reports" / "failed_faces.csv"
            with published(path) as temporary:
                failed.to_pandas().to_csv(temporary, index=False)
            metadata: dict[str, Any] = {
                "path": path_value(path),
                FILES: published_files(settings, path),
                "faces": counts_table(crop_set.statuses, ("status", "faces")),
                "failed_faces": failed.num_rows,
            }
            if failed.num_rows:
                shown = failed.slice(0, _SHOWN_UNREADABLE).to_pylist()
                lines = [
                    f"- `{row['image_path']}` {row['status']}: {row['reason']}" for row in shown
                ]
                metadata["first_failed"] = dg.MetadataValue.md("\n".join(lines))
            iou = statuses["iou"].drop_null()
            if len(iou):
                metadata["median_iou"] = float(pc.quantile(iou, 0.5)[0].as_py())
                metadata["iou_over_0.4"] = float(pc.mean(pc.greater(iou, 0.4)).as_py())
            sheet = _contact_sheet(settings, manifest, statuses, crop_set)
            if sheet is not None:
                publish_bytes(path.with_name("contact_sheet.png"), sheet)
                metadata["contact_sheet"] = picture(sheet, "a sample of the crops")
            return dg.MaterializeResult(
                data_version=dg.DataVersion(text_digest(crop_set.content_hash, settings.seed)),
                metadata=metadata,
            )

    return [face_crops, crop_report]


def verified_faces(settings: Settings) -> tuple[pa.Table, str, CropSet]:
    """The manifest, its hash, and the crops that were made from it.

    Raises InputError when the crops are those of another manifest.
    """
    manifest = read_manifest(settings.manifest_folder)
    digest = manifest_hash(manifest)
    return manifest, digest, verified_crop_set(settings, digest)


def verified_crop_set(settings: Settings, manifest_hash: str) -> CropSet:
    """The crop set of this manifest, every byte checked; raises InputError when it is another's.

    A stage started alone calls this, since the checks that block within a run didn't run.
    """
    crop_set = read_crop_set(settings.crops_folder, verify=True)
    if crop_set.manifest_hash != manifest_hash:
        raise InputError(
            f"the crops in {settings.crops_folder} were made from manifest "
            f"{crop_set.manifest_hash}, which is now {manifest_hash}: materialize face_crops again"
        )
    return crop_set


def _failed(manifest: pa.Table, statuses: pa.Table) -> pa.Table:
    """The faces that aren't ok, with list, photo, status and reason."""
    not_ok = pc.not_equal(statuses["status"], Status.OK.value)
    columns = manifest.select(["face_id", "list", "image_path", "expression"]).filter(not_ok)
    chosen = statuses.filter(not_ok)
    return columns.append_column("status", chosen["status"]).append_column(
        "reason", chosen["reason"].fill_null("")
    )


def _contact_sheet(
    settings: Settings, manifest: pa.Table, statuses: pa.Table, crop_set: CropSet
) -> bytes | None:
    """A seeded sample of crops with class and split, or None when no face is ok."""
    from fer_pipeline.core.photo_figures import contact_sheet

    ok = np.flatnonzero(pc.equal(statuses["status"], Status.OK.value).to_numpy())
    if not len(ok):
        return None
    generator = np.random.default_rng(settings.seed)
    chosen = np.sort(generator.choice(ok, min(_SHEET, len(ok)), replace=False))
    label = chosen_expression(manifest, settings.label_rule)
    order = chosen[np.argsort(label[chosen], kind="stable")]
    crops = dict(_crops_at(crop_set, chosen))
    split = manifest["split"].to_pylist()
    captions = [f"{NAMES[label[place]]}\n{split[place]}" for place in order]
    return contact_sheet([crops[int(place)] for place in order], captions)


def _crops_at(
    crop_set: CropSet, places: np.ndarray[Any, np.dtype[np.intp]]
) -> Iterator[tuple[int, Any]]:
    """(place, crop uint8 (h, w, c)) for each manifest row number in `places`, in order."""
    start = 0
    for path, shard in zip(crop_set.paths, crop_set.shards, strict=True):
        inside = places[(places >= start) & (places < start + shard.rows)]
        if len(inside):
            with pq.ParquetFile(parquet_source(path)) as file:
                sizes = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
                ends = start + np.cumsum(sizes)
                for place in inside:
                    group = int(np.searchsorted(ends, place, side="right"))
                    column = file.read_row_group(group, columns=["crop"])["crop"]
                    raw = column[int(place - (ends[group] - sizes[group]))].as_py()
                    crop = np.frombuffer(raw, np.uint8).reshape(crop_set.settings.shape)
                    yield int(place), crop
        start += shard.rows
