"""The command `fer-pipeline export`: a model as a file for other programs, and how well it agrees.

Which faces a file is checked on is decided here; how it is made and compared stands in
`core/export.py`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from fer_pipeline.core.crop_set import CROPS_LIST, read_crop_set
from fer_pipeline.core.drawn_crops import drawn_crops
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.manifest import MANIFEST_FILE, published_manifest_hash, read_manifest
from fer_pipeline.core.storage import is_file
from fer_pipeline.instance import log_file
from fer_pipeline.options import Home, Json
from fer_pipeline.settings import Settings
from fer_pipeline.terminal import output_to, print_json, say
from fer_pipeline.tracking_server import asked_by_a_person

if TYPE_CHECKING:
    from fer_pipeline.core.export import Exported
    from fer_pipeline.core.export_check import Faces, Scores
    from fer_pipeline.core.model_file import ModelCard

_CHECKED = 5000
"""Crops of dev that a file is compared on at most, drawn at random where there are more."""
_CALIBRATION = 256
"""Crops of the training split that ranges of int8 values are taken from."""
_DRAWN = 96
"""Drawn faces of either use, where the home has no crops."""
_CHECKED_SEED, _CALIBRATION_SEED = 96, 97

_console = Console(stderr=True)


def export(
    model: Annotated[
        str, typer.Option(help="An MLflow address, a model file, or starter, the package's own.")
    ],
    kind: Annotated[str, typer.Option("--format", metavar="onnx|litert", help="Kind of file.")],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Where to write it (.onnx, .tflite); a file that is there goes."
        ),
    ],
    int8: Annotated[
        bool, typer.Option("--int8", help="Compute in 8 bits: smaller, faster, less exact.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write a model for other programs, as ONNX or LiteRT, with a report beside it (FILE.json).

    It is compared with the model first: on dev, where the home has crops for this model, else on
    drawn faces.
    """
    from fer_pipeline.core.export import Format, check_tools, export_model, out_file
    from fer_pipeline.core.export_check import DifferenceError
    from fer_pipeline.core.model_file import read_card
    from fer_pipeline.core.train import prepare_process
    from fer_pipeline.tracking import model_file

    if kind not in tuple(Format):
        raise InputError(f"--format is one of {', '.join(Format)}, not {kind!r}")
    path = out_file(out, Format(kind))
    settings = Settings.load(home=home)
    with asked_by_a_person():
        source = model_file(settings, model)
    card = read_card(source)
    # What frameworks print is dropped where no run has made a log.
    log = log_file(settings) if settings.dagster_home.is_dir() else Path(os.devnull)
    columns = SpinnerColumn(), TextColumn("{task.description}")
    try:
        with (
            output_to(log, _console) as screen,
            Progress(*columns, console=screen, transient=True) as progress,
        ):
            progress.add_task(f"exporting {card.stream} as {kind}", total=None)
            check_tools(Format(kind))
            prepare_process(settings.seed, settings.threads)
            exported = export_model(
                source,
                path,
                Format(kind),
                _faces(settings, card, int8),
                int8=int8,
                seed=settings.seed,
                resamples=settings.resamples,
            )
    except DifferenceError as error:
        say(_console, str(error), head="failed:", style="red")
        if as_json:
            print_json({"error": str(error)})
        raise typer.Exit(1) from error
    _tell(model, exported)
    if as_json:
        print_json(
            {"model": str(exported.file), "report": str(exported.report_file), **exported.report}
        )


def _faces(settings: Settings, card: "ModelCard", int8: bool) -> "Faces":
    """Dev faces of the home, or drawn ones, with the reason in their `origin`."""
    from fer_pipeline.core.export_check import Faces

    try:
        return _own_faces(settings, card)
    except InputError as error:
        crops = drawn_crops(card.crop, _DRAWN, _CHECKED_SEED)
        ranged = drawn_crops(card.crop, _DRAWN, _CALIBRATION_SEED) if int8 else crops[:0]
        return Faces(
            crops=crops,
            labels=None,
            origin=f"{len(crops)} drawn faces ({error})",
            calibration=ranged,
            calibration_origin=f"{len(ranged)} drawn faces",
        )


def _own_faces(settings: Settings, card: "ModelCard") -> "Faces":
    """Dev faces, and some to train on, of the home's crops; InputError when there are none."""
    from fer_pipeline.core.examples import load_images, select_examples
    from fer_pipeline.core.export_check import Faces, Labels

    folder = settings.crops_folder.parent / card.crop.hash
    needed = settings.manifest_folder / MANIFEST_FILE, folder / CROPS_LIST
    if not all(is_file(file) for file in needed):
        raise InputError(f"{settings.home} has no crops made as this model's")
    crop_set = read_crop_set(folder)
    if crop_set.manifest_hash != published_manifest_hash(settings.manifest_folder):
        raise InputError(f"the crops in {folder} are of another manifest than today's")
    manifest = read_manifest(settings.manifest_folder)
    dev, training = (
        select_examples(crop_set.paths, manifest, card.classes, split, card.label_source)
        for split in ("dev", "train")
    )
    rng = np.random.default_rng(settings.seed)
    chosen = np.sort(rng.permutation(len(dev))[:_CHECKED])
    ranged = np.sort(rng.permutation(len(training))[:_CALIBRATION])
    return Faces(
        crops=load_images(dev, chosen),
        labels=Labels(dev.expression[chosen], dev.group_id[chosen]),
        origin=f"{len(chosen)} faces of dev",
        calibration=load_images(training, ranged),
        calibration_origin=f"{len(ranged)} training faces",
    )


def _tell(model: str, exported: "Exported") -> None:
    check, size = exported.check, exported.file.stat().st_size
    say(_console, f"{exported.file}: {size / 1e6:.2f} MB, from {model}; {exported.report['use']}")
    say(
        _console,
        f"on {check.origin} a probability differs by at most {check.largest_difference:.2g}, and "
        f"the label is the same on {check.agreement.count:,} of {check.agreement.of:,}",
    )
    if exported.report["int8"]:
        say(_console, _in_words(check.scores))
    say(_console, f"{exported.report_file}: how it is used, and these figures")


def _in_words(scores: "Scores | None") -> str:
    if scores is None:
        return "drawn faces say nothing of its accuracy: give --home a home with crops for that"
    paired, (before, after) = scores.paired, scores.ece
    gain, gain_f1 = paired.accuracy.difference, paired.macro_f1_gain
    first, second = (one.count / one.of for one in (paired.accuracy.first, paired.accuracy.second))
    return (
        f"accuracy {second:.4f} instead of {first:.4f} (difference {gain.low:+.4f} to "
        f"{gain.high:+.4f}), macro-F1 {paired.challenger_macro_f1:.4f} instead of "
        f"{paired.champion_macro_f1:.4f} ({gain_f1.low:+.4f} to {gain_f1.high:+.4f}), "
        f"ECE {after:.4f} instead of {before:.4f}"
    )
