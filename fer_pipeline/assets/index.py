"""Group `index`: the file-list index and what expressions it holds."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import numpy.typing as npt

from fer_pipeline.assets.steps import EverySoOften, step
from fer_pipeline.core import expressions
from fer_pipeline.core.datasets.base import INDEX_SCHEMA, DataSet
from fer_pipeline.core.decode import UnreadableError, decode
from fer_pipeline.core.files import publish_bytes, published, text_digest
from fer_pipeline.core.index import (
    INDEX_FILE,
    REJECTED_FILE,
    build_index,
    lists_digest,
    lists_stamp,
)
from fer_pipeline.core.labels import NOT_EXPRESSIONS
from fer_pipeline.metadata import (
    FILES,
    column_schema,
    counts_by_source,
    counts_table,
    markdown_table,
    path_value,
    picture,
    published_files,
)
from fer_pipeline.settings import Settings
from fer_pipeline.versions import code_version

if TYPE_CHECKING:
    import pandas as pd

LISTS_STAMP = "lists_stamp"
LISTS_DIGEST = "lists_digest"
"""Metadata keys: sizes and times of the list files that were read, and their content."""


def index_assets(settings: Settings) -> Sequence[dg.AssetsDefinition]:
    """The assets of the group `index`."""

    @dg.asset(
        group_name="index",
        kinds={"parquet"},
        code_version=code_version("file_list_index", settings),
        description="Every row of every list, typed, with its issue; rows that can't be kept "
        "stand in rejected.parquet with a reason.",
    )
    def file_list_index(
        context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
    ) -> dg.MaterializeResult[None]:
        with step():
            dataset = settings.open_dataset()
            stamp, digest = lists_stamp(dataset), lists_digest(dataset)
            started = time.monotonic()
            every_so_often = EverySoOften()

            def tell(rows: int) -> None:
                if every_so_often():
                    context.log.info(f"{rows:,} rows read")

            folder = settings.index_folder
            summary = build_index(dataset, folder, on_rows=tell)
            seconds = time.monotonic() - started
            context.log.info(
                f"{summary.rows_read:,} rows read, {summary.rows_indexed:,} indexed, "
                f"{summary.rows_rejected:,} rejected"
            )
            return dg.MaterializeResult(
                # The same lists over other photos are another index to all that reads photos.
                data_version=dg.DataVersion(text_digest(summary.content_hash, dataset.address)),
                metadata={
                    "dagster/row_count": summary.rows_indexed,
                    "dagster/column_schema": column_schema(INDEX_SCHEMA),
                    "path": path_value(folder / INDEX_FILE),
                    "rejected_path": path_value(folder / REJECTED_FILE),
                    "data_set": dataset.name,
                    LISTS_STAMP: stamp,
                    LISTS_DIGEST: digest,
                    FILES: published_files(settings, folder / INDEX_FILE, folder / REJECTED_FILE),
                    "rows_read": summary.rows_read,
                    "rows_rejected": summary.rows_rejected,
                    "rows_by_list": counts_table(summary.rows_by_list, ("list", "rows")),
                    **counts_by_source(summary.rows_by_source),
                    "issues": counts_table(summary.issues, ("issue", "rows")),
                    "rejected_by_reason": counts_table(
                        summary.rejected_by_reason, ("reason", "rows")
                    ),
                    "seconds": seconds,
                    "summary": dg.MetadataValue.json(asdict(summary)),
                },
            )

    @dg.asset(
        group_name="index",
        kinds={"pandas", "matplotlib"},
        deps=[file_list_index],
        code_version=code_version("expression_summary", settings),
        description="Rows by expression and annotation, charts, and one sample photo of each.",
    )
    def expression_summary(
        context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
    ) -> dg.MaterializeResult[None]:
        from fer_pipeline.core.figures import expression_bars
        from fer_pipeline.core.photo_figures import sample_photos

        with step():
            folder = settings.index_folder
            table = expressions.expression_counts(folder)
            path = folder / "expression_summary.csv"
            with published(path) as temporary:
                table.to_csv(temporary, index=False)

            def bars(rows: "pd.DataFrame") -> bytes:
                return expression_bars(
                    rows[expressions.COLUMNS[1]].tolist(),
                    rows[expressions.COLUMNS[3]].tolist(),
                    rows[expressions.COLUMNS[4]].tolist(),
                    NOT_EXPRESSIONS,
                )

            wanted = table[table[expressions.COLUMNS[1]].isin(settings.wanted_classes)]
            figures = {
                "all_classes": bars(table),
                "wanted_classes": bars(wanted) if len(wanted) else None,
            }
            titles, photos = _samples(settings.open_dataset(), settings)
            figures["sample_photos"] = sample_photos(photos, titles)
            for name, png in figures.items():
                if png is not None:
                    publish_bytes(folder / f"{name}.png", png)
            unseen = [title for title, photo in zip(titles, photos, strict=True) if photo is None]
            if unseen:
                context.log.warning(f"no photo of these opens: {', '.join(unseen)}")
            return dg.MaterializeResult(
                data_version=dg.DataVersion(text_digest(table.to_csv(index=False))),
                metadata={
                    "dagster/row_count": len(table),
                    "path": path_value(path),
                    FILES: published_files(settings, path),
                    "table": markdown_table(table),
                    **{
                        name: picture(png, name.replace("_", " "))
                        for name, png in figures.items()
                        if png is not None
                    },
                },
            )

    return [file_list_index, expression_summary]


def _samples(
    dataset: DataSet, settings: Settings
) -> tuple[list[str], list[npt.NDArray[np.uint8] | None]]:
    """For each expression its name and the first photo of its sample rows that opens."""
    titles: list[str] = []
    photos: list[npt.NDArray[np.uint8] | None] = []
    bounds = settings.bounds
    for name, rows in expressions.sample_rows(settings.index_folder, settings.seed).items():
        titles.append(name)
        photo = None
        asked = [(row.list, row.image_path) for row in rows]
        for data in dataset.read_photos(asked, bounds.max_file_bytes):
            try:
                photo = decode(data, bounds) if isinstance(data, bytes) else None
            except UnreadableError:
                continue
            if photo is not None:
                break
        photos.append(photo)
    return titles, photos
