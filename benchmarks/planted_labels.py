"""How many wrong labels, planted among right ones, stand at the top of the ranking of suspects.

`python -m benchmarks.planted_labels --root DIR` needs a data set of the format hf-parquet with
FER+ votes. Labels that the votes confirm are changed at random, networks are trained out of fold
on all training rows with the changed labels among them, and all rows are ranked. The
probabilities stay in the home that is given, so that rankings can be compared without training.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.page import machine, write
from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.crop_set import CROPS_LIST, CropSet, publish_crop_set, read_crop_set
from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import text_digest
from fer_pipeline.core.index import build_index
from fer_pipeline.core.intervals import wilson_interval
from fer_pipeline.core.label_issues import ADJUSTED, METHOD, METHODS, Method, label_quality
from fer_pipeline.core.labels import CODES, NAMES
from fer_pipeline.core.manifest import build_manifest, read_manifest
from fer_pipeline.core.out_of_fold import out_of_fold, training_side
from fer_pipeline.core.predictions import Predictions, write_predictions
from fer_pipeline.core.presets import PRESETS, Preset
from fer_pipeline.core.shards import write_shard
from fer_pipeline.core.train import EpochResult, prepare_process
from fer_pipeline.core.votes import vote_matrix
from fer_pipeline.core.worklist import plan_work, read_slice

START, END = "<!-- planted -->", "<!-- /planted -->"
CLASSES = NAMES[:7]
PLANTED_SHARE, LEAST_VOTES, FIRST = 0.05, 8, 0.1
OTHERS = 20
"""Further plantings, of other rows: whether the best ranking is the best of this one by chance."""


@dataclass(frozen=True)
class Planted:
    """A manifest with wrong labels in it."""

    original: pa.Table
    manifest: pa.Table
    """`original` with the wrong labels."""
    agreeing: NDArray[np.object_]
    """face_id of the rows whose votes confirm their own label, planted ones among them."""
    planted: NDArray[np.object_]
    """face_id of the rows whose label was changed."""


@dataclass(frozen=True)
class Found:
    """How many of the planted labels stand in the first part of a ranking."""

    found: int
    planted: int

    def __str__(self) -> str:
        """The share with its Wilson interval."""
        low, high = wilson_interval(self.found, self.planted)
        return f"{self.found / self.planted:.3f} ({low:.3f} to {high:.3f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Plant, train, rank, show the table and write it to the page; give the exit code."""
    options = _parser().parse_args(arguments)
    preset = PRESETS[options.preset]
    if options.epochs is not None:
        recipe = replace(preset.recipe, min_epochs=options.epochs, max_epochs=options.epochs)
        preset = replace(preset, recipe=recipe)
    try:
        with ExitStack() as stack:
            home = options.home or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            began = time.monotonic()
            planted, predictions = measure(
                options.root,
                home,
                preset,
                folds=options.folds,
                seed=options.seed,
                minutes=options.minutes,
                most=options.rows,
                threads=options.threads,
            )
            said = options.epochs or options.minutes
            how = f"{options.folds} folds, preset {preset.name}" + (
                f", {said:g} {'epochs a fold' if options.epochs else 'minutes in all'}"
                if said
                else ""
            )
            text = table(planted, predictions, how)
            _tell(f"{time.monotonic() - began:,.0f} s in all")
    except InputError as error:
        _tell(str(error))
        return 2
    print(text)
    if options.page is not None:
        write(options.page, text, START, END)
    return 0


