"""How often the starter model is right, beside other packages on the same faces.

Every package answers in its own process and through its own code. Where faces are cut out of
photos by the listed box, each is tried with smaller and larger boxes too, and its best size
counts: all were trained on faces that others had framed.
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Bench, Figures, Peers, Side, run_side
from benchmarks.labelled import Labelled, labelled_faces, positions, scores_of
from benchmarks.page import measured
from benchmarks.peers import grown
from fer_pipeline.core.intervals import Estimate

START, END = "<!-- peers -->", "<!-- end of peers -->"
_SIZES: Sequence[float] = (0.8, 0.9, 1.0, 1.1)
"""Sides of the squares that are tried, in longer sides of the listed box."""
_HEAD = ("faces", "package", "accuracy", "balanced accuracy", "macro-F1", "given", "n")


@dataclass(frozen=True)
class _Asked:
    """A package, and the side that leaves its answers in `out`."""

    package: str
    side: Side
    out: Path


def table(bench: Bench, peers: Peers) -> str | None:
    """The figures as Markdown; None where no labelled faces are given."""
    sets = (
        ("FER2013, PublicTest", "hf-parquet", bench.fer2013),
        ("AffectNet release, validation list", "affectnet", bench.real),
    )
    lines = []
    for name, kind, root in sets:
        if root is not None:
            folder = bench.data / f"labelled-{kind}"
            faces = labelled_faces(kind, root, folder, bench.tell)
            bench.tell(f"answers on {name}")
            lines += [f"| {name} | {line} |" for line in _lines(faces, peers)]
    if not lines:
        return None
    return "\n".join(
        [measured(), "", f"| {' | '.join(_HEAD)} |", f"|{'---|' * len(_HEAD)}", *lines]
    )


def ours(faces: str, out: str, sizes: Sequence[float]) -> Figures:
    """What the starter model says of each listed face, for each size of the box in turn."""
    from fer_pipeline.core.recogniser import Recogniser

    recogniser = Recogniser.load()
    listed = json.loads(Path(faces).read_text())

    def labels(size: float) -> list[str | None]:
        boxes = [None if box is None else [grown(box, size)] for _, box in listed]
        # Where there is no box, the picture is the face.
        readings = recogniser.read_many([file for file, _ in listed], boxes=boxes, whole=True)
        return [reading.faces[0].label if reading.faces else None for reading in readings]

    Path(out).write_text(json.dumps([labels(size) for size in sizes]))
    return {"faces": len(listed)}


def _asked(faces: Labelled, sizes: Sequence[float], peers: Peers) -> list[_Asked]:
    """Everyone who is asked, the starter model and what peers there are."""
    functions = {"starter model": ("accuracy:ours", None)} | {
        peers.named(package): (f"peers:{package}_faces", peers.python) for package in peers.versions
    }
    found = []
    for package, (function, python) in functions.items():
        out = faces.listed.with_name(f"{package}.json")
        given = {"faces": str(faces.listed), "out": str(out), "sizes": sizes}
        side = Side(function, given, one_core=False, python=python)
        found.append(_Asked(package, side, out))
    return found


def _lines(faces: Labelled, peers: Peers) -> list[str]:
    """The best answers of each package, best package first, on the faces that all answered."""
    sizes = (1.0,) if faces.whole else _SIZES
    asked = _asked(faces, sizes, peers)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = list(pool.map(_answers, asked))
    kept = np.all([one >= 0 for of_package in answers for one in of_package], axis=0)
    n = f"{int(kept.sum()):,}"
    if not kept.all():
        n += f", {int((~kept).sum()):,} left out that someone gave no answer for"
    found = []
    for one, of_package in zip(asked, answers, strict=True):
        scores = [scores_of(faces, said, kept) for said in of_package]
        best = max(range(len(scores)), key=lambda at: scores[at][0].value)
        given = "the picture" if faces.whole else f"{sizes[best]:g} of the listed box"
        cells = [one.package, *map(_estimate, scores[best]), given, n]
        found.append((scores[best][0].value, " | ".join(cells)))
    return [line for _, line in sorted(found, reverse=True)]


def _answers(asked: _Asked) -> list[npt.NDArray[np.int64]]:
    """For each size of box that was tried, the class of every face."""
    run_side(asked.side)
    return [positions(said) for said in json.loads(asked.out.read_text())]


def _estimate(score: Estimate) -> str:
    return f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})"
