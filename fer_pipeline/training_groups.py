"""Which photos a model has learned from: those of its own training, and of the models before it.

Each training keeps a list of them in its MLflow run. One that starts from another model takes that
model's list over, which holds what the models before it learned from; where that isn't to be had,
the run says so.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fer_pipeline import tracking
from fer_pipeline.core.datasets.base import DataSet
from fer_pipeline.core.datasets.mixed import source_names
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.examples import Examples
from fer_pipeline.core.model_file import without_path
from fer_pipeline.recogniser import is_local
from fer_pipeline.repeat import TRAINING_SETTINGS
from fer_pipeline.settings import Settings

TRAINING_GROUPS = "training_groups.parquet"
"""Artifact of a training's run: a table of SCHEMA. Earlier versions kept the column `group_id`
alone, of the training's own faces."""
UNKNOWN_START_TAG = "fer.unknown_start"
"""Tag of the run of a training that started from a model whose photos aren't all known: what people
call that model."""

SCHEMA = pa.schema([(name, pa.string()) for name in ("group_id", "source", "root")])
"""Groups of faces, the name of the data set that they are in, and the address where it stood."""

_OF_A_RUN = re.compile(r"runs:/([^/]+)/")


@dataclass(frozen=True)
class Learned:
    """What a model has learned from, as SCHEMA; `complete` where there is no more of it."""

    groups: pa.Table
    complete: bool


def own_groups(dataset: DataSet, manifest: pa.Table, training: Examples) -> pa.Table:
    """The groups of faces of the manifest that are trained on, as SCHEMA, each once."""
    faces = pa.array(training.face_id, pa.string())
    rows = pc.index_in(faces, value_set=manifest["face_id"].combine_chunks())
    found = manifest.select(["group_id", "source"]).take(rows)
    roots = _roots(dataset)
    root = pa.array([roots[name] for name in found["source"].to_pylist()], pa.string())
    return _each_once(found.append_column("root", root))


def learned_by(settings: Settings, address: str, dataset: DataSet) -> Learned:
    """What a model, by the name that `--init` takes, has learned from, as far as MLflow knows.

    Photos are told by their data set and their names in it. What stood at another address than
    the data set of that name does now is therefore left out, and the rest not complete: its names
    may be those of other photos.
    """
    run = _run_of(settings, address)
    kept = None if run is None else groups_of_run(settings, run.info.run_id)
    if run is None or kept is None:
        return Learned(SCHEMA.empty_table(), complete=False)
    if "root" not in kept.column_names:
        kept = _placed(settings, run.info.run_id, kept)
    here = _roots(dataset)
    places = zip(kept["source"].to_pylist(), kept["root"].to_pylist(), strict=True)
    same = [here.get(source, root) == root for source, root in places]
    complete = all(same) and unknown_start(settings, run.info.run_id) is None
    return Learned(kept.filter(pa.array(same, pa.bool_())), complete)


def joined(one: pa.Table, other: pa.Table) -> pa.Table:
    """Two tables of SCHEMA as one, each row once and in order."""
    return _each_once(pa.concat_tables([one, other]))


def groups_of_run(settings: Settings, run_id: str) -> pa.Table | None:
    """What the run of a training kept as `TRAINING_GROUPS`; None where it kept nothing."""
    kept = tracking.run_file(settings, run_id, TRAINING_GROUPS)
    return None if kept is None else pq.read_table(pa.BufferReader(kept))


def unknown_start(settings: Settings, run_id: str) -> str | None:
    """What a training started from, where not all is known of what that has learned from."""
    run = tracking.connect(settings).get_run(run_id)
    told, started = run.data.tags.get(UNKNOWN_START_TAG), run.data.params.get("init")
    if told is not None or started in (None, str(None)):
        return None if told is None else str(told)
    # Earlier versions took over no list.
    kept = groups_of_run(settings, run_id)
    if kept is not None and "root" in kept.column_names:
        return None
    return without_path(str(started))


def _run_of(settings: Settings, address: str) -> Any:
    """The MLflow run that a model came of; None for a file, and where no run is known."""
    import mlflow

    if is_local(address):
        return None
    named = _OF_A_RUN.match(address)
    try:
        with tracking.known(settings, address) as client:
            run_id = named[1] if named else mlflow.models.get_model_info(address).run_id
            return client.get_run(run_id) if run_id else None
    except InputError:
        # The model is there, its run may have been deleted.
        return None


def _placed(settings: Settings, run_id: str, groups: pa.Table) -> pa.Table:
    """A list of an earlier version as SCHEMA: each group in each data set of its training."""
    kept = tracking.run_file(settings, run_id, TRAINING_SETTINGS)
    told = {} if kept is None else json.loads(kept)
    sets = told.get("datasets") or [{name: told.get(name) or "" for name in ("dataset", "root")}]
    names = source_names([one["dataset"] for one in sets])
    ids = groups["group_id"].combine_chunks()
    parts = [
        pa.table([ids, pa.repeat(name, len(ids)), pa.repeat(one["root"], len(ids))], schema=SCHEMA)
        for name, one in zip(names, sets, strict=True)
    ]
    return pa.concat_tables(parts)


def _roots(dataset: DataSet) -> dict[str, str]:
    return {part.name: str(part.root) for part in dataset.parts()}


def _each_once(groups: pa.Table) -> pa.Table:
    table = groups.select(SCHEMA.names).group_by(SCHEMA.names).aggregate([])
    return table.sort_by([(name, "ascending") for name in SCHEMA.names]).cast(SCHEMA)
