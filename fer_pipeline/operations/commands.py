"""The commands of those who look after a home: doctor, prune, backup, restore."""

import typer
from rich.console import Console

from fer_pipeline.options import Home, Json

_console = Console(stderr=True)


def doctor(home: Home = None, as_json: Json = False) -> None:
    """Look at settings, data, home, databases, versions, disk, clock and limits before a run.

    Ends with 0 when nothing is worse than a warning, else with 1.
    """
    from fer_pipeline.operations.doctor import doctor as look

    raise typer.Exit(look(home, as_json=as_json, console=_console))
