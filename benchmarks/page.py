"""The table of docs/performance.md: written between two marks, the rest of the page stays."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from benchmarks.harness import Row

START, END = "<!-- figures -->", "<!-- end of figures -->"
_PACKAGES = (
    "dagster",
    "keras",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pandas",
    "pyarrow",
    "simplejpeg",
    "tensorflow-cpu",
)


def table(rows: Sequence[Row]) -> str:
    """The figures as Markdown, with date, machine and versions above."""
    head = ("work", "ours", "beside", "ratio", "target", "n, repeats")
    lines = [
        measured(),
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
    ]
    for row in rows:
        side = "at least" if row.at_least else "at most"
        target = "none" if row.target is None else f"{side} {row.target:g}"
        cells = [row.work, row.ours, row.beside, f"{row.ratio:.2f}", target, row.n]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def measured() -> str:
    """When, on what machine and with which packages."""
    return f"Measured on {datetime.now(UTC):%Y-%m-%d}: {machine()}; {versions()}."


def write(page: Path, text: str, start: str = START, end: str = END) -> None:
    """Put `text` between the marks of a page, or at its end where it has none."""
    before, found, rest = (page.read_text() if page.is_file() else "").partition(start)
    after = rest.partition(end)[2] if found else "\n"
    page.write_text(f"{before}{start}\n{text}\n{end}{after}")


def machine() -> str:
    """Cores, processor and memory; nothing that names the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 2**30
    return f"{cores} cores ({_processor()}), {memory:.0f} GiB of memory, {platform.system()}"


def versions() -> str:
    """Python and the packages whose speed it is."""
    found = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.is_file():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
