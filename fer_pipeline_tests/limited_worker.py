"""The preprocessing stages in a process whose memory is bounded, told as one line of JSON.

`python -m fer_pipeline_tests.limited_worker ROOT FOLDER DETECT GIBIBYTES`
"""

import json
import resource
import sys
import time
from pathlib import Path

from fer_pipeline.core.crop import CropSettings, prepare_face
from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.index import build_index
from fer_pipeline.core.manifest import build_manifest
from fer_pipeline.core.shards import write_shard
from fer_pipeline.core.worklist import plan_work, read_slice
from fer_pipeline_tests.core.small_release import encoded, noise


def main(root: Path, folder: Path, detect: str, gibibytes: float) -> None:
    import cv2

    limit = int(gibibytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    cv2.setNumThreads(1)
    settings = CropSettings(detect="always" if detect == "always" else "missing")
    # What is loaded once is no photo's fault.
    prepare_face(encoded(noise(), "JPEG"), None, settings)
    prepare_face(encoded(noise(), "TIFF"), None, settings)
    dataset = open_dataset("affectnet", root)
    build_index(dataset, folder / "index")
    classes = ("Neutral", "Happiness", "Sadness")
    options = {"label_source": "listed", "dev_share": 0.3, "seed": 0}
    build_manifest(dataset, folder / "index", folder / "manifest", classes, **options)
    crops = folder / "crops"
    parts = plan_work(dataset, folder / "manifest", crops, settings, shard_rows=10_000)
    seconds, shards = [], []
    for part in parts:
        chosen, faces = read_slice(crops, part.number)
        before = time.process_time()

        def note(_done: int, _total: int) -> None:
            nonlocal before
            now = time.process_time()
            seconds.append(now - before)
            before = now

        result = write_shard(dataset, chosen, faces, crops, settings, on_faces=note)
        shards.append(result.file_name)
    sys.stdout.write(json.dumps({"seconds": seconds, "shards": shards}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
