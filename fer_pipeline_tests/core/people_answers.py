"""Studies in memory with made-up answers and predictions, for tests of what is reported on them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fer_pipeline.core.answers import Answer
from fer_pipeline.core.labels import VOTE_NAMES
from fer_pipeline.core.people_votes import VotesReport, votes_report
from fer_pipeline.core.predictions import Predictions
from fer_pipeline.core.study import ITEMS_SCHEMA, Study, sample_identity
from fer_pipeline_tests.core.small_study import answer_to

FIVE = ("Neutral", "Happiness", "Sadness", "Surprise", "Anger")
THREE = ("Happiness", "Sadness", "Surprise")
EVENLY = dict.fromkeys(FIVE, 0.2)


def study_of(
    labels: Sequence[str],
    repeat_of: Sequence[int] = (),
    *,
    classes: Sequence[str] = FIVE,
    kind: str = "people",
    splits: Sequence[str] | None = None,
) -> Study:
    """A study of faces with these labels, `repeat_of` being shown a second time."""
    shown = [*range(len(labels)), *repeat_of]
    items = pa.table(
        [
            list(range(len(shown))),
            [f"{face:016x}" for face in shown],
            ["validation"] * len(shown),
            [f"photos/{face}.jpg" for face in shown],
            [labels[face] for face in shown],
            [splits[face] if splits else "test" for face in shown],
            [f"photo{face}" for face in shown],
            [None] * len(labels) + list(repeat_of),
        ],
        schema=ITEMS_SCHEMA,
    )
    return Study(
        stream="five_class",
        name="people",
        kind=kind,
        classes=tuple(classes),
        label_source="listed",
        seed=0,
        manifest_hash="0badcafe",
        created="2025-05-01T10:00:00+00:00",
        sample=sample_identity(kind, items),
        per_class=len(labels),
        repeat_share=0.05,
        items=items,
        path=Path("people.parquet"),
    )


def answers_to(
    study: Study, annotator: str, said: Sequence[str | None], milliseconds: Sequence[int] = (2000,)
) -> list[Answer]:
    """What an annotator said of each item; None is not answered yet; times go round."""
    return [
        answer_to(
            study,
            item,
            answer,
            annotator=annotator,
            milliseconds=milliseconds[item % len(milliseconds)],
        )
        for item, answer in enumerate(said)
        if answer is not None
    ]


def predictions_of(
    study: Study,
    predicted: Sequence[str],
    *,
    split: str = "test",
    classes: Sequence[str] | None = None,
    sure: float = 0.6,
) -> Predictions:
    """A model's answer to each face of a study, in the order of the first showings."""
    classes = tuple(classes or study.classes)
    firsts = study.items.filter(study.items["repeat_of"].is_null()).slice(0, len(predicted))
    position = {name: at for at, name in enumerate(classes)}
    chosen = np.array([position[name] for name in predicted])
    probability = np.full((len(chosen), len(classes)), (1 - sure) / (len(classes) - 1), np.float32)
    probability[np.arange(len(chosen)), chosen] = sure
    return Predictions(
        classes=classes,
        face_id=np.array(firsts["face_id"].to_pylist(), dtype=object),
        group_id=np.array(firsts["group_id"].to_pylist(), dtype=object),
        split=np.array([split] * len(chosen), dtype=object),
        expression=np.array([position[name] for name in firsts["expression"].to_pylist()]),
        probability=probability,
    )


def noisy_study(
    per_class: int, annotators: Sequence[str], *, right: float = 0.75, seed: int = 0
) -> tuple[Study, list[Answer], Predictions]:
    """A larger study: hard and easy faces, some unsure answers and pauses, a worse model."""
    generator = np.random.default_rng(seed)
    labels = [name for name in FIVE for _ in range(per_class)]
    n = len(labels)
    twice = sorted(generator.choice(n, max(1, n // 20), replace=False).tolist())
    splits = ["test" if at % 4 else "dev" for at in range(n)]
    study = study_of(labels, twice, splits=splits)
    choices = np.array(study.choices, dtype=object)
    ease = np.clip(generator.normal(right, 0.15, n), 0.3, 1)
    odds = np.array([0.2] * 5 + [0.12, 0.03])
    answers = []
    for name in annotators:
        said = []
        for item in range(len(study)):
            face = item if item < n else twice[item - n]
            guess = str(generator.choice(choices, p=odds / odds.sum()))
            said.append(labels[face] if generator.random() < ease[face] else guess)
        times = np.exp(generator.normal(0.9, 0.6, len(study))) * 1000
        times[generator.random(len(study)) < 0.01] = 90_000
        answers += answers_to(study, name, said, times.astype(int).tolist())
    guessed = [name if generator.random() < 0.6 else FIVE[generator.integers(5)] for name in labels]
    predicted = predictions_of(study, guessed)
    tested = np.array(splits) == "test"
    surest = generator.uniform(0.3, 0.98, (n, 1)).astype(np.float32)
    spread = np.where(predicted.probability > 0.5, surest, (1 - surest) / 4).astype(np.float32)
    return (
        study,
        answers,
        replace(
            predicted,
            face_id=predicted.face_id[tested],
            group_id=predicted.group_id[tested],
            split=predicted.split[tested],
            expression=predicted.expression[tested],
            probability=spread[tested],
        ),
    )


def cast(**votes: int) -> list[int]:
    """One row of ten counts; `NoFace` stands for No-Face."""
    return [votes.get(name.replace("-", ""), 0) for name in VOTE_NAMES]


def report_on_votes(
    rows: Sequence[Sequence[int]],
    labels: Sequence[str],
    classes: Sequence[str] = THREE,
    **changes: Any,
) -> VotesReport:
    """The report on rows of ten counts, each about a face and a photo of its own."""
    names = np.array([f"face{at}" for at in range(len(rows))], dtype=object)
    options: dict[str, Any] = {
        "stream": "three_class",
        "face_id": names,
        "groups": names,
        "prevalence": dict.fromkeys(classes, 1.0),
        "seed": 0,
        "resamples": 200,
    }
    label = np.array([classes.index(name) for name in labels], int)
    votes = np.array(rows, np.int16).reshape(-1, len(VOTE_NAMES))
    return votes_report(votes, label, classes, **{**options, **changes})
