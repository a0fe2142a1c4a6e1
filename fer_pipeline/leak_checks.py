"""The check of `face_crops` for test faces that training has in another file: it only warns.

Which photos are the same is decided by their bytes, in the manifest. That two crops are nearly
the same may also be chance (drawings, poses), so that a person has to look.
"""

from collections.abc import Sequence

import dagster as dg
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fer_pipeline.assets.steps import step
from fer_pipeline.core.crop_set import read_crop_set
from fer_pipeline.core.leaks import find_leaks
from fer_pipeline.core.manifest import read_manifest
from fer_pipeline.metadata import markdown_table
from fer_pipeline.settings import Settings

_SHOWN = 20


def leak_checks() -> Sequence[dg.AssetChecksDefinition]:
    """The check of `face_crops` that looks for near copies of test faces."""

    @dg.asset_check(
        asset=dg.AssetKey("face_crops"),
        name="no_near_copy_of_a_test_face",
        description="No crop of train or dev is nearly the same as one of test, as copies of a "
        "photo are that were encoded anew, resized or mirrored.",
    )
    def no_near_copy_of_a_test_face(
        context: dg.AssetCheckExecutionContext,
        settings: dg.ResourceParam[Settings],
    ) -> dg.AssetCheckResult:
        import pandas as pd

        with step():
            columns = ["list", "image_path", "split"]
            manifest = read_manifest(settings.manifest_folder, columns)
            crop_set = read_crop_set(settings.crops_folder)
            found = find_leaks(crop_set, manifest["split"].to_numpy(), seed=settings.seed)
            strongest = found.correlation.argsort()[::-1][:_SHOWN]
            shown = pd.DataFrame(
                {
                    "test face": _photos(manifest, found.test[strongest]),
                    "like": _photos(manifest, found.training[strongest]),
                    "correlation": found.correlation[strongest].round(3),
                }
            )
            count = len(found.test)
            words = f"{count:,} of {found.test_faces:,} test faces have nearly the same crop in "
            if count:
                first = shown.iloc[0]
                words += (
                    f"train or dev, such as {first['test face']} and {first['like']}: where they "
                    "are copies of a photo, take them out of the lists; a stream's report also "
                    "gives the scores without them"
                )
                # A check that only warns is seen in the UI; this is for the command line.
                context.log.warning(words)
            else:
                words += "train or dev"
            return dg.AssetCheckResult(
                passed=not count,
                severity=dg.AssetCheckSeverity.WARN,
                description=words,
                metadata={
                    "near_copies": count,
                    "test_faces_compared": found.test_faces,
                    "training_faces_compared": found.training_faces,
                    **({"pairs": markdown_table(shown)} if count else {}),
                },
            )

    return [no_near_copy_of_a_test_face]


def _photos(manifest: pa.Table, rows: NDArray[np.int64]) -> list[str]:
    chosen = manifest.select(["list", "image_path"]).take(pa.array(rows, pa.int64()))
    return [f"{row['image_path']} ({row['list']})" for row in chosen.to_pylist()]
