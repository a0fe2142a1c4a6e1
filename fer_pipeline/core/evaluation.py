"""A trained model on the locked test split, beside its baselines: figures, tables, report data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from fer_pipeline.core.baselines import LINEAR_TRAIN_CAP, linear_baseline, small_images
from fer_pipeline.core.compiling import full_precision
from fer_pipeline.core.datasets.base import DataSet, Role, kinds_of_votes
from fer_pipeline.core.examination import Examination
from fer_pipeline.core.examples import Examples, image_parts, load_images
from fer_pipeline.core.figures import confusion_heatmap, recall_bars, reliability_diagram
from fer_pipeline.core.intervals import Estimate
from fer_pipeline.core.label_issues import suspected
from fer_pipeline.core.metrics import Evaluation, evaluate_predictions, most_confident_wrong
from fer_pipeline.core.model_file import ModelCard, without_paths
from fer_pipeline.core.people_model import ModelAgainstPeople
from fer_pipeline.core.photo_figures import wrong_gallery
from fer_pipeline.core.predictions import Predictions
from fer_pipeline.core.report import ReportData, WrongFaces
from fer_pipeline.core.splits import COPY_OF_DEV, COPY_OF_TEST
from fer_pipeline.core.synthetic import all_drawn
from fer_pipeline.core.train import predict
from fer_pipeline.core.votes import vote_words

_GALLERY = 24


@dataclass(frozen=True)
class Scored:
    """A model's evaluation, the linear baseline's accuracy on the same faces, the worst errors.

    `predictions` are the probabilities themselves, by which people are compared with the model.
    """

    evaluation: Evaluation
    linear: Estimate
    wrong: WrongFaces
    predictions: Predictions
    weights: int

    def scalars(self) -> dict[str, float]:
        """Every single figure under a flat name."""
        return {**self.evaluation.scalars(), **self.linear.to_dict("linear_accuracy")}

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures, as plain values for JSON."""
        return {**self.evaluation.to_dict(), **self.linear.to_dict("linear_accuracy")}

    def class_table(self) -> pd.DataFrame:
        """One row for each class: support, precision, recall with its interval, F1."""
        rows = [
            {
                "class": one.name,
                "support": one.support,
                "precision": _rounded(one.precision),
                "recall": _rounded(one.recall),
                "recall interval": f"{_rounded(one.recall_low)} to {_rounded(one.recall_high)}",
                "F1": _rounded(one.f1),
            }
            for one in self.evaluation.by_class
        ]
        return pd.DataFrame(rows)

    def figures(self) -> dict[str, bytes]:
        """The report's figures as PNG, by name."""
        found = self.evaluation
        made = {
            "confusion": confusion_heatmap(found.confusion, found.classes),
            "confusion_counts": confusion_heatmap(found.confusion, found.classes, normalised=False),
            "recall": recall_bars(found.by_class),
            "reliability": reliability_diagram(found.calibration, found.ece),
        }
        wrong = self.wrong
        if len(wrong.crops):
            made["most_confident_errors"] = wrong_gallery(
                wrong.crops, wrong.true, wrong.predicted, wrong.probability
            )
        return made

    def report_data(
        self,
        card: ModelCard,
        *,
        created: str,
        dataset: DataSet,
        manifest: pa.Table,
        manifest_hash: str,
        statuses: Mapping[str, int],
        history: Sequence[Mapping[str, float]],
        minutes: float,
        mlflow_run_id: str,
        git_commit: str,
        people: ModelAgainstPeople | None = None,
        people_pictures: Mapping[str, bytes] | None = None,
        details: Examination | None = None,
        init_known: bool = True,
    ) -> ReportData:
        """What the report shows, from this evaluation and where the model comes from."""
        tests = [name for name, role in dataset.roles().items() if role == Role.TEST]
        split = _counts(manifest["split"])
        reasons = _counts(manifest["reason"])
        return ReportData(
            stream=card.stream,
            created=created,
            evaluation=self.evaluation,
            linear=self.linear,
            dataset=dataset.title,
            test_split=", ".join(tests),
            manifest_rows=manifest.num_rows,
            manifest_hash=manifest_hash,
            label_source=card.label_source,
            vote_share=card.trained_on.get("vote_share", 0.0),
            votes=vote_words(kinds_of_votes(dataset, manifest)),
            init=without_paths(card).trained_on.get("init"),
            init_known=init_known,
            statuses=statuses,
            splits=split,
            duplicates_excluded=reasons.get(COPY_OF_TEST, 0) + reasons.get(COPY_OF_DEV, 0),
            drawn=all_drawn(dataset),
            training_faces=card.trained_on.get("training_faces"),
            preset=_preset(card),
            parameters=self.weights,
            epochs=len(history),
            seed=card.trained_on["seed"],
            minutes=minutes,
            history=history,
            wrong=self.wrong,
            mlflow_run_id=mlflow_run_id,
            git_commit=git_commit,
            people=people,
            people_pictures=people_pictures or {},
            details=details,
        )


def evaluate_examples(
    model: Any,
    classes: Sequence[str],
    training: Examples,
    test: Examples,
    *,
    seed: int,
    resamples: int,
) -> Scored:
    """Score a Keras model and the linear baseline (fitted on `training`) on `test`."""
    full_precision()
    probabilities = predict(model, test)
    found = evaluate_predictions(
        test.expression, probabilities, classes, test.group_id, seed=seed, resamples=resamples
    )
    predictions = Predictions(
        classes=tuple(classes),
        face_id=test.face_id,
        group_id=test.group_id,
        split=np.full(len(test), "test", dtype=object),
        expression=test.expression,
        probability=probabilities,
    )
    worst = most_confident_wrong(test.expression, probabilities, _GALLERY)
    doubtful = suspected(predictions)
    fitted_on = _at_most(LINEAR_TRAIN_CAP, len(training), seed)
    linear = linear_baseline(
        small_images(image_parts(training, fitted_on)),
        training.expression[fitted_on],
        small_images(image_parts(test, np.arange(len(test)))),
        len(classes),
        seed,
    )
    return Scored(
        evaluation=found,
        linear=evaluate_predictions(
            test.expression, linear, classes, test.group_id, seed=seed, resamples=resamples
        ).accuracy,
        wrong=WrongFaces(
            crops=load_images(test, worst),
            true=[classes[place] for place in test.expression[worst]],
            predicted=[classes[place] for place in probabilities[worst].argmax(axis=1)],
            probability=probabilities[worst].max(axis=1).tolist(),
            suspected=int(doubtful.sum()),
            suspected_here=int(doubtful[worst].sum()),
        ),
        predictions=predictions,
        weights=int(model.count_params()),
    )


def _at_most(limit: int, count: int, seed: int) -> npt.NDArray[np.intp]:
    """Up to `limit` of `count` rows, so that no more crops are read than the baseline uses."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {
        item["values"]: item["counts"]
        for item in column.value_counts().to_pylist()
        if item["values"] is not None
    }


def _rounded(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _preset(card: ModelCard) -> str:
    """The preset by name, and the values that replaced its own."""
    replaced: Mapping[str, str] = card.trained_on.get("recipe_overrides") or {}
    words = ", ".join(f"{name}={replaced[name]}" for name in sorted(replaced))
    return f"{card.trained_on['preset']} with {words}" if words else str(card.trained_on["preset"])
