"""The command `fer-pipeline sweep`: variants of a preset, trained and compared on dev.

Each training is one MLflow run of an experiment of its own; none is registered, and none sees
the test split. What is tried is read in `core/sweep.py`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Column, Table

from fer_pipeline import tracking
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import file_digest, text_digest
from fer_pipeline.core.sweep import Compared, Trained, Try, ranked, read_tries
from fer_pipeline.options import Home, Json
from fer_pipeline.settings import Settings
from fer_pipeline.terminal import print_json, say
from fer_pipeline.versions import version_number

if TYPE_CHECKING:
    from fer_pipeline.core.examples import Examples
    from fer_pipeline.core.train import EpochResult

TRY_TAG = "fer.try"
_COST = ("epochs", "minutes", "images_per_second")
_FIGURES = ("dev_macro_f1", "dev_accuracy", "dev_nll", "dev_ece")

_console = Console(stderr=True)


def sweep(
    stream: Annotated[str, typer.Option(help="The stream that is trained.")],
    tries: Annotated[
        list[str] | None,
        typer.Option(
            "--try",
            metavar="NAME=VALUE[,NAME=VALUE...]",
            help="A variant of the preset; may be given again. The preset itself always runs.",
        ),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="smoke, cpu or gpu.")] = None,
    minutes: Annotated[float | None, typer.Option(min=1e-3, help="Time of each training.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Length of each training.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Trainings of each, with other seeds.")] = 1,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Try variants of a preset on a stream; each is scored on dev and logged to MLflow.

    A variant that was tried before on the same data and seed, for as long, isn't trained again.
    """
    from dagster import DagsterInstance

    from fer_pipeline.instance import (
        close_killed_runs,
        locked_home,
        prepare_home,
        refuse_beside_ui_runs,
    )
    from fer_pipeline.stale_runs import close_stale_runs
    from fer_pipeline.training_task import check_crops

    if minutes is not None and epochs is not None:
        raise InputError("--minutes and --epochs both say how long a training is: give one")
    settings = Settings.load(home=home, preset=preset)
    if stream not in settings.all_streams:
        raise InputError(
            f"{stream!r} is no known stream: choose from {', '.join(settings.all_streams)}"
        )
    wanted = read_tries(tries or (), settings.recipe, settings.vote_share, epochs)
    if settings.label_source == "votes" and any(one.vote_share for one in wanted):
        raise InputError("vote_share mixes votes into listed labels: the label source is votes")
    check_crops(settings, stream)
    # Another run would take its cores and make its crops anew, another sweep close its runs.
    with locked_home(settings), Progress(console=_console, transient=True) as progress:
        prepare_home(settings)
        with DagsterInstance.get() as instance:
            close_killed_runs(instance, settings)
            refuse_beside_ui_runs(instance, settings)
        close_stale_runs(settings, experiment=tracking.SWEEPS)
        task = progress.add_task("sweep", total=len(wanted) * repeats)

        def tell(words: str, done: int) -> None:
            progress.update(task, description=escape(words), completed=done)

        digest, compared = run_sweep(
            settings, stream, wanted, repeats=repeats, minutes=minutes, tell=tell
        )
    compared = ranked(compared)
    _console.print(_table(compared))
    say(_console, f"{tracking.SWEEPS!r} in MLflow holds every training; manifest {digest}")
    if as_json:
        print_json(
            {
                "stream": stream,
                "manifest_hash": digest,
                "best": compared[0].tried.name,
                "tries": [_described(one) for one in compared],
            }
        )


def run_sweep(
    settings: Settings,
    stream: str,
    tries: Sequence[Try],
    *,
    repeats: int,
    minutes: float | None,
    tell: Callable[[str, int], None],
) -> tuple[str, list[Compared]]:
    """Train each try with the seeds from the settings' one on; the manifest's hash and figures.

    To be called under the home's lock, with crops of the settings there. `tell` is told what
    happens and how many trainings are done.
    """
    from fer_pipeline.assets.faces import verified_faces
    from fer_pipeline.core.batches import ORDER
    from fer_pipeline.core.examples import select_examples

    manifest, digest, crop_set = verified_faces(settings)
    classes = settings.all_streams[stream]
    init = None if settings.init is None else tracking.model_file(settings, settings.init)
    start = None if init is None else file_digest(init)

    def chosen(split: str, vote_share: float) -> "Examples":
        return select_examples(
            crop_set.paths, manifest, classes, split, settings.label_rule, vote_share
        )

    # Before the first training, so that what is wrong with the last try is said at once.
    training = {share: chosen("train", share) for share in {one.vote_share for one in tries}}
    dev = chosen("dev", 0.0)
    found = []
    done = 0
    for tried in tries:
        trained = []
        for seed in range(settings.seed, settings.seed + repeats):
            tell(f"{tried.name}, seed {seed}", done)
            key = text_digest(
                *(stream, *classes, digest, crop_set.content_hash, settings.label_rule),
                *(tried.preset, tried.vote_share, start, seed, minutes),
                *(version_number("trained_model"), ORDER),
            )
            one = _made_before(settings, key, seed)
            if one is None:
                one = _train(
                    settings,
                    stream,
                    tried,
                    training[tried.vote_share],
                    dev,
                    seed=seed,
                    minutes=minutes,
                    init=init,
                    tags={TRY_TAG: key, tracking.MANIFEST_TAG: digest},
                    on_epoch=lambda words, done=done: tell(words, done),  # type: ignore[misc]
                )
            trained.append(one)
            done += 1
        found.append(Compared(tried, trained))
    return digest, found


