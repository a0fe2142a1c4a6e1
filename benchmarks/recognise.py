"""Recognition with the starter model on one core, beside the package fer where it is at hand."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.frames import Image, drawn_photos, real_photos, video
from benchmarks.harness import PEAK, Bench, Figures, Row, Side, rate, seconds
from benchmarks.peers import photos_of, rate_of

_PHOTOS = 50
_FEWEST = 4
_SOME, _MANY = 30, 10
"""The memory of so many photos, and of so many times as many."""
_FRAMES = 120
_BATCH = 64
_FACES_PER_SECOND = 1000.0
_SECONDS = 1.5
_MEGABYTES = 400.0
_FRAMES_PER_SECOND = 25.0
_OURS = """
import sys
from fer_pipeline import Recogniser
print(len(Recogniser.load().read(sys.argv[1])), "faces", flush=True)
"""
_FER = """
import sys
from fer.fer import FER
print(len(FER().detect_emotions(sys.argv[1])), "faces", flush=True)
"""


def rows(bench: Bench) -> Iterator[Row]:
    count = max(_FEWEST, min(bench.photos, _PHOTOS))
    folders = {"drawn": str(drawn_photos(bench.data, count, bench.tell))}
    if bench.real is not None:
        bench.tell("cutting real photos")
        folders["real"] = str(real_photos(bench.data, bench.real, count))
    photo = str(min(Path(folders["drawn"]).iterdir()))
    some = min(count, _SOME)
    memory = {"folder": folders["drawn"], "count": some}
    sides = {
        "expression": Side("recognise:network"),
        "photos": Side("recognise:photos", {"folders": folders}),
        "start": Side("recognise:start", {"program": _OURS, "photo": photo}),
        "some photos": Side("recognise:many", memory),
        "many photos": Side("recognise:many", {**memory, "count": _MANY * some}),
        "live": Side("recognise:live", {"count": _FRAMES}),
    }
    fer = bench.peers is not None and "fer" in bench.peers.versions
    if bench.peers is not None and fer:
        python, named = bench.peers.python, bench.peers.named("fer")
        given = {"program": _FER, "photo": photo, "python": python}
        sides |= {
            named: Side("peers:fer_speed", {"folders": folders}, python=python),
            f"start of {named}": Side("recognise:start", given),
        }
    found = bench.medians(sides)
    peer = found[named] if fer else None
    yield _absolute(
        f"expression alone, crops of 48 px in batches of {_BATCH}, one core",
        rate(found["expression"], unit="faces/s"),
        f"{_FACES_PER_SECOND:,.0f} faces/s",
        found["expression"]["rate"] / _FACES_PER_SECOND,
        bench.times(_BATCH, "faces"),
        f"{named}, its int8 network alone: {rate(peer, 'network', 'faces/s')}" if peer else None,
    )
    if peer is not None:
        for name, folder in folders.items():
            size = bench.times(len(list(Path(folder).iterdir())), "photos")
            yield Row(
                f"JPEG of 640x480 to expressions, {name} photos, one core",
                _photos(found["photos"], name),
                f"{named}, its own detector: {_photos(peer, name)}",
                found["photos"][f"{name}_rate"] / peer[f"{name}_rate"],
                3.0,
                size,
            )
    yield _absolute(
        "start of Python to the first answer on a photo, library, one core",
        seconds(found["start"]),
        f"{_SECONDS:g} s",
        found["start"]["seconds"] / _SECONDS,
        f"{bench.repeats}x",
        f"{named}: {seconds(found[f'start of {named}'])}" if fer else None,
        at_least=False,
    )
    few_mb, many_mb = found["some photos"][PEAK], found["many photos"][PEAK]
    yield _absolute(
        f"peak memory of recognition, {_MANY * some:,} photos, imports included",
        f"{many_mb:,.0f} MB",
        f"{_MEGABYTES:,.0f} MB",
        many_mb / _MEGABYTES,
        f"{bench.repeats}x",
        f"{named}, {len(folders) * count} photos: {peer[PEAK]:,.0f} MB" if peer else None,
        at_least=False,
    )
    yield Row(
        "peak memory of recognition, many photos beside some",
        f"{_MANY * some:,} photos: {many_mb:,.0f} MB",
        f"{some} photos: {few_mb:,.0f} MB",
        many_mb / few_mb,
        1.15,
        f"{bench.repeats}x",
        at_least=False,
    )
    yield _absolute(
        "live: frames of 640x480 to tracked faces drawn in, one core",
        f"{rate(found['live'], unit='frames/s')}, a face in {found['live']['found']:.0%}",
        f"{_FRAMES_PER_SECOND:g} frames/s",
        found["live"]["rate"] / _FRAMES_PER_SECOND,
        bench.times(_FRAMES, "frames"),
    )


def _absolute(
    work: str,
    ours: str,
    target: str,
    ratio: float,
    n: str,
    peer: str | None = None,
    *,
    at_least: bool = True,
) -> Row:
    """A row whose target is a figure, so that the ratio to it has to be 1; a peer beside it."""
    return Row(work, ours, f"{target}; {peer}" if peer else target, ratio, 1.0, n, at_least)


def _photos(figures: Figures, name: str) -> str:
    return f"{rate(figures, f'{name}_rate', 'photos/s')}, a face in {figures[f'{name}_found']:.0%}"


def network() -> Figures:
    import numpy as np

    from fer_pipeline.core.inference import ExpressionNetwork
    from fer_pipeline.core.starter import starter_file

    starter = ExpressionNetwork(starter_file(), threads=1)
    shape = (_BATCH, *starter.card.crop.shape)
    crops = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return {"rate": rate_of(lambda: starter.probabilities(crops), _BATCH)}


def photos(folders: Mapping[str, str]) -> Figures:
    import cv2

    from fer_pipeline.core.recogniser import Recogniser

    cv2.setNumThreads(1)
    recogniser = Recogniser.load(threads=1)
    figures: dict[str, float] = {}
    for name, folder in folders.items():
        data = [file.read_bytes() for file in sorted(Path(folder).iterdir())]
        figures |= photos_of(name, data, lambda photo: bool(recogniser.read(photo)))
    return figures


def start(program: str, photo: str, python: str | None = None) -> Figures:
    """Seconds from the start of an interpreter until `program` says what it found in a photo."""
    order = [python or sys.executable, "-c", program, photo]
    started = time.perf_counter()
    with subprocess.Popen(order, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        said = process.stdout.readline()
        took = time.perf_counter() - started
    if process.returncode or not said.strip().endswith(b"faces"):
        raise RuntimeError(f"{order[0]} gave no answer on a photo, but {said!r}")
    return {"seconds": took}


def many(folder: str, count: int) -> Figures:
    from fer_pipeline.core.recogniser import Recogniser

    recogniser = Recogniser.load(threads=1)
    data = [file.read_bytes() for file in sorted(Path(folder).iterdir())]
    pictures = [data[number % len(data)] for number in range(count)]
    return {"faces": sum(len(reading.faces) for reading in recogniser.read_many(pictures))}


def live(count: int) -> Figures:
    """Frames read, their faces joined to tracks and drawn in, as a camera's are."""
    import cv2

    from fer_pipeline.core.annotate import annotated
    from fer_pipeline.core.recogniser import Recogniser
    from fer_pipeline.core.tracks import FaceTracks

    cv2.setNumThreads(1)
    recogniser, tracks = Recogniser.load(threads=1), FaceTracks()

    def shown(number: int, frame: Image) -> bool:
        faces = recogniser.read(frame, order="bgr", whole=False, small=False)
        tracked = tracks.update(faces, number / _FRAMES_PER_SECOND)
        image = annotated(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), [one.face for one in tracked])
        return bool(image.size and tracked)

    frames = video(count)
    shown(0, frames[0])
    started = time.perf_counter()
    found = sum(shown(number, frame) for number, frame in enumerate(frames))
    return {"rate": count / (time.perf_counter() - started), "found": found / count}
