"""`fer-pipeline labels`: which number and which word means which expression, by format."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fer_pipeline.core.datasets import find_format
from fer_pipeline.core.datasets.registry import problems, usable_formats
from fer_pipeline.core.labels import CODES, NAMES, spellings
from fer_pipeline.options import Json
from fer_pipeline.terminal import print_json, say


def labels(as_json: Json = False) -> None:
    """Every expression: its AffectNet code, its spellings, and what each format writes for it."""
    console = Console(stderr=True)
    for problem in problems():
        say(console, problem, head="skipped:", style="yellow")
    tables = {name: find_format(name).labels for name in usable_formats()}
    expressions: list[dict[str, Any]] = [
        {
            "name": name,
            "code": CODES[name],
            "spellings": spellings(name),
            "written": {
                owner: [text for text, meant in table.items() if meant == name]
                for owner, table in tables.items()
                if name in table.values()
            },
        }
        for name in NAMES
    ]
    by_name = [owner for owner, table in tables.items() if not table]
    # Formats that write the same share a column.
    columns: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for owner, table in tables.items():
        if table:
            columns.setdefault(tuple(sorted(table.items())), []).append(owner)
    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for head in ("expression", "code"):
        shown.add_column(head, no_wrap=True)
    shown.add_column("spellings", min_width=12)
    for owners in columns.values():
        shown.add_column(escape("\n".join(owners)), min_width=max(map(len, owners)))
    for one in expressions:
        written = (one["written"].get(owners[0], ()) for owners in columns.values())
        shown.add_row(
            one["name"],
            str(one["code"]),
            ", ".join(one["spellings"]),
            *(escape(", ".join(texts)) for texts in written),
        )
    console.print(shown)
    if by_name:
        say(console, f"These write names: {', '.join(by_name)}.")
    if as_json:
        print_json({"expressions": expressions, "by_name": by_name})
