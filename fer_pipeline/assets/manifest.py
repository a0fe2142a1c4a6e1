"""Group `manifest`: which faces are wanted, and on which side each stands."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import dagster as dg

from fer_pipeline.assets.steps import step, tell_progress
from fer_pipeline.core.corrected_labels import decide
from fer_pipeline.core.corrections import corrections_digest, read_corrections
from fer_pipeline.core.labels import NAMES
from fer_pipeline.core.manifest import (
    FILE_LIST,
    MANIFEST_FILE,
    MANIFEST_SCHEMA,
    build_manifest,
    read_manifest,
)
from fer_pipeline.core.uncompared import UNCOMPARED_FILE
from fer_pipeline.core.votes import chosen_expression
from fer_pipeline.metadata import (
    FILES,
    column_schema,
    counts_by_source,
    counts_table,
    markdown_table,
    path_value,
    published_files,
)
from fer_pipeline.settings import Settings
from fer_pipeline.versions import code_version

if TYPE_CHECKING:
    import pandas as pd

LABEL_CORRECTIONS = dg.AssetKey("label_corrections")
CORRECTIONS = "corrections_digest"
"""Metadata key: the file of corrections that a manifest was made with; empty for none."""
CORRECTIONS_TAKEN = "corrections_taken"
"""Metadata key: what the corrections came to, see `corrections_taken`."""


def corrections_spec(settings: Settings) -> dg.AssetSpec:
    """The external asset `label_corrections`: a file that people's answers are written to."""
    return dg.AssetSpec(
        LABEL_CORRECTIONS,
        group_name="manifest",
        kinds={"csv"},
        description="Labels that people corrected: who, when, old and new. Written by "
        "`fer-pipeline study correct`; the manifest applies them when it is made next.",
        metadata={"path": path_value(settings.corrections_file)},
    )


def manifest_assets(settings: Settings) -> Sequence[dg.AssetsDefinition]:
    """The assets of the group `manifest`."""

    @dg.asset(
        group_name="manifest",
        kinds={"parquet"},
        deps=["file_list_index", LABEL_CORRECTIONS],
        code_version=code_version("class_manifest", settings),
        description="The faces of the wanted classes, each once, with split and group; its "
        "content hash is the data version of everything downstream.",
    )
    def class_manifest(
        context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
    ) -> dg.MaterializeResult[None]:
        with step():
            path = settings.corrections_file
            # Before it is read: what is added meanwhile is then new to the next run.
            digest = corrections_digest(path)
            corrections = read_corrections(path)
            if corrections:
                context.log_event(
                    dg.AssetObservation(
                        LABEL_CORRECTIONS,
                        metadata={
                            "dagster/row_count": len(corrections),
                            "path": path_value(path),
                            "faces": len({one.face_id for one in corrections}),
                        },
                        tags={"dagster/data_version": digest},
                    )
                )
            summary = build_manifest(
                settings.open_dataset(),
                settings.index_folder,
                settings.manifest_folder,
                settings.wanted_classes,
                label_source=settings.label_rule,
                dev_share=settings.dev_share,
                seed=settings.seed,
                corrections=corrections,
                correct_test=settings.corrections_on_test,
                max_file_bytes=settings.max_file_bytes,
                across=settings.bounds if settings.compares_across else None,
                on_hashed=tell_progress(context, "photos of equal size compared"),
                on_compared=tell_progress(context, "photos compared with other data sets'"),
            )
            folder = settings.manifest_folder
            return dg.MaterializeResult(
                data_version=dg.DataVersion(summary.manifest_hash),
                metadata={
                    "dagster/row_count": summary.rows,
                    "dagster/column_schema": column_schema(MANIFEST_SCHEMA),
                    "path": path_value(folder / MANIFEST_FILE),
                    FILES: published_files(
                        settings,
                        *(folder / name for name in (MANIFEST_FILE, FILE_LIST, UNCOMPARED_FILE)),
                    ),
                    "file_list": path_value(folder / FILE_LIST),
                    "manifest_hash": summary.manifest_hash,
                    CORRECTIONS: digest,
                    CORRECTIONS_TAKEN: summary.corrections_taken,
                    "corrected": summary.corrected,
                    **(
                        {
                            "corrections_left": counts_table(
                                summary.corrections_left, ("reason", "corrections not applied")
                            )
                        }
                        if summary.corrections_left
                        else {}
                    ),
                    "class_by_split": markdown_table(_class_by_split(settings)),
                    "rows_by_split": counts_table(summary.rows_by_split, ("split", "faces")),
                    **counts_by_source(summary.rows_by_source),
                    "left_out": counts_table(summary.left_out, ("reason", "index rows")),
                    "excluded": counts_table(summary.excluded, ("reason", "faces")),
                    "identical_photos": summary.identical_photos,
                    **(
                        {"near_copies_across_sets": summary.near_copies_across_sets}
                        if settings.compares_across
                        else {}
                    ),
                    "photos_missing": summary.photos_missing,
                    "summary": dg.MetadataValue.json(asdict(summary)),
                },
            )

    return [class_manifest]


def corrections_taken(settings: Settings) -> str:
    """16 hex digits of what the corrections come to now; empty where no label is another one.

    The same as of the last manifest where only lines came that change nothing, as those of test
    faces: everything after the manifest needn't be made again for them.
    """
    return decide(
        settings.index_folder,
        read_corrections(settings.corrections_file),
        settings.open_dataset().roles(),
        label_source=settings.label_rule,
        correct_test=settings.corrections_on_test,
    ).digest


def _class_by_split(settings: Settings) -> "pd.DataFrame":
    import pandas as pd

    manifest = read_manifest(settings.manifest_folder)
    names = [NAMES[code] for code in chosen_expression(manifest, settings.label_rule)]
    table = pd.crosstab(
        pd.Series(names, name="class"), pd.Series(manifest["split"].to_pylist(), name="split")
    )
    return table.reset_index()
