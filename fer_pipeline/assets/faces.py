"""Group `faces`: the crops, spread over shards, and a report on what became of every face."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fer_pipeline.assets.steps import EverySoOften, step
from fer_pipeline.core.crop import Status
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import publish_bytes, published, text_digest
from fer_pipeline.core.labels import NAMES
from fer_pipeline.core.manifest import read_manifest
from fer_pipeline.core.shards import (
    CROPS_LIST,
    CropSet,
    ShardResult,
    Slice,
    crops_schema,
    plan_slices,
    publish_crop_set,
    read_crop_set,
    write_shard,
)
from fer_pipeline.core.votes import chosen_expression
from fer_pipeline.metadata import FILES, column_schema, counts_table, picture, published_files
from fer_pipeline.settings import Settings
from fer_pipeline.versions import code_version

_SHEET = 60
_SHOWN_UNREADABLE = 50


@dg.op(out=dg.DynamicOut(dict[str, int]), ins={"class_manifest": dg.In(dg.Nothing)})
def plan_crop_shards(settings: dg.ResourceParam[Settings]) -> Iterator[dg.DynamicOutput[Any]]:
    """Cut the manifest into slices, one crop shard each."""
    with step():
        rows = read_manifest(settings.manifest_folder).num_rows
        for part in plan_slices(rows, settings.shard_rows):
            yield dg.DynamicOutput(asdict(part), mapping_key=f"shard_{part.number:05d}")


@dg.op
def crop_shard(
    context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings], part: dict[str, int]
) -> dict[str, Any]:
    """Crop the faces of one slice of the manifest, unless its shard is there already."""
    import cv2

    with step():
        # One process a shard: threads of OpenCV beside them would only get in the way.
        cv2.setNumThreads(1)
        every_so_often = EverySoOften()

        def tell(done: int, total: int) -> None:
            if every_so_often():
                context.log.info(f"shard {part['number']}: {done:,} of {total:,} faces")

        result = write_shard(
            settings.open_dataset(),
            read_manifest(settings.manifest_folder),
            Slice(**part),
            settings.crops_folder,
            settings.crop_settings,
            on_faces=tell,
        )
        done = "carried over" if result.carried_over else "written"
        context.log.info(f"shard {part['number']}: {result.rows:,} faces {done}")
        return asdict(result)


@dg.op(out=dg.Out(dg.Nothing))
def publish_crops(
    settings: dg.ResourceParam[Settings], shards: list[dict[str, Any]]
) -> Iterator[dg.Output[None]]:
    """Name the shards that belong together, and tell what they hold."""
    with step():
        manifest = read_manifest(settings.manifest_folder)
        crop_set = publish_crop_set(
            settings.crops_folder,
            manifest,
            settings.crop_settings,
            [ShardResult(**shard) for shard in shards],
        )
        yield dg.Output(
            None,
            data_version=dg.DataVersion(crop_set.content_hash),
            metadata={
                "dagster/row_count": manifest.num_rows,
                "dagster/column_schema": column_schema(crops_schema(crop_set.settings)),
                "path": dg.MetadataValue.path(settings.crops_folder / CROPS_LIST),
                FILES: published_files(
                    settings, settings.crops_folder / CROPS_LIST, *crop_set.paths
                ),
                "faces": counts_table(crop_set.statuses, ("status", "faces")),
                "ok_share": crop_set.statuses[Status.OK] / manifest.num_rows,
                "shards": len(crop_set.shards),
                "shards_carried_over": sum(shard.carried_over for shard in crop_set.shards),
                "crop_settings": dg.MetadataValue.json(asdict(crop_set.settings)),
            },
        )


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
            manifest = read_manifest(settings.manifest_folder)
            crop_set = read_crop_set(settings.crops_folder)
            statuses = pa.concat_tables(
                pq.read_table(path, columns=["face_id", "status", "reason", "iou"])
                for path in crop_set.paths
            )
            failed = _failed(manifest, statuses)
            path = settings.home / "reports" / "failed_faces.csv"
            with published(path) as temporary:
                failed.to_pandas().to_csv(temporary, index=False)
            metadata: dict[str, Any] = {
                "path": dg.MetadataValue.path(path),
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
    label = chosen_expression(manifest, settings.label_source)
    order = chosen[np.argsort(label[chosen], kind="stable")]
    crops = dict(_crops_at(crop_set, chosen))
    split = manifest["split"].to_pylist()
    captions = [f"{NAMES[label[place]]}\n{split[place]}" for place in order]
    return contact_sheet([crops[int(place)] for place in order], captions)


def _crops_at(
    crop_set: CropSet, places: np.ndarray[Any, np.dtype[np.intp]]
) -> Iterator[tuple[int, Any]]:
    """(place, crop uint8 (h, w, c)) for each manifest row number in `places`."""
    start = 0
    for path, shard in zip(crop_set.paths, crop_set.shards, strict=True):
        inside = places[(places >= start) & (places < start + shard.rows)]
        if len(inside):
            column = pq.read_table(path, columns=["crop"])["crop"]
            for place in inside:
                raw = np.frombuffer(column[int(place) - start].as_py(), np.uint8)
                yield int(place), raw.reshape(crop_set.settings.shape)
        start += shard.rows
