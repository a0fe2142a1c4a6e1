"""The class manifest of a large index whose photos are elsewhere: time and peak memory."""

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import index
from benchmarks.harness import PEAK, Bench, Figures, Row, Side
from benchmarks.lists import prepared_lists

_CLASSES = ("Neutral", "Happiness", "Sadness", "Surprise", "Anger")


def rows(bench: Bench) -> Iterator[Row]:
    root = prepared_lists(bench.data, bench.rows, bench.tell)
    folder = bench.data / "index"
    given = {"root": str(root), "target": str(folder)}
    bench.tell("making the index")
    index.ours(**given)
    found = bench.medians({"manifest": Side("manifest:ours", given)})["manifest"]
    yield Row(
        "peak memory of the manifest, imports included",
        f"{found[PEAK]:,.0f} MB in {found['seconds']:.1f} s",
        "1,500 MB",
        found[PEAK] / 1500,
        1.0,
        bench.times(bench.rows, "index rows, photos missing"),
        at_least=False,
    )


def ours(root: str, target: str) -> Figures:
    from fer_pipeline.core.datasets import open_dataset
    from fer_pipeline.core.manifest import build_manifest

    dataset, folder = open_dataset("affectnet", Path(root)), Path(target)
    started = time.perf_counter()
    build_manifest(
        dataset,
        folder,
        folder / "manifest",
        _CLASSES,
        label_source="listed",
        dev_share=0.1,
        seed=0,
    )
    return {"seconds": time.perf_counter() - started}