def measure(
    root: Path,
    home: Path,
    preset: Preset,
    *,
    folds: int,
    seed: int,
    minutes: float | None = None,
    most: int | None = None,
    threads: int | None = None,
) -> tuple[Planted, Predictions]:
    """Out-of-fold probabilities of the training rows (`most` of them) with planted labels."""
    crops, manifest = _prepare(root, home, preset)
    keep = np.array(manifest["split"].to_pylist(), dtype=object) == "train"
    if most is not None:
        drawn = np.array([text_digest(seed, face) for face in manifest["face_id"].to_pylist()])
        place = np.flatnonzero(keep)
        keep[place[np.argsort(drawn[place])[most:]]] = False
    # Rows of another split have no part in this, and their labels stay.
    manifest = manifest.filter(pa.array(keep))
    planted = plant(manifest, CLASSES, PLANTED_SHARE, LEAST_VOTES, seed)
    examples, split = training_side(crops.paths, planted.manifest, CLASSES, "listed")
    _tell(
        f"{len(examples):,} rows, {len(planted.agreeing):,} confirmed by votes, "
        f"{len(planted.planted):,} planted"
    )
    prepare_process(seed, threads)

    def tell(fold: int, epoch: EpochResult) -> None:
        _tell(
            f"fold {fold} epoch {epoch.epoch}: dev accuracy {epoch.dev_accuracy:.3f}, "
            f"{epoch.images_per_second:,.0f} faces/s, {epoch.seconds_left:,.0f} s left"
        )

    predictions = out_of_fold(
        examples,
        split,
        CLASSES,
        preset,
        folds=folds,
        seed=seed,
        folder=home / "folds",
        crops=crops.content_hash,
        minutes=minutes,
        on_epoch=tell,
    )
    write_predictions(home / "out_of_fold.parquet", predictions)
    return planted, predictions


def plant(
    manifest: pa.Table, classes: Sequence[str], share: float, least_votes: int, seed: int
) -> Planted:
    """Give `share` of the rows that votes confirm another class of `classes`, evenly at random.

    A row is confirmed when at least `least_votes` of its votes are for its own label.
    """
    codes = np.array(sorted(CODES[name] for name in classes))
    label = manifest["expression"].to_numpy().astype(np.int64)
    votes = vote_matrix(manifest["votes"])
    confirmed = np.isin(label, codes) & (votes[np.arange(len(label)), label] >= least_votes)
    agreeing = np.flatnonzero(confirmed)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(agreeing, round(share * len(agreeing)), replace=False))
    own = np.searchsorted(codes, label[chosen])
    step = rng.integers(1, len(codes), len(chosen))
    changed = label.copy()
    changed[chosen] = codes[(own + step) % len(codes)]
    place = manifest.schema.get_field_index("expression")
    ids = np.array(manifest["face_id"].to_pylist(), dtype=object)
    wrong = manifest.set_column(place, "expression", pa.array(changed, pa.int8()))
    return Planted(manifest, wrong, ids[agreeing], ids[chosen])


def found_first(
    predictions: Predictions,
    quality: NDArray[np.float64],
    planted: Planted,
    *,
    among: NDArray[np.object_] | None = None,
) -> Found:
    """The planted labels in the first part of the ranking, of all rows or of those `among`."""
    ids = predictions.face_id.astype(str)
    kept = np.ones(len(ids), bool) if among is None else np.isin(ids, among.astype(str))
    wrong = np.isin(ids[kept], planted.planted.astype(str))
    order = np.lexsort((ids[kept], quality[kept]))
    top = order[: round(FIRST * len(order))]
    return Found(int(wrong[top].sum()), int(wrong.sum()))


def replanted(planted: Planted, predictions: Predictions, seed: int) -> tuple[Predictions, Planted]:
    """Labels planted anew by another seed, and never in a row where one was planted before.

    The models are the same: they never saw the rows that they judge, whatever the label.
    """
    ids = np.array(planted.original["face_id"].to_pylist(), dtype=object)
    rest = planted.original.filter(pa.array(~np.isin(ids, planted.planted)))
    other = plant(rest, CLASSES, PLANTED_SHARE, LEAST_VOTES, seed)
    place = {CODES[name]: at for at, name in enumerate(CLASSES)}
    label = dict(zip(ids, planted.original["expression"].to_pylist(), strict=True))
    label |= dict(
        zip(
            other.manifest["face_id"].to_pylist(),
            other.manifest["expression"].to_pylist(),
            strict=True,
        )
    )
    expression = np.array([place[label[face]] for face in predictions.face_id], np.int64)
    return replace(predictions, expression=expression), other


