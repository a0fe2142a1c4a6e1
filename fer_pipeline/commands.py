"""The bodies of the commands: settings in, graph run or question answered, words and JSON out."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from dagster import DagsterInstance
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from fer_pipeline.build import build_definitions
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.storage import is_file
from fer_pipeline.instance import (
    close_killed_runs,
    locked_home,
    prepare_home,
    refuse_beside_ui_runs,
)
from fer_pipeline.plan import asset_states
from fer_pipeline.repeat import (
    DATA_SET_WITHOUT_ROOT,
    ROOT_OF_A_MIXTURE,
    PastTraining,
    like,
    settings_like,
)
from fer_pipeline.settings import RUN_OPTIONS, Settings
from fer_pipeline.summary import run_summary, summary_tables
from fer_pipeline.terminal import print_json, say
from fer_pipeline.tracking_server import asked_by_a_person

_DEMO_DATA = "demo-data"
_DRAWN = (
    "These faces are drawings. The demo shows that the pipeline works; "
    "its scores say nothing about people."
)


def draw_release(settings: Settings, photos: int, console: Console) -> Path:
    """Draw the demo's data set under the home's state folder, unless it is there; give its folder.

    Raises InputError when the home holds the results of another data set.
    """
    from fer_pipeline.core.synthetic import write_release

    folder, seed = settings.state_folder / _DEMO_DATA, settings.seed
    others = [
        root
        for _, root in settings.sources
        if not (isinstance(root, Path) and root.is_relative_to(folder))
    ]
    if others:
        raise InputError(
            f"{settings.home} holds results of {others[0]}, which the demo would replace: "
            "give --home another folder"
        )
    say(console, _DRAWN, style="yellow")
    root = folder / f"{photos}-photos-seed-{seed}"
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("drawing faces", total=photos)
        release = write_release(
            root,
            photos=photos,
            seed=seed,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    say(console, f"{release.photos:,} photos drawn, laid out as an AffectNet release: {root}")
    return root


def demo_settings(home: str | Path | None, root: Path, seed: int) -> Settings:
    """The settings of the demo: the smoke preset on drawn faces, a bad label rejected."""
    return Settings.fresh(
        home=home,
        dataset="affectnet",
        root=root,
        preset="smoke",
        seed=seed,
        unknown_labels="reject",
    )


def past_training(home: str | Path | None, run_id: str | None) -> PastTraining | None:
    """The training that a run is to be like, if any; raises InputError for an unknown one."""
    if run_id is None:
        return None
    with asked_by_a_person():
        return like(Settings.load(home=home), run_id)


def run_settings(
    home: str | Path | None, past: PastTraining | None = None, **options: Any
) -> Settings:
    """The settings of a run: with a data set from the defaults on, without one as the last run.

    With a `past` training they are its own where no option is given.
    """
    if past is not None:
        return settings_like(home, past, **options)
    given = {name: value for name, value in options.items() if value is not None}
    if given.get("datasets"):
        return Settings.fresh(home=home, **given)
    if given.get("dataset") is None:
        if "root" in given and Settings.load(home=home).datasets:
            raise InputError(ROOT_OF_A_MIXTURE)
        return Settings.load(home=home, **given)
    if "root" not in given:
        remembered = Settings.load(home=home).root
        if remembered is None:
            raise InputError(DATA_SET_WITHOUT_ROOT)
        given["root"] = remembered
    return Settings.fresh(home=home, **given)


def run_and_report(
    settings: Settings,
    *,
    select: Sequence[str] = (),
    force: bool = False,
    past: PastTraining | None = None,
    as_json: bool,
    console: Console,
) -> None:
    """Run the graph, end with tables (and JSON); leaves with exit code 1 or 2 on failure.

    With a `past` training its streams are trained again, whatever is up to date, or what `select`
    names is made as it was.
    """
    from fer_pipeline.core.synthetic import all_drawn
    from fer_pipeline.repeat_run import compared, run_again
    from fer_pipeline.runner import run_graph

    dataset = settings.open_dataset()
    place = dataset.address if settings.datasets else f"at {dataset.address}"
    minutes = f", {settings.minutes:g} minutes a stream" if settings.minutes else ""
    say(
        console,
        f"{place}: streams {', '.join(settings.streams)}, preset {settings.preset}, "
        f"seed {settings.seed}, labels {settings.label_rule}{minutes}",
        head=dataset.name,
        style="bold",
    )
    say(console, f"home {settings.home}")
    started = time.monotonic()
    with locked_home(settings):
        prepare_home(settings)
        with DagsterInstance.get() as instance:
            closed = close_killed_runs(instance, settings)
            refuse_beside_ui_runs(instance, settings)
            if closed:
                say(console, f"{closed} killed run(s) closed; going on from what is there")
            if past is not None:
                outcome = run_again(settings, instance, past, console, select=select, force=force)
            else:
                outcome = run_graph(settings, instance, select=select, force=force, console=console)
            states = asset_states(build_definitions(settings), instance, settings)
        found = run_summary(settings, states)
    found["made"] = outcome.made
    found["up_to_date"] = outcome.skipped
    found["seconds"] = round(time.monotonic() - started, 1)
    for problem in outcome.problems:
        say(console, problem, head="failed:", style="red")
    if not outcome.ok:
        if as_json:
            print_json({"error": "; ".join(outcome.problems), "made": outcome.made})
        raise typer.Exit(2 if outcome.wrong_input else 1)
    if not outcome.made:
        say(console, "Nothing to do: everything is up to date. (--force makes it again.)")
    _print_summary(found, console)
    if past is not None:
        found["like"] = compared(settings, past, found, console)
    if all_drawn(dataset):
        say(console, _DRAWN, style="yellow")
    say(console, f"took {found['seconds']:.0f} s; `fer-pipeline ui` shows the graph and the runs")
    if as_json:
        print_json(found)


def show_status(settings: Settings, *, as_json: bool, console: Console) -> None:
    """Each asset: when it was made, and whether a run would make it again, and why."""
    if not settings.dagster_home.is_dir():
        raise InputError(
            f"{settings.home} holds nothing yet: run something, or give another --home"
        )
    prepare_home(settings)
    with DagsterInstance.get() as instance:
        states = asset_states(build_definitions(settings), instance, settings)
    found = run_summary(settings, states)
    found["settings"] = settings.model_dump(mode="json", include=set(RUN_OPTIONS))
    found["assets"] = {
        state.key.to_user_string(): {
            "up_to_date": state.reason is None,
            "reason": state.reason,
            "on_demand": state.on_demand,
            "made_at": state.made_at,
        }
        for state in states
    }
    table = Table("asset", "made", "state")
    for state in states:
        made = "" if state.made_at is None else _local_time(state.made_at)
        # A reason may hold a path, and a path brackets.
        reason = escape(str(state.reason))
        word = f"[yellow]{reason}[/]"
        if state.reason is None:
            word = "[green]up to date[/]"
        elif state.on_demand:
            word = f"[dim]on demand ({reason})[/]"
        table.add_row(state.key.to_user_string(), made, word)
    places = (f"{name} at {root}" for name, root in settings.sources)
    source = " and ".join(places) or "no data set yet"
    say(console, f"home {settings.home}, {source}")
    console.print(table)
    _print_summary(found, console)
    if as_json:
        print_json(found)


def show_photo(
    settings: Settings, wanted: str, out: Path | None, *, as_json: bool, console: Console
) -> None:
    """Write one photo of the index with its box and label as a PNG."""
    from fer_pipeline.core.decode import UnreadableError, decode
    from fer_pipeline.core.expressions import find_row
    from fer_pipeline.core.files import publish_bytes
    from fer_pipeline.core.index import INDEX_FILE
    from fer_pipeline.core.photo_figures import boxed_photo

    if not is_file(settings.index_folder / INDEX_FILE):
        raise InputError(f"{settings.index_folder} holds no index: run `fer-pipeline run` first")
    row = find_row(settings.index_folder, wanted)
    if row is None:
        raise InputError(
            f"the index in {settings.index_folder} has no row or face {wanted!r}: "
            "rows count from 0, a face_id has 16 hex digits"
        )
    data = next(iter(settings.open_dataset().read_photos([(row.list, row.image_path)])))
    if data is None:
        raise InputError(f"{row.image_path} ({row.list}, index row {row.row}) is missing")
    try:
        if isinstance(data, UnreadableError):
            raise data
        image = decode(data, settings.bounds)
    except UnreadableError as error:
        raise InputError(
            f"{row.image_path} ({row.list}, index row {row.row}) can't be read: {error}"
        ) from error
    path = out.absolute() if out else settings.home / "shown" / f"{row.face_id}.png"
    caption = f"row {row.row}: {row.expression} ({row.list})"
    publish_bytes(path, boxed_photo(image, row.box, caption))
    say(console, f"{caption}, {row.image_path}, face {row.face_id}")
    say(console, str(path))
    if as_json:
        print_json({**vars(row), "picture": str(path)})


def _print_summary(found: Mapping[str, Any], console: Console) -> None:
    for table in summary_tables(found):
        if table.row_count:
            console.print(table)
    for stream, figures in found["streams"].items():
        say(console, f"{stream} report: {figures['report']}")
        champion = figures.get("champion")
        if champion is not None:
            held = f"version {champion['version']}" if champion["version"] else "none"
            say(
                console,
                f"{stream} champion: {held}; version {champion['challenger']} "
                f"{champion['verdict']}: {champion['why']}",
            )


def _local_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
