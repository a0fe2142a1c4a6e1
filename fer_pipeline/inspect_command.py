"""`fer-pipeline inspect`: what a folder holds, what is odd about it, and the command to run."""

import json
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from fer_pipeline.core.crop import Status
from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.datasets.base import OneDataSet, Role
from fer_pipeline.core.datasets.registry import check_options, is_general, problems, recognised
from fer_pipeline.core.files import publish_bytes
from fer_pipeline.core.inspection import Inspection, inspect_data_set, looks_like
from fer_pipeline.core.storage import Location, as_location
from fer_pipeline.data_sources import read_dataset_options
from fer_pipeline.options import DatasetOptions, Json
from fer_pipeline.streams import STREAMS, fitting_stream
from fer_pipeline.terminal import print_json, say

_FEW_FACES = 30
"""Training faces of a class below which a tenth of them, as dev, may be none."""


def inspect(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="Folder or address that holds the data set.")
    ],
    dataset: Annotated[
        str | None, typer.Option(help="Format of the data set; without it, it is guessed.")
    ] = None,
    dataset_options: DatasetOptions = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write a sheet of sample pictures (PNG).")
    ] = None,
    as_json: Json = False,
) -> None:
    """What a folder holds: its format, rows by class, what is odd, and the command to run.

    Reads the lists and about a dozen photos; makes nothing.
    """
    console = Console(stderr=True)
    options = read_dataset_options(dataset_options or ())
    check_options(options)
    for problem in problems():
        say(console, problem, head="skipped:", style="yellow")
    root = as_location(folder)
    found = looks_like(root) if dataset is None else recognised(root)
    name = dataset or next(iter(found))
    source = open_dataset(name, root, options=options)
    inspection = _inspected(source, console)
    stream = fitting_stream(*_classes_by_side(inspection))
    said = {
        "format": name,
        "title": source.title,
        "why": found.get(name, "--dataset says so"),
        "also": {other: why for other, why in found.items() if other != name},
        "counts": inspection.by_split(),
        "lists": {
            listed: {"role": inspection.roles[listed].value, "classes": dict(counts)}
            for listed, counts in inspection.counts.items()
        },
        "rows_read": inspection.rows_read,
        "rows_indexed": inspection.rows_indexed,
        "rejected": [vars(one) for one in inspection.rejected],
        "samples": _samples(inspection),
        "problems": [
            *_leftovers(root, name, found),
            *inspection.problems,
            *_stream_problems(inspection, stream),
        ],
        "command": None if stream is None else _command(name, root, options, inspection, *stream),
    }
    if out is not None:
        said["sheet"] = str(out.absolute())
        publish_bytes(out.absolute(), _sheet(inspection))
    _tell(root, said, inspection, console)
    if as_json:
        print_json(said)


