"""The commands of those who look after a home: doctor, prune, backup, restore."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fer_pipeline.options import Home, Json
from fer_pipeline.settings import Settings

_console = Console(stderr=True)


def doctor(home: Home = None, as_json: Json = False) -> None:
    """Look at settings, data, home, databases, versions, disk, clock and limits before a run.

    Ends with 0 when nothing is worse than a warning, else with 1.
    """
    from fer_pipeline.operations.doctor import doctor as look

    raise typer.Exit(look(home, as_json=as_json, console=_console))


def prune(
    keep_runs: Annotated[
        int | None,
        typer.Option(min=1, help="Newest versions of each stream to keep (FER_KEEP_RUNS, 5)."),
    ] = None,
    older_than: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="DAYS",
            help="Age of logs, failed trainings and versions that may go (FER_KEEP_DAYS, 30).",
        ),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Remove it; without, only say what can go.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make room: crops of other settings, logs of old runs, old models, what was left half made.

    Nothing goes that can't be made again or is in use, and nothing at all without --apply.
    """
    from fer_pipeline.operations.prune import Retention
    from fer_pipeline.operations.prune import prune as make_room

    settings = Settings.load(home=home, keep_runs=keep_runs, keep_days=older_than)
    kept = Retention(settings.keep_runs, settings.keep_days)
    make_room(settings, kept, apply=apply, as_json=as_json, console=_console)


def backup(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The backup; compressed where it ends in .zst.")
    ],
    champions_only: Annotated[
        bool,
        typer.Option(
            "--champions-only", help="Of the versions only champions and those before them."
        ),
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write everything that can't be made again into one file: answers, studies, corrections,
    registered models with their runs, decisions on champions, settings.
    """
    from fer_pipeline.operations.backup import backup as write

    settings = Settings.load(home=home)
    write(settings, file, champions_only=champions_only, as_json=as_json, console=_console)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")],
    into_empty: Annotated[
        bool,
        typer.Option("--into-empty", help="Refuse a home or database that holds anything yet."),
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Verify a backup and put it into a home, or into the databases that the settings name.

    Nothing that is there is overwritten; answers are added to those that are there.
    """
    from fer_pipeline.operations.restore import restore as bring

    bring(Settings.load(home=home), file, into_empty=into_empty, as_json=as_json, console=_console)
