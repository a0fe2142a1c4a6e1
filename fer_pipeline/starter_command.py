"""The command `fer-pipeline starter`: the package's starter model, made from a registered version.

What its files hold, and the limits they keep to, stand in `core/starter.py`.
"""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fer_pipeline import tracking
from fer_pipeline.core.errors import InputError
from fer_pipeline.instance import log_file
from fer_pipeline.model_cards import card_text
from fer_pipeline.options import Home, Json
from fer_pipeline.settings import Settings
from fer_pipeline.terminal import output_to, print_json, say
from fer_pipeline.tracking_server import asked_by_a_person

_console = Console(stderr=True)


def starter(
    model: Annotated[
        str,
        typer.Option(help="A registered version with its report, such as models:/NAME@champion."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the model file and its card.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make the files of a starter model from a trained version: the model and its card.

    In the source tree --out is fer_pipeline/starter.
    """
    from fer_pipeline.core.starter import write_starter

    settings = Settings.load(home=home)
    with asked_by_a_person():
        path = tracking.model_file(settings, model)
        card = _card_text(settings, model)
    # What frameworks print is dropped where no run has made a log.
    log = log_file(settings) if settings.dagster_home.is_dir() else Path(os.devnull)
    with output_to(log, _console):
        shipped = write_starter(path, card, out.absolute())
    say(
        _console,
        f"{shipped.model}: {shipped.size / 1e6:.2f} MB; on {shipped.faces} drawn faces a "
        f"probability differs by at most {shipped.difference:.5f} from {model}",
    )
    say(_console, f"{shipped.card}: what it is, and its figures")
    if as_json:
        print_json(
            {
                "model": str(shipped.model),
                "card": str(shipped.card),
                "bytes": shipped.size,
                "largest_difference": shipped.difference,
            }
        )


def _card_text(settings: Settings, address: str) -> str:
    """The model card that the evaluation of a version left in its run."""
    if not address.startswith("models:/"):
        raise InputError(
            f"{address} is no registered version, and only of these a model card is kept: give "
            "--model models:/NAME/VERSION or models:/NAME@champion"
        )
    text = card_text(settings, address)
    if text is None:
        raise InputError(
            f"{address} was never evaluated, so that it has no model card: "
            "`fer-pipeline run --select STREAM/evaluation_report` makes one of the newest version"
        )
    return text
