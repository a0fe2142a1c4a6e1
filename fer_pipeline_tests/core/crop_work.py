"""A data set with its manifest, and the shards made of them: what the tests of crops share."""

import pyarrow as pa
import pyarrow.parquet as pq

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.index import build_index
from fer_pipeline.core.manifest import MANIFEST_FILE, build_manifest, read_manifest
from fer_pipeline.core.shards import write_shard
from fer_pipeline.core.worklist import plan_work, read_slice

CLASSES = ("Neutral", "Happiness", "Sadness", "Surprise")
SETTINGS = CropSettings(side=24)


class Made:
    """A data set, the folder of its manifest, and what was made of them."""

    def __init__(self, dataset, folder, classes=CLASSES):
        self.dataset = dataset
        self.folder = folder
        self.classes = classes
        self.make()

    def make(self):
        build_index(self.dataset, self.folder / "index")
        build_manifest(
            self.dataset,
            self.folder / "index",
            self.manifest_folder,
            self.classes,
            label_source="listed",
            dev_share=0.3,
            seed=0,
        )

    @property
    def manifest_folder(self):
        return self.folder / "manifest"

    @property
    def manifest(self):
        return read_manifest(self.manifest_folder)

    def change(self, at, **values):
        """Write other values into one row of the manifest."""
        manifest = self.manifest
        rows = manifest.to_pylist()
        rows[at] |= values
        changed = pa.Table.from_pylist(rows, schema=manifest.schema)
        pq.write_table(changed, self.manifest_folder / MANIFEST_FILE)

    def write(self, folder, settings=SETTINGS, shard_rows=7, on_faces=None):
        """Every shard of the manifest, in order."""
        parts = plan_work(self.dataset, self.manifest_folder, folder, settings, shard_rows)
        return [
            write_shard(self.dataset, *read_slice(folder, part.number), folder, settings, on_faces)
            for part in parts
        ]
