"""The commands of `fer-pipeline champion`: show, promote, rollback."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from fer_pipeline.core.errors import InputError
from fer_pipeline.options import Home, Json
from fer_pipeline.settings import Settings
from fer_pipeline.terminal import print_json, say
from fer_pipeline.tracking import can_be_asked
from fer_pipeline.tracking_server import asked_by_a_person

if TYPE_CHECKING:
    from fer_pipeline.registry import Entry, Registry

champion_app = typer.Typer(
    no_args_is_help=True,
    help="The version of each stream that is in use: who holds the alias champion, and why.",
)

_console = Console(stderr=True)

Stream = Annotated[
    str | None, typer.Option("--stream", help="Its stream; not needed where there is only one.")
]
Why = Annotated[str, typer.Option(metavar="TEXT", help="The reason; it is kept with the version.")]


@champion_app.command()
def show(
    stream: Annotated[str | None, typer.Option(help="One stream (default: all).")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """The champion of each stream, its versions, and what was decided when and why."""
    from fer_pipeline.registry import Registry

    settings = Settings.load(home=home)
    found: dict[str, Any] = {}
    for one in [_one_of(settings, stream)] if stream else settings.streams:
        with _answering(settings):
            found[one] = _described(Registry(settings, one))
        _print(one, found[one])
    if as_json:
        print_json({"streams": found})


@champion_app.command()
def promote(
    version: Annotated[int, typer.Argument(min=1, help="Number of a registered version.")],
    why: Why,
    stream: Stream = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a version the champion, whatever the comparison said.

    A leak, another label order and other crop settings still forbid it.
    """
    from fer_pipeline import champion

    settings = Settings.load(home=home)
    chosen = _one_of(settings, stream)
    with _answering(settings):
        entry = champion.promote(settings, chosen, version, why, _person())
    if entry is None:
        say(_console, f"version {version} is the champion already", head=chosen, style="bold")
    _tell(settings, chosen, entry, as_json=as_json)


@champion_app.command()
def rollback(why: Why, stream: Stream = None, home: Home = None, as_json: Json = False) -> None:
    """Give the alias back to the version that held it before.

    No run promotes the version that loses it again; only `promote` does.
    """
    from fer_pipeline import champion

    settings = Settings.load(home=home)
    chosen = _one_of(settings, stream)
    with _answering(settings):
        entry = champion.roll_back(settings, chosen, why, _person())
    _tell(settings, chosen, entry, as_json=as_json)


@contextmanager
def _answering(settings: Settings) -> Iterator[None]:
    """See that there is a registry, and don't wait long for a server that is gone."""
    if not can_be_asked(settings):
        raise InputError(
            f"{settings.home} holds no model yet: run something, or give another --home"
        )
    with asked_by_a_person():
        yield


def _one_of(settings: Settings, stream: str | None) -> str:
    if stream is None and len(settings.streams) == 1:
        return settings.streams[0]
    if stream is None or stream not in settings.all_streams:
        given = "" if stream is None else f", not {stream!r}"
        known = ", ".join(settings.streams if stream is None else settings.all_streams)
        raise InputError(f"--stream takes one of {known}{given}")
    return stream


def _described(registry: "Registry") -> dict[str, Any]:
    from fer_pipeline.registry import VERDICT_TAG, WHY_TAG

    held = registry.champion()
    history = registry.history()
    return {
        "registered_model": registry.name,
        "champion": held,
        "model_uri": None if held is None else registry.model_uri(held),
        "previous": registry.previous(),
        "versions": [
            {
                "version": number,
                "verdict": one.tags.get(VERDICT_TAG),
                "why": one.tags.get(WHY_TAG),
                "mlflow_run_id": one.run_id,
            }
            for number, one in registry.versions().items()
        ],
        "history": [asdict(entry) for entry in history],
    }


def _print(stream: str, found: dict[str, Any]) -> None:
    held, back = found["champion"], found["previous"]
    words = "no version is the champion" if held is None else f"version {held}"
    if back is not None:
        words += f" (before it: version {back})"
    say(_console, words, head=stream, style="bold")
    if not found["history"]:
        return
    if found["history"][-1]["after"] != held:
        say(_console, "somebody moved the alias in MLflow since, which keeps no reason")
    for entry in found["history"]:
        moved = f"{entry['before'] or '-'} to {entry['after'] or '-'}"
        alias = moved if entry["before"] != entry["after"] else f"stays {entry['after'] or '-'}"
        # No table: reasons are sentences, which columns of a narrow terminal would tear apart.
        say(
            _console,
            f"version {entry['version']} {entry['verdict'].replace('_', ' ')}, alias {alias}, "
            f"by {entry['by']}: {entry['why']}",
            head=f"{entry['at'][:16].replace('T', ' ')} UTC",
            style="bold",
        )


def _tell(settings: Settings, stream: str, entry: "Entry | None", *, as_json: bool) -> None:
    from fer_pipeline.registry import Registry

    registry = Registry(settings, stream)
    if entry is not None:
        before = "no version" if entry.before is None else f"version {entry.before}"
        say(
            _console,
            f"version {entry.after} is the champion, {before} was: {entry.why}",
            head=stream,
            style="bold",
        )
    if as_json:
        held = registry.champion()
        print_json(
            {
                "stream": stream,
                "champion": held,
                "model_uri": None if held is None else registry.model_uri(held),
                "moved": None if entry is None else asdict(entry),
            }
        )


def _person() -> str:
    """Who gives the command, as the operating system knows them."""
    try:
        return f"person {getpass.getuser()}"
    except (KeyError, OSError):  # a container's user may have no name
        return "a person"