def _train(
    settings: Settings,
    stream: str,
    tried: Try,
    training: "Examples",
    dev: "Examples",
    *,
    seed: int,
    minutes: float | None,
    init: Path | None,
    tags: dict[str, str],
    on_epoch: Callable[[str], None],
) -> Trained:
    import keras

    from fer_pipeline.core.serving import make_ready
    from fer_pipeline.core.train import prepare_process, train
    from fer_pipeline.core.transfer import open_source

    # The graphs of one try would stay in memory beside those of the next.
    keras.backend.clear_session()
    prepare_process(seed, settings.threads)
    source = None if init is None else open_source(init, str(settings.init))
    started = time.monotonic()
    name = f"{stream} {tried.name} seed {seed}"
    with tracking.training_run(settings, f"{stream}/sweep", tags, name, tracking.SWEEPS) as run:
        run.log_parameters(_parameters(settings, stream, tried, seed, minutes))

        def tell(epoch: "EpochResult") -> None:
            row = asdict(epoch)
            run.log_epoch(row.pop("epoch"), row)
            on_epoch(
                f"{tried.name}, seed {seed}, epoch {epoch.epoch}: dev macro-F1 "
                f"{epoch.dev_macro_f1:.3f}, {epoch.images_per_second:.0f} faces/s"
            )

        try:
            result = train(
                training,
                dev,
                settings.all_streams[stream],
                tried.preset,
                seed=seed,
                minutes=minutes,
                init=source,
                on_epoch=tell,
            )
        except FloatingPointError as error:
            run.log_json({"diverged": str(error)}, "diverged.json")
            run.log_metrics({"diverged": 1.0})
            return Trained(seed, run.run_id, None, was_there=False)
        ready = make_ready(result.model, dev, tried.preset.recipe.flip_at_test, result.prior)
        figures = {
            **ready.figures(),
            "temperature": ready.temperature,
            "epochs": float(len(result.history)),
            "minutes": (time.monotonic() - started) / 60,
            "images_per_second": max(epoch.images_per_second for epoch in result.history),
        }
        run.log_metrics({f"final_{key}": value for key, value in figures.items()})
        run_id = run.run_id
    return Trained(seed, run_id, figures, was_there=False)


def _made_before(settings: Settings, key: str, seed: int) -> Trained | None:
    """The finished training of the same try, data and seed, if an earlier sweep made it."""
    client = tracking.connect(settings)
    experiment = client.get_experiment_by_name(tracking.SWEEPS)
    if experiment is None:
        return None
    wanted = f"attributes.status = 'FINISHED' and tags.`{TRY_TAG}` = '{key}'"
    names = (*_FIGURES, "temperature", *_COST)
    for run in client.search_runs([experiment.experiment_id], wanted):
        known = run.data.metrics
        if "diverged" in known:
            return Trained(seed, run.info.run_id, None, was_there=True)
        if all(f"final_{name}" in known for name in names):
            figures = {name: known[f"final_{name}"] for name in names}
            return Trained(seed, run.info.run_id, figures, was_there=True)
    return None


def _parameters(
    settings: Settings, stream: str, tried: Try, seed: int, minutes: float | None
) -> dict[str, Any]:
    return {
        "try": tried.name,
        "stream": stream,
        "data_set": settings.data_set,
        "preset": tried.preset.name,
        "label_source": settings.label_rule,
        "vote_share": tried.vote_share,
        "init": settings.init,
        "seed": seed,
        "minutes": minutes,
        **{f"recipe.{name}": value for name, value in asdict(tried.preset.recipe).items()},
        **{f"network.{name}": value for name, value in asdict(tried.preset.network).items()},
    }


def _table(compared: Sequence[Compared]) -> Table:
    table = Table(
        Column("try", overflow="fold", ratio=1),
        *("macro-F1", "accuracy", "NLL", "ECE", "epochs", "minutes"),
        title="on dev, best macro-F1 first",
    )
    for one in compared:
        cells = [_cell(one, name) for name in _FIGURES]
        cost = (one.mean("epochs"), one.mean("minutes"))
        epochs, minutes = ("-" if value is None else f"{value:.1f}" for value in cost)
        name = f"{one.tried.name} (was there)" if one.was_there else one.tried.name
        diverged = " (diverged)" if one.mean("dev_macro_f1") is None else ""
        table.add_row(escape(name + diverged), *cells, epochs, minutes)
    return table


def _cell(one: Compared, name: str) -> str:
    mean, spread = one.mean(name), one.spread(name)
    if mean is None:
        return "-"
    return f"{mean:.4f}" if spread is None else f"{mean:.4f} ± {spread:.4f}"


def _described(one: Compared) -> dict[str, Any]:
    return {
        "try": one.tried.name,
        **{name: one.mean(name) for name in (*_FIGURES, *_COST)},
        "dev_macro_f1_spread": one.spread("dev_macro_f1"),
        "runs": [
            {
                "seed": each.seed,
                "mlflow_run_id": each.run_id,
                "was_there": each.was_there,
                "figures": each.figures,
            }
            for each in one.trained
        ],
    }
