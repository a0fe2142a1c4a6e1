"""`fer-pipeline settings`: every setting, its value in a home, where that comes from."""

import json
import os
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fer_pipeline.core.errors import InputError
from fer_pipeline.operations.databases import shown
from fer_pipeline.options import Home, Json
from fer_pipeline.settings import Settings
from fer_pipeline.terminal import print_json

_HIDDEN = "***"
_ADDRESSES = ("answers_url", "mlflow_tracking_uri")
"""Settings that may hold a password within their text."""


def settings(
    word: Annotated[
        str | None,
        typer.Argument(metavar="WORD", help="Only those whose name or meaning holds this word."),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Every setting: its variable, its value here, where that comes from, and what it means.

    Passwords aren't shown.
    """
    found = Settings.load(home=home)
    rows = [_row(found, name, home) for name in sorted(Settings.model_fields)]
    if word is not None:
        sought = word.casefold()
        rows = [row for row in rows if sought in f"{row['name']} {row['meaning']}".casefold()]
    if not rows:
        raise InputError(f"no setting speaks of {word!r}: `fer-pipeline settings` names them all")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold", max_width=32)
    table.add_column("from", no_wrap=True)
    table.add_column("what it is")
    for row in rows:
        text = row["value"] if isinstance(row["value"], str) else json.dumps(row["value"])
        table.add_row(
            row["variable"],
            escape("" if row["value"] is None else text),
            row["from"],
            escape(row["meaning"]),
            style="" if row["from"] == "default" else "bold",
        )
    Console(stderr=True).print(table)
    if as_json:
        print_json({"settings": rows})


def _row(found: Settings, name: str, home: str | None) -> dict[str, Any]:
    variable = f"FER_{name.upper()}"
    if name == "home" and home is not None:
        source = "option"
    elif name not in found.model_fields_set:
        source = "default"
    else:
        source = "environment" if variable in os.environ else "settings.toml"
    return {
        "name": name,
        "variable": variable,
        "value": _shown(found, name),
        "from": source,
        "meaning": Settings.model_fields[name].description,
    }


def _shown(found: Settings, name: str) -> Any:
    """The value as JSON has it, without a password."""
    value = getattr(found, name)
    if isinstance(value, SecretStr):
        return _HIDDEN
    if name in _ADDRESSES and value and "//" in value:
        return shown(value)
    return found.model_dump(mode="json", include={name})[name]