def table(planted: Planted, predictions: Predictions, how: str) -> str:
    """The figures as Markdown."""
    ids = predictions.face_id.astype(str)
    confirmed = np.isin(ids, planted.agreeing.astype(str))
    wrong = np.isin(ids, planted.planted.astype(str))
    right = predictions.probability.argmax(axis=1) == predictions.expression
    clean = right[confirmed & ~wrong]
    lines = [
        f"{wrong.sum():,} wrong labels, {PLANTED_SHARE:.0%} of the {confirmed.sum():,} training "
        f"rows for whose label at least {LEAST_VOTES} of ten FER+ votes are; {len(ids):,} rows "
        f"ranked; {how}; {machine()}. The models' out-of-fold accuracy is {right.mean():.3f} over "
        f"all rows with the labels they carry, {clean.mean():.3f} over the confirmed ones that "
        "were left alone.",
        "",
        "The ranking in bold is the pipeline's. It was chosen with this planting in sight, so that "
        f"{OTHERS} others (other rows, the same models) are beside it. One training, one seed.",
        "",
        f"| ranking | planted labels in its first {FIRST:.0%} | in the first {FIRST:.0%} of the "
        f"confirmed rows alone | {OTHERS} other plantings, first {FIRST:.0%}: mean, least, most |",
        "|---|---|---|---|",
    ]
    others = [replanted(planted, predictions, 1000 + number) for number in range(OTHERS)]
    for method in METHODS:
        for adjusted in (False, True):
            if method == "confidence_weighted_entropy" and adjusted:
                continue
            lines.append(_row(planted, predictions, others, method, adjusted))
    lines.append(f"| random order (expected) | {FIRST:.3f} | {FIRST:.3f} | {FIRST:.3f} |")
    return "\n".join(lines)


def _row(
    planted: Planted,
    predictions: Predictions,
    others: Sequence[tuple[Predictions, Planted]],
    method: Method,
    adjusted: bool,
) -> str:
    quality = label_quality(predictions, method, adjusted=adjusted)
    every = found_first(predictions, quality, planted)
    confirmed = found_first(predictions, quality, planted, among=planted.agreeing)
    again = [
        found_first(labelled, label_quality(labelled, method, adjusted=adjusted), other)
        for labelled, other in others
    ]
    shares = [found.found / found.planted for found in again]
    mark = "**" if (method, adjusted) == (METHOD, ADJUSTED) else ""
    name = f"{method}{', adjusted' if adjusted else ''}"
    return (
        f"| {mark}{name}{mark} | {mark}{every}{mark} | {mark}{confirmed}{mark} | "
        f"{np.mean(shares):.3f}, {min(shares):.3f}, {max(shares):.3f} |"
    )


def _prepare(root: Path, home: Path, preset: Preset) -> tuple[CropSet, pa.Table]:
    """Index, manifest and crops of the data set, unless they are there."""
    dataset = open_dataset("hf-parquet", root)
    settings = CropSettings(side=preset.side, colour=preset.colour, detect="whole")
    folder = home / "crops"
    if not (folder / CROPS_LIST).is_file():
        _tell("index, manifest and crops")
        build_index(dataset, home / "index")
        build_manifest(
            dataset,
            home / "index",
            home / "manifest",
            CLASSES,
            label_source="listed",
            dev_share=0.0,
            seed=0,
        )
        parts = plan_work(dataset, home / "manifest", folder, settings, shard_rows=8192)
        shards = [
            write_shard(dataset, *read_slice(folder, part.number), folder, settings)
            for part in parts
        ]
        publish_crop_set(folder, home / "manifest", settings, shards)
    return read_crop_set(folder), read_manifest(home / "manifest")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.planted_labels", description=__doc__
    )
    parser.add_argument("--root", type=Path, required=True, help="folder that holds data/")
    parser.add_argument("--home", type=Path, help="folder that keeps crops and probabilities")
    parser.add_argument("--preset", choices=list(PRESETS), default="cpu")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="time of training, all folds together")
    length.add_argument("--epochs", type=int, help="epochs of each fold (the preset's)")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, help="so many training rows instead of all")
    parser.add_argument("--threads", type=int, help="of training (all cores)")
    parser.add_argument("--page", type=Path, help="page to write the table to")
    return parser


if __name__ == "__main__":
    sys.exit(main())
