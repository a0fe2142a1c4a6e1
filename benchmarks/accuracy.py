"""How often the starter model is right, beside other packages on the same faces.

Every package answers in its own process and through its own code, on the same pixels: the picture
where it is a face, else the square around the listed box.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Bench, Figures, Peers, Side, run_side
from benchmarks.labelled import Labelled, labelled_faces, positions, scores_of
from benchmarks.page import measured
from benchmarks.peers import square
from fer_pipeline.core.intervals import Estimate

START, END = "<!-- peers -->", "<!-- end of peers -->"
_HEAD = ("faces", "package", "accuracy", "balanced accuracy", "macro-F1", "n")


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


def ours(faces: str, out: str) -> Figures:
    """What the starter model says of each listed face."""
    from fer_pipeline.core.recogniser import Recogniser

    listed = json.loads(Path(faces).read_text())
    boxes = [None if box is None else [square(box)] for _, box in listed]
    # Where there is no box, the picture is the face.
    readings = Recogniser.load().read_many([file for file, _ in listed], boxes=boxes, whole=True)
    labels = [reading.faces[0].label if reading.faces else None for reading in readings]
    Path(out).write_text(json.dumps(labels))
    return {"faces": len(listed)}


def _asked(faces: Labelled, peers: Peers) -> list[_Asked]:
    """Everyone who is asked, the starter model and what peers there are."""
    functions = {"starter model": ("accuracy:ours", None)} | {
        peers.named(package): (f"peers:{package}_faces", peers.python) for package in peers.versions
    }
    found = []
    for package, (function, python) in functions.items():
        out = faces.listed.with_name(f"{package}.json")
        given = {"faces": str(faces.listed), "out": str(out)}
        side = Side(function, given, one_core=False, python=python)
        found.append(_Asked(package, side, out))
    return found


def _lines(faces: Labelled, peers: Peers) -> list[str]:
    """The answers of each package, best package first, on the faces that all answered."""
    asked = _asked(faces, peers)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = list(pool.map(_answers, asked))
    kept = np.all([said >= 0 for said in answers], axis=0)
    n = f"{int(kept.sum()):,}"
    if not kept.all():
        n += f", {int((~kept).sum()):,} left out that someone gave no answer for"
    found = []
    for one, said in zip(asked, answers, strict=True):
        scores = scores_of(faces, said, kept)
        found.append((scores[0].value, " | ".join([one.package, *map(_estimate, scores), n])))
    return [line for _, line in sorted(found, reverse=True)]


def _answers(asked: _Asked) -> npt.NDArray[np.int64]:
    """The class of every face."""
    run_side(asked.side)
    return positions(json.loads(asked.out.read_text()))


def _estimate(score: Estimate) -> str:
    return f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})"
