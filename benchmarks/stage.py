"""The crop stage through Dagster: workers, its cost beside a bare loop, memory at two sizes."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from benchmarks.harness import Bench, Figures, Row, Side, rate
from benchmarks.photos import faces_of, linked, read_faces, release, write_faces

_SAMPLE_SECONDS = 0.2
_FEWEST = 160
_TIMES = 5
"""How often each drawn photo stands in the large run, each time under another name."""


def rows(bench: Bench) -> Iterator[Row]:
    drawn = max(_FEWEST, bench.photos)
    root = release(bench.data, drawn, "portrait", bench.tell)
    large = linked(bench.data, root, _TIMES * drawn, bench.tell)
    small = linked(bench.data, root, drawn // 2, bench.tell)
    homes = {size: bench.data / f"home-linked-{size}" for size in (drawn // 2, _TIMES * drawn)}
    for source, (size, home) in zip((small, large), homes.items(), strict=True):
        bench.tell(f"index and manifest of {size:,} photos")
        prepare(source, home)
    few, many = homes
    faces = write_faces(bench.data / "stage.json", faces_of(large, many))
    found = bench.medians(
        {
            "one worker": _side(homes[many], 1, many),
            "two workers": _side(homes[many], 2, many),
            "two workers, fewer faces": _side(homes[few], 2, few),
            "bare loop": Side("stage:bare_loop", {"faces": faces}),
        }
    )
    one, two, loop = found["one worker"], found["two workers"], found["bare loop"]
    amount = bench.times(many, "photos")
    yield Row(
        "crop stage, 2 workers",
        rate(two),
        f"1 worker: {rate(one)}",
        two["rate"] / one["rate"],
        1.8,
        amount,
    )
    yield Row(
        "crop stage as a whole, 1 worker (Dagster, shards, statuses)",
        rate(one),
        f"bare loop of its own decode-crop function, one core: {rate(loop)}",
        one["rate"] / loop["rate"],
        0.85,
        amount,
    )
    fewer = found["two workers, fewer faces"]
    for key, name in (("largest_mb", "largest process"), ("sum_mb", "all processes")):
        yield Row(
            f"peak memory of the crop stage, 2 workers, {name}",
            f"{many:,} faces: {two[key]:,.0f} MB",
            f"{few:,} faces: {fewer[key]:,.0f} MB",
            two[key] / fewer[key],
            1.15,
            f"{bench.repeats}x",
            at_least=False,
        )


def _side(home: Path, workers: int, faces: int) -> Side:
    # Four shards, which is what the planner makes of 100,000 of these photos by itself: fewer faces
    # would be one, and so one worker.
    rows = round(0.3 * faces)
    settings = {"home": str(home), "workers": workers, "shard_rows": rows}
    return Side("stage:stage", settings, one_core=False)


def prepare(root: Path, home: Path) -> None:
    """Make index and manifest of a release in a home, unless they are there."""
    if _command(root, home, "class_manifest", {}).wait():
        raise RuntimeError(f"no manifest came into {home}: see its dagster/command-line.log")


def stage(home: str, workers: int, shard_rows: int) -> Figures:
    """Faces a second from Dagster's first crop step to its last, and the memory meanwhile."""
    folder = Path(home)
    shutil.rmtree(folder / "crops", ignore_errors=True)
    chosen = {"FER_WORKERS": str(workers), "FER_SHARD_ROWS": str(shard_rows)}
    process = _command(None, folder, "face_crops", chosen)
    largest = together = 0
    while process.poll() is None:
        sizes = _memory_of(process.pid)
        largest, together = max([largest, *sizes]), max(together, sum(sizes))
        time.sleep(_SAMPLE_SECONDS)
    if process.returncode:
        raise RuntimeError(f"the crop stage failed: see {folder}/dagster/command-line.log")
    faces, seconds = _length_of_stage(folder)
    return {
        "rate": faces / seconds,
        "seconds": seconds,
        "largest_mb": largest / 2**20,
        "sum_mb": together / 2**20,
    }


def bare_loop(faces: str) -> Figures:
    import cv2

    from fer_pipeline.core.crop import CropSettings, prepare_face

    cv2.setNumThreads(1)
    settings, chosen = CropSettings(), read_faces(faces)
    prepare_face(Path(chosen[0][0]).read_bytes(), chosen[0][1], settings)
    started = time.perf_counter()
    for file, box in chosen:
        prepare_face(Path(file).read_bytes(), box, settings)
    return {"rate": len(chosen) / (time.perf_counter() - started)}


def _command(
    root: Path | None, home: Path, asset: str, settings: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    words = [Path(sys.executable).with_name("fer-pipeline"), "run", "--home", home]
    words += ["--select", asset]
    if root is not None:
        words += ["--dataset", "affectnet", "--root", root]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FER_")}
    return subprocess.Popen(
        [str(word) for word in words],
        # A third of the faces as dev: every class is in every split, however few photos.
        env={**kept, **settings, "FER_DEV_SHARE": "0.33"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _memory_of(pid: int) -> list[int]:
    """Resident bytes of each process of a run; pages that several share count for each."""
    sizes = []
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    for process in processes:
        try:
            sizes.append(process.memory_info().rss)
        except psutil.NoSuchProcess:
            continue
    return sizes


def _length_of_stage(home: Path) -> tuple[int, float]:
    """Faces, and seconds from the start of the first step's process to the last step's success."""
    from dagster import DagsterEventType, DagsterInstance

    first = last = 0.0
    faces = 0
    with DagsterInstance.from_config(str(home / "dagster")) as instance:
        run = instance.get_runs(limit=1)[0]
        for entry in instance.all_logs(run.run_id):
            event, key = entry.dagster_event, entry.step_key or ""
            if event is None or not key.startswith("face_crops."):
                continue
            if event.event_type == DagsterEventType.STEP_WORKER_STARTING and not first:
                first = entry.timestamp
            elif event.event_type == DagsterEventType.STEP_SUCCESS:
                last = entry.timestamp
            elif event.event_type == DagsterEventType.ASSET_MATERIALIZATION:
                made = event.step_materialization_data.materialization.metadata
                faces = int(str(made["dagster/row_count"].value))
    return faces, last - first