def _inspected(source: OneDataSet, console: Console) -> Inspection:
    columns = SpinnerColumn(), TextColumn("{task.description}")
    with (
        tempfile.TemporaryDirectory() as scratch,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        task = progress.add_task("reading the lists")
        return inspect_data_set(
            source,
            Path(scratch),
            lambda rows: progress.update(task, description=f"reading the lists: {rows:,} rows"),
        )


def _classes_by_side(inspection: Inspection) -> tuple[set[str], set[str], set[str]]:
    """Classes that have faces in train, dev and test; where there is no dev list, dev is train."""

    def of(role: Role) -> set[str]:
        lists = (name for name in inspection.counts if inspection.roles[name] == role)
        return {label for name in lists for label in inspection.counts[name]}

    given = Role.DEV in inspection.roles.values()
    return of(Role.TRAIN), of(Role.DEV if given else Role.TRAIN), of(Role.TEST)


def _leftovers(root: Location, name: str, found: Mapping[str, str]) -> Iterator[str]:
    for other, why in found.items():
        if other != name and not is_general(other):
            yield f"{root} looks like {other} too ({why}): what is left of another set goes apart"


def _stream_problems(
    inspection: Inspection, stream: tuple[str, Sequence[str]] | None
) -> Iterator[str]:
    if stream is None:
        yield "fewer than two classes have faces in train, dev and test, so that no run can be made"
        return
    if Role.DEV in inspection.roles.values():
        return
    train = {label: row.get(Role.TRAIN.value, 0) for label, row in inspection.by_split().items()}
    few = [f"{label} ({train[label]})" for label in stream[1] if train[label] < _FEW_FACES]
    if few:
        yield (
            f"few training faces, of which dev takes a tenth: {', '.join(few)}; FER_DEV_SHARE "
            "sets another share"
        )


def _command(
    name: str,
    root: Location,
    options: Mapping[str, str],
    inspection: Inspection,
    stream: str,
    own_classes: Sequence[str],
) -> str:
    """The command as a shell takes it; a stream that isn't defined is, in the environment."""
    words = ["fer-pipeline", "run", "--dataset", name, "--root", str(root)]
    for option, value in options.items():
        words += ["--dataset-option", f"{option}={value}"]
    words += ["--stream", stream]
    if inspection.unknown_labels:
        words += ["--unknown-labels", "reject"]
    if stream not in STREAMS:
        words = [f"FER_STREAM_CLASSES={json.dumps({stream: list(own_classes)})}", *words]
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """As `shlex.quote`, but for the name of a variable, which is none inside of quotes."""
    if word.startswith("FER_STREAM_CLASSES="):
        variable, _, value = word.partition("=")
        return f"{variable}={shlex.quote(value)}"
    return shlex.quote(word)


def _samples(inspection: Inspection) -> list[dict[str, Any]]:
    return [
        {
            "photo": one.face.image_path,
            "list": one.face.list,
            "class": one.face.expression,
            "status": one.status.value,
            "reason": one.reason,
        }
        for one in inspection.samples
    ]


def _sheet(inspection: Inspection) -> bytes:
    from fer_pipeline.core.photo_figures import sample_photos

    captions = [
        f"{one.face.expression} ({one.face.list})"
        + ("" if one.status is Status.OK else f"\n{one.status}")
        for one in inspection.samples
    ]
    return sample_photos([one.picture for one in inspection.samples], captions)


def _tell(
    root: Location, said: Mapping[str, Any], inspection: Inspection, console: Console
) -> None:
    title = "" if said["title"] == said["format"] else f" ({said['title']})"
    say(console, f"{root}: {said['why']}{title}", head=said["format"], style="bold")
    for other, why in said["also"].items():
        say(console, f"looks like {other} too: {why} (--dataset {other} takes it so)")
    console.print(_count_table(inspection))
    if inspection.rejected:
        table = Table("rejected because", "rows", "first: file", "row", "value")
        for one in inspection.rejected:
            row = (one.reason, f"{one.rows:,}", one.file, str(one.row), one.value)
            table.add_row(*map(escape, row))
        console.print(table)
    for problem in said["problems"]:
        say(console, problem, head="!", style="yellow")
    if inspection.votes:
        say(
            console,
            f"There are {inspection.votes}: --label-source votes trains and scores on them.",
        )
    opened = sum(one.picture is not None for one in inspection.samples)
    sheet = said.get("sheet") or "--out FILE.png draws them"
    say(console, f"{opened} of {len(inspection.samples)} photos looked at are fine: {sheet}")
    if said["command"]:
        say(console, said["command"], head="run:", style="green")


def _count_table(inspection: Inspection) -> Table:
    lists = list(inspection.counts)
    heads = [f"{name} ({inspection.roles[name].value.replace('_', ' ')})" for name in lists]
    table = Table("class", *(escape(head) for head in heads), "rows")
    for label in inspection.by_split():
        rows = [inspection.counts[name].get(label, 0) for name in lists]
        table.add_row(label, *(f"{count:,}" for count in rows), f"{sum(rows):,}")
    sums = [sum(inspection.counts[name].values()) for name in lists]
    table.add_row("all", *(f"{count:,}" for count in sums), f"{sum(sums):,}", style="bold")
    return table
