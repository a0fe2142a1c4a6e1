"""The command line: `python -m benchmarks`, which is what `make bench` runs."""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import batches, crop, detect, index, manifest, page, stage
from benchmarks.harness import Bench, Row, Subject, limited

SUBJECTS: Mapping[str, Subject] = {
    "index": index.rows,
    "manifest": manifest.rows,
    "crop": crop.rows,
    "detect": detect.rows,
    "stage": stage.rows,
    "batches": batches.rows,
}
_PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
_REAL = "FER_BENCH_DATA"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for, show the table, write it to the page; give the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        chosen = limited(list(SUBJECTS), options.only)
    except ValueError as error:
        console.print(str(error), style="red")
        return 2
    real = Path(os.environ[_REAL]).resolve() if os.environ.get(_REAL) else None
    if real is None:
        console.print(f"{_REAL} names no folder: work on real photos is left out.")
    elif not real.is_dir():
        console.print(f"{_REAL} is {real}, which is no folder.", style="red")
        return 2
    options.data.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
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
                tell=tell,
            )
            for row in SUBJECTS[name](bench):
                missed = "" if row.met else f", [red]missed: {row.target:g}[/red]"
                console.print(f"{row.work}: {row.ours} (ratio {row.ratio:.2f}{missed})")
                rows.append(row)
    text = page.table(rows)
    print(text)
    # The page's figures are of one run: a part of them is only shown.
    target = options.page or (None if options.only else _PAGE)
    if target is not None:
        page.write(target, text)
    return 0


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
        "--page", type=Path, help="page to write; docs/performance.md where nothing is left out"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
