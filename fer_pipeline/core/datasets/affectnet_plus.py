"""AffectNet+: one JSON file a photo, with a soft label and what is known of the face.

`human_annotated/{train,validation}_set/` holds `images/N.jpg` (224x224) and `annotations/N.json`;
JSON files beside the photos, and splits named `train` and `validation` or `val`, are read too.
The keys are `human-label`, `soft-label` (eight numbers in the order of the codes), `subset` and
`meta-data`, in any case, with blanks or underscores as well as dashes. A soft label becomes votes:
hundredths, rounded. `no_human_annotated` has no human label and is left alone.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fer_pipeline.core.datasets import columns
from fer_pipeline.core.datasets.annotated_folders import AnnotatedFolders, Judged
from fer_pipeline.core.datasets.attributes import age_group
from fer_pipeline.core.datasets.base import UNKNOWN_LABEL
from fer_pipeline.core.datasets.rows import attribute_text, votes_column
from fer_pipeline.core.datasets.trees import plain_text, read_small_files
from fer_pipeline.core.labels import AFFECTNET, VOTE_NAMES
from fer_pipeline.core.votes import EXPRESSIONS

_SUBSETS: Mapping[str, str] = {"0": "easy", "1": "challenging", "2": "difficult"}
_PLAIN = json.JSONDecoder()
_LONGEST = 60
"""Characters of an attribute."""


class AffectNetPlus(AnnotatedFolders):
    """AffectNet+ under `root`; a split that isn't there is left out."""

    name = "affectnet-plus"
    layout = "train_set/ and validation_set/ with images/ and annotations/N.json"
    endings = (".json",)
    parents = ("", "human_annotated", "AffectNet+/human_annotated")
    votes_count_people = False
    remedy = (
        "the folder human_annotated, which holds train_set and validation_set, each with images "
        "and annotations (annotations of AffectNet's release of 2021 are N_exp.npy: "
        "--dataset affectnet-2021)"
    )

    def read(self, folder: str, stems: Sequence[str], notes: frozenset[str]) -> Judged:
        """What each JSON file says; see `AnnotatedFolders.read`."""
        there = [f"{stem}.json" in notes for stem in stems]
        found = read_small_files(
            self.root,
            (
                f"{folder}/{stem}.json"
                for stem, is_there in zip(stems, there, strict=True)
                if is_there
            ),
        )
        read = [_note(next(found)) if is_there else _NONE for is_there in there]
        cells = {
            key: pa.chunked_array([pa.array([getattr(one, key) for one in read], pa.string())])
            for key in ("label", "valence", "arousal")
        }
        code = columns.expression_codes(cells["label"], AFFECTNET)
        valence, valence_refused = columns.numbers(cells["valence"])
        arousal, arousal_refused = columns.numbers(cells["arousal"])
        soft = np.array([bool(one.shares) for one in read])
        shares = np.array([one.shares for one in read if one.shares], np.float64)
        votes = np.zeros((len(read), len(VOTE_NAMES)), np.int8)
        votes[soft, :EXPRESSIONS] = np.rint(100 * shares.reshape(-1, EXPRESSIONS))
        return Judged(
            code,
            columns.affect(valence),
            columns.affect(arousal),
            {
                "damaged_annotation": np.array([one.is_damaged for one in read]),
                "no_label": columns.missing(cells["label"]),
                UNKNOWN_LABEL: code < 0,
                "bad_soft_label": np.array([one.shares is None for one in read]),
                "not_a_number": valence_refused | arousal_refused,
            },
            lambda at: f"label {read[at].label!r}",
            votes_column(votes, soft),
            [one.attributes for one in read],
        )


class _Note(NamedTuple):
    """One JSON file as texts; `shares` are empty without a soft label, None with a bad one."""

    label: str = ""
    valence: str = ""
    arousal: str = ""
    shares: Sequence[float] | None = ()
    attributes: str | None = None
    is_damaged: bool = False


_NONE = _Note()
_DAMAGED = _Note(is_damaged=True)


def _note(data: object) -> _Note:
    if not isinstance(data, bytes):
        return _DAMAGED
    try:
        whole = _parsed(data)
    except (ValueError, RecursionError):
        return _DAMAGED
    if not isinstance(whole, dict):
        return _DAMAGED
    said = _with_plain_keys(whole)
    inner = said.get("metadata")
    known = said | _with_plain_keys(inner) if isinstance(inner, dict) else said
    subset = _text(known.get("subset"))[:_LONGEST]
    attributes = _attributes(
        _SUBSETS.get(subset, subset),
        _age(known.get("age")),
        _likeliest(known.get("gender")),
        _likeliest(known.get("race", known.get("ethnicity"))),
        _angles(known.get("pose", known.get("headpose"))),
    )
    return _Note(
        _text(known.get("humanlabel")),
        _text(known.get("valence")),
        _text(known.get("arousal")),
        _shares(known.get("softlabel")),
        attributes,
    )


def _parsed(data: bytes) -> object:
    try:
        return _PLAIN.decode(data.decode())
    except ValueError:
        # With a byte-order mark, or in another encoding.
        return json.loads(data)


@lru_cache(maxsize=4096)
def _attributes(subset: str, age: str, gender: str, race: str, pose: str) -> str | None:
    return attribute_text(
        {"subset": subset, "age": age, "gender": gender, "race": race, "pose": pose}
    )


def _with_plain_keys(said: Mapping[str, Any]) -> dict[str, Any]:
    return dict(zip(_plain_keys(*said), said.values(), strict=True))


@lru_cache(maxsize=1024)
def _plain_keys(*keys: str) -> tuple[str, ...]:
    """Keys without case, dashes, underscores and blanks; most files have the same ones."""
    return tuple("".join(filter(str.isalnum, key.lower())) for key in keys)


def _text(value: object) -> str:
    """A number or a text as text; empty for anything else."""
    if isinstance(value, str):
        return plain_text(value.strip())
    return str(value) if isinstance(value, int | float) else ""


def _number(value: Any) -> float:
    """A number, as such or as a text; NaN for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _are_floats(values: Iterable[object]) -> bool:
    return set(map(type, values)) == {float}


def _shares(value: object) -> Sequence[float] | None:
    """A soft label; empty without one, None where it is no eight shares."""
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) != EXPRESSIONS:
        return None
    shares = value if _are_floats(value) else list(map(_number, value))
    # A NaN among them makes the sum one.
    return shares if min(shares) >= 0 and max(shares) <= 1 and sum(shares) >= 0 else None


def _age(value: object) -> str:
    years = _number(value)
    return age_group(years) if math.isfinite(years) else ""


def _likeliest(value: object) -> str:
    """A trait in words: itself, or of several with a score each the one with the highest."""
    if not isinstance(value, dict):
        return _text(value)[:_LONGEST]
    scores = value
    if not _are_floats(value.values()):
        scores = {key: _number(one) for key, one in value.items()}
    return plain_text(max(scores, key=scores.__getitem__))[:_LONGEST] if scores else ""


def _angles(value: object) -> str:
    """A pose in words: itself, or its numbers with their names."""
    if not isinstance(value, dict):
        return _text(value)[:_LONGEST]
    known = {key: angle for key, one in value.items() if math.isfinite(angle := _number(one))}
    return plain_text(", ".join(f"{key} {angle:.0f}" for key, angle in known.items()))[:_LONGEST]
