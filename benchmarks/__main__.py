"""The command line: `python -m benchmarks`, which is what `make bench` runs."""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import (
    accuracy,
    batches,
    crop,
    detect,
    formats,
    index,
    manifest,
    page,
    recognise,
    stage,
)
from benchmarks.harness import Bench, Peers, Row, Subject, limited
from benchmarks.peers import PACKAGES, versions

SUBJECTS: Mapping[str, Subject] = {
    "index": index.rows,
    "formats": formats.rows,
    "manifest": manifest.rows,
    "crop": crop.rows,
    "detect": detect.rows,
    "stage": stage.rows,
    "batches": batches.rows,
    "recognise": recognise.rows,
}
_PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
_REAL, _FER2013 = "FER_BENCH_DATA", "FER_BENCH_FER2013"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for, show the tables, write them to the page; give the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        chosen = limited(list(SUBJECTS), options.only)
        real, fer2013 = _folder(_REAL), _folder(_FER2013)
        peers = Peers(options.peers, versions(options.peers)) if options.peers else None
    except ValueError as error:
        console.print(str(error), style="red")
        return 2
    if real is None:
        console.print(f"{_REAL} names no folder: work on real photos is left out.")
    if "recognise" in chosen:
        _say_what_is_left_out(console, peers, fer2013)
    options.data.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    beside = None
    with console.status("starting") as status:
        for name in chosen:

            def tell(what: str, name: str = name) -> None:
                status.update(f"{name}: {what}")

            bench = Bench(
                data=options.data.resolve(),
                photos=options.photos,
                rows=options.rows,
                repeats=options.repeats,
                real=real,
                fer2013=fer2013,
                peers=peers,
                tell=tell,
            )
            for row in SUBJECTS[name](bench):
                missed = "" if row.met else f", [red]missed: {row.target:g}[/red]"
                console.print(f"{row.work}: {row.ours} (ratio {row.ratio:.2f}{missed})")
                rows.append(row)
            if name == "recognise" and peers is not None:
                beside = accuracy.table(bench, peers)
    # The page's figures are of one run: a part of them is only shown.
    target = options.page or (None if options.only else _PAGE)
    for text, start, end in (
        (page.table(rows), page.START, page.END),
        (beside, accuracy.START, accuracy.END),
    ):
        if text is not None:
            print(text)
            if target is not None:
                page.write(target, text, start, end)
    return 0


def _folder(variable: str) -> Path | None:
    """The folder that a variable names, None where it names none; ValueError for what is none."""
    if not os.environ.get(variable):
        return None
    folder = Path(os.environ[variable]).resolve()
    if not folder.is_dir():
        raise ValueError(f"{variable} is {folder}, which is no folder.")
    return folder


def _say_what_is_left_out(console: Console, peers: Peers | None, fer2013: Path | None) -> None:
    if peers is None:
        console.print("no --peers: rows beside other packages, accuracy with them, are left out.")
        return
    for package in PACKAGES:
        if package not in peers.versions:
            console.print(f"{peers.python} has no {package}: rows beside it are left out.")
    if fer2013 is None:
        console.print(f"{_FER2013} names no folder: accuracy on FER2013 is left out.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", default=[], help=f"one of {', '.join(SUBJECTS)}; repeatable"
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side (5)")
    parser.add_argument("--photos", type=int, default=20_000, help="photos of the crop stage")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the index")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(tempfile.gettempdir()) / "fer-pipeline-bench",
        help="folder for drawn photos and lists, used again by the next run",
    )
    parser.add_argument(
        "--peers",
        metavar="PYTHON",
        help="interpreter that has other packages to measure beside, see docs/performance.md",
    )
    parser.add_argument(
        "--page", type=Path, help="page to write; docs/performance.md where nothing is left out"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
