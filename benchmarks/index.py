"""The file-list index, beside the notebooks' way: pandas reads, joins, drops, filters, writes."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import PEAK, Bench, Figures, Row, Side, seconds
from benchmarks.lists import HEADER, LISTS, prepared_lists

_WANTED = (0, 1, 2, 3, 6)


def rows(bench: Bench) -> Iterator[Row]:
    root = prepared_lists(bench.data, bench.rows, bench.tell)
    target = bench.data / "index"
    given = {"root": str(root), "target": str(target)}
    size = bench.times(bench.rows, "rows")
    # The target is for one core: pandas gains as much from a second one.
    for cores, one_core, promised in (("one core", True, 1.5), ("all cores", False, None)):
        found = bench.medians(
            {
                "ours": Side("index:ours", given, one_core),
                "pandas": Side("index:notebook", given, one_core),
            }
        )
        ours, beside = found["ours"], found["pandas"]
        yield Row(
            f"index of AffectNet-like lists, {cores}",
            seconds(ours),
            f"pandas read_csv, concat, drop, filter, to_csv: {seconds(beside)}",
            beside["seconds"] / ours["seconds"],
            promised,
            size,
        )
    yield Row(
        "peak memory of the index, imports included",
        f"{ours[PEAK]:,.0f} MB",
        f"1,000 MB; pandas: {beside[PEAK]:,.0f} MB",
        ours[PEAK] / 1000,
        1.0,
        size,
        at_least=False,
    )
    shutil.rmtree(target, ignore_errors=True)


def ours(root: str, target: str) -> Figures:
    from fer_pipeline.core.datasets import open_dataset
    from fer_pipeline.core.index import build_index

    shutil.rmtree(target, ignore_errors=True)
    started = time.perf_counter()
    build_index(open_dataset("affectnet", Path(root)), Path(target))
    return {"seconds": time.perf_counter() - started}


def notebook(root: str, target: str) -> Figures:
    import pandas as pd

    shutil.rmtree(target, ignore_errors=True)
    Path(target).mkdir(parents=True)
    started = time.perf_counter()
    parts = []
    for name, (file, _, has_header) in LISTS.items():
        part = pd.read_csv(
            Path(root) / file,
            header=0 if has_header else None,
            names=HEADER.split(","),
        )
        part["annotation"] = "auto" if name == "auto" else "manual"
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    table = table.drop(columns=["facial_landmarks"])
    table = table[table["expression"].isin(_WANTED)]
    table.to_csv(Path(target) / "file_list.csv", index=False)
    return {"seconds": time.perf_counter() - started}
