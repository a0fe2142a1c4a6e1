"""The commands `bundle` and `adopt`: a stream's training packed up for another machine, and what
came of it brought home.

How a bundle is trained stands in `core/elsewhere.py`, how a result becomes an asset in
`assets/training.py`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.storage import expanded
from fer_pipeline.options import Home, Json
from fer_pipeline.settings import Settings
from fer_pipeline.terminal import print_json, say

if TYPE_CHECKING:
    from fer_pipeline.runner import Outcome

_TOLD = (
    *("mlflow_run_id", "model_uri", "manifest_hash", "trained_with", "minutes"),
    *("dev_accuracy", "dev_macro_f1", "dev_nll", "dev_ece"),
)

_console = Console(stderr=True)


def bundle(
    stream: Annotated[str, typer.Option(help="The stream that is to be trained.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the bundle.")],
    minutes: Annotated[float | None, typer.Option(help="Time of the training.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Pack a stream's crops, labels and settings into one file, to be trained on another machine.

    There `python -m fer_pipeline.core.train FILE` trains it; `adopt` brings the result home.
    """
    from fer_pipeline.core.bundle import write_bundle
    from fer_pipeline.training_task import check_crops, training_material

    settings = Settings.load(home=home, minutes=minutes)
    _check_stream(settings, stream)
    check_crops(settings, stream)
    _check_free(out)
    material = training_material(settings, stream)
    write_bundle(out, material.task, material.training, material.dev, material.init)
    size = out.stat().st_size
    say(
        _console,
        f"{out}: {size / 2**20:.1f} MiB, preset {settings.preset}, {len(material.training):,} "
        f"faces to train on and {len(material.dev):,} of dev; the test split stays here",
    )
    say(_console, f"train it with `python -m fer_pipeline.core.train {out.name}`")
    if as_json:
        print_json(
            {
                "bundle": str(out),
                "bytes": size,
                "stream": stream,
                "preset": settings.preset,
                "manifest_hash": material.manifest_hash,
                "training_faces": len(material.training),
                "dev_faces": len(material.dev),
            }
        )


def adopt(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="What the training wrote.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make the result of a bundle's training the stream's trained model, as if trained here."""
    from fer_pipeline.core.result_file import read_result
    from fer_pipeline.training_task import check_crops, check_same_task, training_material

    settings = Settings.load(home=home)
    path = expanded(result).absolute()
    brought = read_result(path)
    stream = brought.task.card.stream
    _check_stream(settings, stream)
    check_crops(settings, stream)
    check_same_task(path, brought.task, training_material(settings, stream).task)
    outcome, made = _adopt(settings, stream, path)
    for problem in outcome.problems:
        say(_console, problem, head="failed:", style="red")
    if not outcome.ok:
        if as_json:
            print_json({"error": "; ".join(outcome.problems)})
        raise typer.Exit(2 if outcome.wrong_input else 1)
    found = {"stream": stream, **{name: made[name] for name in _TOLD}}
    say(
        _console,
        f"{stream}: {made['model_uri']}, trained with {made['trained_with']}, dev accuracy "
        f"{made['dev_accuracy']:.3f}, macro-F1 {made['dev_macro_f1']:.3f}; `fer-pipeline run` "
        "makes its report",
    )
    if as_json:
        print_json(found)


def _adopt(settings: Settings, stream: str, path: Path) -> "tuple[Outcome, Mapping[str, Any]]":
    """Run the asset alone, with the result in place of training; its metadata is given too."""
    import dagster as dg

    from fer_pipeline.assets.training import ADOPTED_TAG
    from fer_pipeline.build import build_definitions
    from fer_pipeline.executors import LOCAL
    from fer_pipeline.instance import (
        close_killed_runs,
        locked_home,
        prepare_home,
        refuse_beside_ui_runs,
    )
    from fer_pipeline.plan import asset_states, upstream
    from fer_pipeline.runner import run_graph

    # The file is on this machine.
    here = settings.model_copy(update={"executor": LOCAL})
    key = dg.AssetKey([stream, "trained_model"])
    with locked_home(here):
        prepare_home(here)
        with dg.DagsterInstance.get() as instance:
            close_killed_runs(instance, here)
            refuse_beside_ui_runs(instance, here)
            states = asset_states(build_definitions(here), instance, here)
            needed = upstream(states, [key]) - {key}
            for state in states:
                if state.key in needed and state.reason is not None:
                    raise InputError(
                        f"{state.key.to_user_string()} isn't up to date ({state.reason}): run "
                        "`fer-pipeline run --select face_crops` first; a result of other data is "
                        "then refused"
                    )
            outcome = run_graph(
                here,
                instance,
                select=[key.to_user_string()],
                force=True,
                tags={ADOPTED_TAG: str(path)},
                console=_console,
            )
            event = instance.get_latest_materialization_event(key)
    made = event.asset_materialization if event is not None else None
    metadata = {} if made is None else {name: v.value for name, v in made.metadata.items()}
    return outcome, metadata


def _check_stream(settings: Settings, stream: str) -> None:
    if stream not in settings.streams:
        raise InputError(
            f"{stream!r} is no stream of {settings.home}, which trains "
            f"{', '.join(settings.streams)}: run it with --stream {stream} first"
        )


def _check_free(out: Path) -> None:
    """Raise InputError where something stands that a bundle isn't to replace."""
    from fer_pipeline.core.bundle import read_task

    if out.exists():
        try:
            read_task(out)
        except InputError as error:
            raise InputError(f"--out {out} is there and is no bundle: name another file") from error
