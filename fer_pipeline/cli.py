"""The command line: thin commands over the graph, the tracking and `core`.

Exit codes: 0, 1 (failed), 2 (wrong input). With `--json` the last line of stdout is one JSON
object; everything else goes to stderr.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from fer_pipeline.champion_commands import champion_app
from fer_pipeline.core.disk import disk_problem, path_problem
from fer_pipeline.core.errors import BusyError, InputError
from fer_pipeline.core.overrides import read_overrides
from fer_pipeline.core.storage import storage_problem
from fer_pipeline.data_sources import data_set_options, read_dataset_options
from fer_pipeline.elsewhere import adopt, bundle
from fer_pipeline.export_command import export
from fer_pipeline.inspect_command import inspect
from fer_pipeline.labels_command import labels
from fer_pipeline.live_command import live
from fer_pipeline.logs import writes_json
from fer_pipeline.operations.commands import backup, doctor, prune, restore
from fer_pipeline.options import DatasetOptions, Home, Json
from fer_pipeline.recognise_command import recognise
from fer_pipeline.serve_command import serve
from fer_pipeline.settings import DEFAULT_HOME, Settings
from fer_pipeline.settings_command import settings
from fer_pipeline.starter_command import starter
from fer_pipeline.study_commands import study_app
from fer_pipeline.sweep import sweep
from fer_pipeline.terminal import print_json, say
from fer_pipeline.tracking_server import server_problem

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From raw face lists to an evaluated expression model, in one lineage graph.",
)

app.command()(inspect)
app.command()(labels)
app.command()(recognise)
app.command()(live)
app.command()(sweep)
app.command()(starter)
app.command()(serve)
app.command()(export)
app.command()(bundle)
app.command()(adopt)
app.command()(settings)
app.command()(doctor)
app.command()(prune)
app.command()(backup)
app.command()(restore)
app.add_typer(study_app, name="study")
app.add_typer(champion_app, name="champion")

_console = Console(stderr=True)

Root = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PLACE",
        help="Folder or address (s3://...) that holds the data set; one for each --dataset.",
    ),
]
Preset = Annotated[str | None, typer.Option(help="smoke, cpu or gpu.")]
Minutes = Annotated[float | None, typer.Option(help="Training time of each stream.")]
Seed = Annotated[int | None, typer.Option(help="Seed of splits, weights and batches.")]
Streams = Annotated[
    list[str] | None, typer.Option("--stream", help="A stream to train; may be given again.")
]
Select = Annotated[
    list[str] | None,
    typer.Option("--select", help="An asset to make, with what it needs; may be given again."),
]
Force = Annotated[bool, typer.Option("--force", help="Make again what is up to date.")]
LabelSource = Annotated[str | None, typer.Option(help="listed, or votes (FER+).")]
Init = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Start from this model: a .keras file, an MLflow address, or starter.",
    ),
]
VoteShare = Annotated[
    float | None, typer.Option(help="Share of FER+ votes in the targets of listed labels, 0 to 1.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Replace a value of the preset; may be given again."
    ),
]


@app.callback()
def _environment() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@app.command()
def demo(
    home: Home = None,
    photos: Annotated[int, typer.Option(help="Photos to draw.")] = 1200,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Draw faces and run the whole graph on them: a few minutes, no data needed."""
    from fer_pipeline.commands import demo_settings, draw_release, run_and_report

    # The environment or the last run may hold a seed; the demo's own is 0.
    settings = Settings.load(home=home, seed=seed or 0)
    root = draw_release(settings, photos, _console)
    run_and_report(demo_settings(home, root, settings.seed), as_json=as_json, console=_console)


