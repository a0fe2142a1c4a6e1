"""What the report asks of a trained model beyond its scores, from the data and registry of a home.

The questions are those of `core/examination.py`; here they get photos to time, the model's file
and the champion to stand beside.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fer_pipeline import tracking
from fer_pipeline.core.challenge import crop_objections
from fer_pipeline.core.datasets.base import cropped_faces, votes_of_people
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.examination import BesideChampion, Examination, beside_champion, examine
from fer_pipeline.core.examples import Examples
from fer_pipeline.core.latency import PHOTOS
from fer_pipeline.core.manifest import photos_of
from fer_pipeline.core.model_file import ModelCard, load_model
from fer_pipeline.core.predictions import Predictions
from fer_pipeline.core.train import predict
from fer_pipeline.registry import Registry
from fer_pipeline.settings import Settings


def examined(
    context: dg.AssetExecutionContext,
    settings: Settings,
    trained: Mapping[str, Any],
    model: Any,
    card: ModelCard,
    predictions: Predictions,
    test: Examples,
    training: Examples,
    manifest: pa.Table,
) -> Examination:
    """Examine a model that was scored on `test`; `trained` is what its materialization says."""
    path = tracking.model_file(settings, f"models:/{trained['model_id']}")
    found = examine(
        model,
        card,
        predictions,
        test,
        training,
        votes_of_people(settings.open_dataset(), manifest),
        photos=_photos(settings, test, manifest),
        model_bytes=path.stat().st_size,
        champion=_champion(context, settings, trained, card, predictions, test),
        seed=settings.seed,
        resamples=settings.resamples,
    )
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found.seconds.items())
    context.log.info(f"{card.stream} examined: {took}")
    return found


def _champion(
    context: dg.AssetExecutionContext,
    settings: Settings,
    trained: Mapping[str, Any],
    card: ModelCard,
    predictions: Predictions,
    test: Examples,
) -> BesideChampion | None:
    """The version that holds the alias now, unless it is this one or can't be compared."""
    registry = Registry(settings, card.stream)
    version = registry.champion()
    if version is None or registry.model_uri(version) == trained["model_uri"]:
        return None
    name = f"{registry.name} version {version}"
    try:
        champion, other = load_model(tracking.model_file(settings, registry.model_uri(version)))
    except InputError as error:
        # A report on a new model must not fail for an old one.
        context.log.warning(f"{name}, the champion, can't stand beside this model: {error}")
        return None
    if set(other.classes) != set(card.classes) or crop_objections(other, card.crop, "these"):
        context.log.info(f"{name}, the champion, has other classes or crops: not compared here")
        return None
    order = [other.classes.index(label) for label in card.classes]
    groups = registry.trained_groups(version)
    return beside_champion(
        f"the champion, {name}",
        predict(champion, test)[:, order],
        predictions,
        None if groups is None else groups["group_id"].to_pylist(),
        seed=settings.seed,
        resamples=settings.resamples,
    )


def _photos(settings: Settings, test: Examples, manifest: pa.Table) -> Any:
    """The stored bytes of some of the test faces' photos, drawn with the seed.

    Of a mixture only of those that aren't faces already: what a photo costs is asked.
    """
    dataset = settings.open_dataset()
    wanted = pa.array(test.face_id, pa.string())
    row = pc.index_in(wanted, value_set=manifest["face_id"].combine_chunks())
    faces = manifest.select(["list", "image_path"]).take(row)
    if not dataset.faces_are_cropped:
        whole = cropped_faces(dataset, faces["list"].to_pylist())
        faces = faces.filter(pa.array(~whole))
    generator = np.random.default_rng(settings.seed)
    chosen = np.sort(generator.permutation(faces.num_rows)[:PHOTOS])
    return dataset.read_photos(photos_of(faces.take(chosen)), settings.max_file_bytes)
