"""Out-of-fold probabilities: every face of training and dev judged by a model that never saw it.

Folds are made of whole groups, so that no copy of a face helps to judge it. Each finished fold is
a file, so that a run that was killed goes on with the next one. What is made of the probabilities
is in `label_issues.py`.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.examples import Examples, select_examples
from fer_pipeline.core.files import text_digest
from fer_pipeline.core.predictions import Predictions, read_predictions, write_predictions
from fer_pipeline.core.presets import Preset
from fer_pipeline.core.storage import Location, files_in
from fer_pipeline.core.train import EpochResult, predict, train

_SIDES = ("train", "dev")
_DEV_PARTS = 10
"""One part of so many of what a fold learns from chooses the epoch."""


def training_side(
    shards: Sequence[Location], manifest: pa.Table, classes: Sequence[str], label_source: str
) -> tuple[Examples, NDArray[np.object_]]:
    """The usable faces of training and dev together, and the split of each; (n,).

    See `select_examples` for the label sources and the errors.
    """
    place = manifest.schema.get_field_index("split")
    given = manifest["split"]
    together = pc.if_else(pc.is_in(given, value_set=pa.array(_SIDES)), _SIDES[0], "")
    joined = manifest.set_column(place, "split", together)
    examples = select_examples(shards, joined, classes, _SIDES[0], label_source)
    ids = manifest["face_id"].combine_chunks()
    row = pc.index_in(pa.array(examples.face_id, pa.string()), value_set=ids)
    return examples, np.array(given.take(row).to_pylist(), dtype=object)


def folds_by_group(
    group_id: NDArray[np.object_], expression: NDArray[np.int64], folds: int, seed: int
) -> NDArray[np.int64]:
    """The fold (0 to `folds` - 1) of each face; all arrays (n,).

    Groups stay whole, in an order by hash of seed and group; each goes to the fold that has the
    fewest faces of the group's class so far (its most frequent one), then the fewest in all.
    Raises InputError with fewer groups than folds.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for place, group in enumerate(group_id):
        members[group].append(place)
    if folds < 2 or len(members) < folds:
        raise InputError(
            f"{len(members)} different photos can't be parted into {folds} folds: "
            "ask for at least 2 folds and no more than there are photos"
        )
    fold = np.empty(len(group_id), np.int64)
    count = np.zeros((folds, int(expression.max()) + 1), np.int64)
    for group in sorted(members, key=lambda name: text_digest(seed, name)):
        places = members[group]
        here = np.bincount(expression[places], minlength=count.shape[1])
        chosen = int(np.lexsort((count.sum(axis=1), count[:, here.argmax()]))[0])
        fold[places] = chosen
        count[chosen] += here
    return fold


def out_of_fold(
    examples: Examples,
    split: NDArray[np.object_],
    classes: Sequence[str],
    preset: Preset,
    *,
    folds: int,
    seed: int,
    folder: Location,
    crops: str,
    minutes: float | None = None,
    on_epoch: Callable[[int, EpochResult], None] | None = None,
    on_fold: Callable[[int, bool], None] | None = None,
) -> Predictions:
    """Train `folds` models, each on all but one fold, and let each judge the fold it never saw.

    Of what a fold learns from, one group in ten is kept to choose the epoch: a network learns
    wrong labels by heart in its last epochs, which this notices, while the faces that are judged
    must have no say in it. `minutes` is the time of all folds together; each has an equal part.

    Each finished fold is a file in `folder`; a call with the same examples, targets, preset, seed,
    folds, minutes and `crops` (the content hash of the crops) takes it from there. Files of
    other calls are deleted, so that only one process may work there. The process has to be ready
    for training (`train.prepare_process`).

    `on_epoch` is told the fold (from 1) and the epoch, `on_fold` the fold and whether it was
    there already. Raises InputError as `folds_by_group` and `train` do.
    """

    def judged(places: NDArray[np.intp], probability: NDArray[np.float32]) -> Predictions:
        return Predictions(
            classes=tuple(classes),
            face_id=examples.face_id[places],
            group_id=examples.group_id[places],
            split=split[places],
            expression=examples.expression[places],
            probability=probability,
        )

    fold = folds_by_group(examples.group_id, examples.expression, folds, seed)
    key = text_digest(crops, seed, folds, minutes, preset, *classes, _examples_digest(examples))
    names = [f"fold-{number}-{key}.parquet" for number in range(folds)]
    for path in files_in(folder, "fold-*.parquet"):
        if path.name not in names:
            path.unlink()
    probability = np.empty((len(examples), len(classes)), np.float32)
    for number, name in enumerate(names):
        places = np.flatnonzero(fold == number)
        found = _finished_fold(folder / name)
        there = found is not None
        if found is None:
            found = judged(
                places,
                _fold_probability(
                    examples,
                    places,
                    classes,
                    preset,
                    seed,
                    None if minutes is None else minutes / folds,
                    None if on_epoch is None else partial(on_epoch, number + 1),
                ),
            )
            write_predictions(folder / name, found)
        probability[places] = found.probability
        if on_fold is not None:
            on_fold(number + 1, there)
    return judged(np.arange(len(examples)), probability)


def forget_folds(folder: Location) -> None:
    """Delete the files of finished folds: what was to be made of them is published."""
    for path in files_in(folder, "fold-*.parquet"):
        path.unlink()


def _finished_fold(path: Location) -> Predictions | None:
    try:
        return read_predictions(path)
    except InputError:
        return None


def _fold_probability(
    examples: Examples,
    places: NDArray[np.intp],
    classes: Sequence[str],
    preset: Preset,
    seed: int,
    minutes: float | None,
    on_epoch: Callable[[EpochResult], None] | None,
) -> NDArray[np.float32]:
    """Probabilities (m, K) of the examples at `places`, by a model trained on the others."""
    import keras

    others = _subset(examples, np.setdiff1d(np.arange(len(examples)), places))
    part = folds_by_group(others.group_id, others.expression, _DEV_PARTS, seed + 1)
    result = train(
        _subset(others, np.flatnonzero(part > 0)),
        _subset(others, np.flatnonzero(part == 0)),
        classes,
        preset,
        seed=seed,
        minutes=minutes,
        on_epoch=on_epoch,
    )
    probability = predict(result.model, _subset(examples, places))
    # The graphs of one fold would stay in memory beside those of the next.
    del result
    keras.backend.clear_session()
    return probability


def _subset(examples: Examples, places: NDArray[np.intp]) -> Examples:
    columns = ("shard_index", "row", "target", "weight", "face_id", "group_id", "expression")
    chosen: dict[str, Any] = {name: getattr(examples, name)[places] for name in columns}
    return replace(examples, **chosen)


def _examples_digest(examples: Examples) -> str:
    """16 hex digits over what is learned: faces, groups, targets and weights."""
    numbers = (examples.target.tobytes().hex(), examples.weight.tobytes().hex())
    return text_digest(*examples.face_id, *examples.group_id, *numbers)