@app.command()
def run(
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Format of the data set; given again, several are mixed."),
    ] = None,
    root: Root = None,
    dataset_options: DatasetOptions = None,
    home: Home = None,
    stream: Streams = None,
    preset: Preset = None,
    minutes: Minutes = None,
    seed: Seed = None,
    select: Select = None,
    label_source: LabelSource = None,
    detect: Annotated[
        str | None, typer.Option(help="Ask the face detector: missing (boxes) or always.")
    ] = None,
    unknown_labels: Annotated[
        str | None, typer.Option(help="A label in no table: stop, or reject its row.")
    ] = None,
    init: Init = None,
    vote_share: VoteShare = None,
    overrides: Set = None,
    executor: Annotated[
        str | None, typer.Option(help="Run steps here (local) or on a Ray cluster (ray).")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="RUN_ID",
            help="Train once more with the settings of an MLflow or Dagster run; other options "
            "given go before them.",
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make what isn't up to date, from the lists to the reports.

    Without --dataset the last run's data set and options are used again.
    """
    from fer_pipeline.commands import past_training, run_and_report, run_settings

    past = past_training(home, like)
    settings = run_settings(
        home,
        past,
        **data_set_options(dataset or (), root or ()),
        dataset_options=read_dataset_options(dataset_options) if dataset_options else None,
        streams=tuple(stream) if stream else None,
        preset=preset,
        minutes=minutes,
        seed=seed,
        label_source=label_source,
        detect=detect,
        unknown_labels=unknown_labels,
        init=init,
        vote_share=vote_share,
        recipe_overrides=read_overrides(overrides) if overrides else None,
        executor=executor,
    )
    run_and_report(
        settings, select=select or (), force=force, past=past, as_json=as_json, console=_console
    )


@app.command()
def status(home: Home = None, as_json: Json = False) -> None:
    """What is made, from what data, how good, and what the next run would make."""
    from fer_pipeline.commands import show_status

    show_status(Settings.load(home=home), as_json=as_json, console=_console)


@app.command()
def show(
    row: Annotated[str, typer.Argument(help="Row number of the index (from 0) or a face_id.")],
    home: Home = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the picture (PNG).")] = None,
    as_json: Json = False,
) -> None:
    """One photo with its box and label, as a PNG."""
    from fer_pipeline.commands import show_photo

    show_photo(Settings.load(home=home), row, out, as_json=as_json, console=_console)


@app.command()
def evaluate(
    model: Annotated[
        str, typer.Option(help="An MLflow address, a model file, or starter, the package's own.")
    ],
    dataset: Annotated[str, typer.Option(help="Format of the data set.")],
    root: Annotated[
        str, typer.Option(metavar="PLACE", help="Folder or address that holds the data set.")
    ],
    dataset_options: DatasetOptions = None,
    split: Annotated[
        str | None, typer.Option(help="The data set's own name of a list; default: its test list.")
    ] = None,
    stream: Annotated[
        str | None,
        typer.Option(help="Only its classes: faces labelled so, and the model chooses of these."),
    ] = None,
    label_source: LabelSource = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Score a model on a labelled data set, classes matched by name."""
    from fer_pipeline.evaluate import evaluate_model

    evaluate_model(
        Settings.load(home=home),
        model,
        dataset,
        root,
        dataset_options=read_dataset_options(dataset_options or ()),
        stream=stream,
        split=split,
        label_source=label_source,
        as_json=as_json,
        console=_console,
    )


@app.command()
def ui(
    home: Home = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Dagster UI.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of MLflow.")] = 5000,
) -> None:
    """Open the Dagster UI and MLflow on this home, until Ctrl-C."""
    from fer_pipeline.servers import serve_ui

    serve_ui(Settings.load(home=home), host, port, mlflow_port, _console)


@app.command()
def review(
    home: Home = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's need a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")] = 8501,
    url: Annotated[
        str | None, typer.Option(help="Address at which a proxy shows the page to others.")
    ] = None,
) -> None:
    """Label the faces of a study in the browser, until Ctrl-C.

    FER_REVIEW_PASSWORD sets the password that the page asks for.
    """
    from fer_pipeline.review_server import serve_review

    serve_review(Settings.load(home=home), host, port, _console, url=url)


def main() -> None:
    """Run a command; wrong input is one sentence and exit code 2."""
    try:
        app()
    except InputError as error:
        _end_with(str(error))
    except BusyError as error:
        _end_with(str(error), head="busy:", code=1)
    except Exception as error:
        problem = storage_problem(error) or server_problem(error) or path_problem(error)
        if problem is not None:
            _end_with(problem)
        problem = disk_problem(error, os.environ.get("FER_HOME", DEFAULT_HOME))
        if problem is None:
            raise
        _end_with(problem, head="failed:", code=1)


def _end_with(problem: str, head: str = "wrong input:", code: int = 2) -> NoReturn:
    if writes_json():
        logging.getLogger(__name__).error("%s %s", head, problem)
    else:
        say(_console, problem, head=head, style="red")
    if "--json" in sys.argv:
        print_json({"error": problem})
    sys.exit(code)
