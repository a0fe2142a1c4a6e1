"""Options that commands of several modules share."""

from typing import Annotated

import typer

Home = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        help="Folder or address for everything a run leaves (FER_HOME, ./fer-home).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on the last line of stdout.")]
