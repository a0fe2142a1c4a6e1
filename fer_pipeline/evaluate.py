"""The body of `fer-pipeline evaluate`: a model against a data set it needn't know.

What is scored, and how, stands in `core/scoring.py`; here it is put into words and JSON.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.datasets.registry import check_options
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.storage import as_location
from fer_pipeline.instance import log_file
from fer_pipeline.settings import Settings
from fer_pipeline.terminal import output_to, print_json, say
from fer_pipeline.tracking_server import asked_by_a_person

if TYPE_CHECKING:
    from fer_pipeline.core.model_file import ModelCard
    from fer_pipeline.core.scoring import FolderScore


def evaluate_model(
    settings: Settings,
    model: str,
    dataset: str,
    root: str | Path,
    *,
    dataset_options: Mapping[str, str],
    stream: str | None,
    split: str | None,
    label_source: str | None,
    as_json: bool,
    console: Console,
) -> None:
    """Score a model on a data set's list and say what became of every row.

    With a `stream` only faces of its classes count, and the model chooses among these.
    """
    from fer_pipeline.core.model_file import load_model
    from fer_pipeline.core.scoring import score_dataset
    from fer_pipeline.core.train import prepare_process
    from fer_pipeline.core.votes import LABEL_SOURCES, with_ties
    from fer_pipeline.tracking import model_file

    if label_source is not None and label_source not in LABEL_SOURCES:
        raise InputError(
            f"--label-source is one of {', '.join(LABEL_SOURCES)}, not {label_source!r}"
        )
    if stream is not None and stream not in settings.all_streams:
        raise InputError(f"--stream takes one of {', '.join(settings.all_streams)}, not {stream!r}")
    check_options(dataset_options)
    opened = open_dataset(dataset, as_location(root), options=dataset_options)
    with asked_by_a_person():
        path = model_file(settings, model)
    # A model file can be scored without a home; what frameworks print is then dropped.
    log = log_file(settings) if settings.dagster_home.is_dir() else Path(os.devnull)
    with (
        output_to(log, console) as screen,
        Progress(console=screen, transient=True) as progress,
    ):
        prepare_process(settings.seed, settings.threads)
        loaded, card = load_model(path)
        task = progress.add_task("faces scored", total=None)
        scored = score_dataset(
            loaded,
            card,
            opened,
            classes=None if stream is None else settings.all_streams[stream],
            split=split,
            label_source=None
            if label_source is None
            else with_ties(label_source, settings.vote_ties),
            seed=settings.seed,
            resamples=settings.resamples,
            on_faces=lambda done: progress.update(task, completed=done),
        )
    _print(model, card, stream, scored, console)
    if as_json:
        print_json(
            {
                **scored.evaluation.to_dict(),
                "model": model,
                "model_classes": list(card.classes),
                "stream": stream or card.stream,
                "trained_on": dict(card.trained_on),
                "data_set": dataset,
                "rows_read": scored.rows_read,
                "left_out": dict(scored.left_out),
                "rows_left_out": sum(scored.left_out.values()),
                "faces": dict(scored.statuses),
                "classes_left_out": dict(scored.other_classes),
                "classes_absent": list(scored.absent_classes),
            }
        )


def _print(
    model: str, card: "ModelCard", stream: str | None, scored: "FolderScore", console: Console
) -> None:
    figures = scored.evaluation
    say(console, f"model {_described(model, card)}")
    if stream is not None and figures.classes != card.classes:
        say(console, f"of its classes those of {stream}: {', '.join(figures.classes)}")
    table = Table("class", "support", "recall", "F1")
    for one in figures.by_class:
        table.add_row(
            escape(one.name),
            f"{one.support:,}",
            "-" if one.recall is None else f"{one.recall:.3f}",
            "-" if one.f1 is None else f"{one.f1:.3f}",
        )
    console.print(table)
    say(
        console,
        f"accuracy {figures.accuracy.value:.3f} ({figures.accuracy.low:.3f} to "
        f"{figures.accuracy.high:.3f}), macro-F1 {figures.macro_f1.value:.3f}, "
        f"ECE {figures.ece:.3f}, majority {figures.majority_accuracy:.3f}; {figures.n:,} faces "
        f"scored of {scored.rows_read:,} rows (left out: {dict(scored.left_out) or 'none'}, "
        f"faces: {dict(scored.statuses)})",
    )
    if scored.other_classes:
        others = ", ".join(f"{name} ({rows:,})" for name, rows in scored.other_classes.items())
        who = "the model has" if figures.classes == card.classes else f"{stream} has"
        say(console, f"{who} no class for {others} rows, which were left out")
    if scored.absent_classes:
        absent = ", ".join(scored.absent_classes)
        say(console, f"no face was labelled {absent}: the model could only be wrong to say so")


def _described(model: str, card: "ModelCard") -> str:
    """A model as the user named it, with what its card says of it."""
    known: Any = card.trained_on.get("data_set")
    return f"{model}: {card.stream} of {len(card.classes)} classes" + (
        f", trained on {known}" if known else ""
    )
