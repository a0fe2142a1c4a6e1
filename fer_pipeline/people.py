"""What people said of a stream's faces: the study of this home, its answers, the model beside it.

The sample, the statistics and the pages are the business of `core`; here is what ties them to
the settings of a home.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from fer_pipeline.core.answers_database import is_missing_file
from fer_pipeline.core.files import file_digest
from fer_pipeline.core.storage import Location, is_file
from fer_pipeline.core.study import Study, picture, read_study, study_path
from fer_pipeline.settings import Settings

if TYPE_CHECKING:
    from fer_pipeline.core.answers import Answer, AnswerStore
    from fer_pipeline.core.people_model import DifferingFace, ModelAgainstPeople
    from fer_pipeline.core.predictions import Predictions
    from fer_pipeline.core.study_sample import Sample

ANSWERS = "answers_digest"
"""Metadata key: the answers that an asset was made with, see `answers_digest`."""
OUT_OF_FOLD_USED = "out_of_fold_digest"
"""Metadata key: the predictions that an asset was made with, see `out_of_fold_digest`."""


def stream_study(settings: Settings, stream: str) -> Study | None:
    """The study of a stream that the settings name; None when it was never drawn."""
    path = study_path(settings.studies_folder, stream, settings.study)
    return read_study(path) if is_file(path) else None


def draw_study(
    settings: Settings,
    stream: str,
    name: str,
    *,
    suspects: Sequence[str] | None = None,
    count: int | None = None,
    on_photo: Callable[[int, int], None] | None = None,
) -> "tuple[Study, Sample]":
    """Draw and publish a study of a stream: a stratified sample, or the first of `suspects`.

    `suspects` are face_ids, the most suspicious first; `count` is of the faces of each class, or of
    the suspects (default: as the settings say); `on_photo` is told photos read and photos to read.
    Raises StudyThereError where a study of this name stands, InputError where none can be drawn.
    """
    from fer_pipeline.core.study_making import make_study

    return make_study(
        study_path(settings.studies_folder, stream, name),
        settings.open_dataset(),
        settings.manifest_folder,
        settings.crops_folder,
        stream=stream,
        classes=settings.all_streams[stream],
        label_source=settings.label_rule,
        per_class=count or (settings.relabel_per_class if suspects is None else settings.suspects),
        repeat_share=settings.relabel_repeats,
        seed=settings.seed,
        suspects=suspects,
        on_photo=on_photo,
    )


def study_answers(settings: Settings, study: Study) -> "list[Answer]":
    """All answers to a study; none where no database of answers is there yet."""
    with _answers_there(settings) as store:
        return store.answers(study.key, study.sample) if store else []


def study_annotators(settings: Settings, study: Study) -> dict[str, int]:
    """Who has answered a study, and how often; nobody where no database is there yet."""
    with _answers_there(settings) as store:
        return store.annotators(study.key, study.sample) if store else {}


def answers_digest(settings: Settings, stream: str) -> str:
    """16 hex digits that change with any answer to the stream's study; empty without answers."""
    key = f"{stream}/{settings.study}"
    with _answers_there(settings) as store:
        return store.digest(key) if store else ""


def predictions_file(settings: Settings, stream: str) -> Location:
    """What the stream's model said of the locked test split."""
    return settings.report_folder(stream) / "predictions.parquet"


def out_of_fold_file(settings: Settings, stream: str) -> Location:
    """What models of the stream said of training faces that they never saw."""
    return settings.report_folder(stream) / "out_of_fold.parquet"


def out_of_fold_digest(settings: Settings, stream: str) -> str:
    """16 hex digits that change with `out_of_fold_file`; empty where there is none."""
    path = out_of_fold_file(settings, stream)
    return file_digest(path) if is_file(path) else ""


def label_issues_file(settings: Settings, stream: str) -> Location:
    """The stream's labels, the most suspicious first."""
    return settings.report_folder(stream) / "label_issues.csv"


def predictions_beside_people(settings: Settings, stream: str) -> "Mapping[str, Predictions]":
    """The predictions that may be compared with people, by kind, as far as they are there.

    Those out of fold are made on demand alone: where they are of other classes than the stream has
    now they are left out.
    """
    from fer_pipeline.core.people_model import OUT_OF_FOLD, TEST
    from fer_pipeline.core.predictions import read_predictions

    files = {
        TEST: predictions_file(settings, stream),
        OUT_OF_FOLD: out_of_fold_file(settings, stream),
    }
    found = {kind: read_predictions(path) for kind, path in files.items() if is_file(path)}
    classes = set(settings.all_streams[stream])
    if OUT_OF_FOLD in found and set(found[OUT_OF_FOLD].classes) != classes:
        del found[OUT_OF_FOLD]
    return found


def people_on_test(
    settings: Settings, stream: str, predictions: "Predictions"
) -> "tuple[ModelAgainstPeople | None, Mapping[str, bytes]]":
    """A model beside people on those faces of the test split that people have labelled.

    And pictures of faces on which they differ, by face_id; None and no pictures without answers.
    """
    study = stream_study(settings, stream)
    answers = study_answers(settings, study) if study is not None else []
    if study is None or study.kind != "people" or not answers:
        return None, {}
    from fer_pipeline.core.people import people_report
    from fer_pipeline.core.people_model import TEST
    from fer_pipeline.core.people_page import gallery_faces

    report = people_report(
        study,
        answers,
        {TEST: predictions},
        prevalence=dict.fromkeys(study.classes, 1 / len(study.classes)),
        seed=settings.seed,
        resamples=settings.resamples,
    )
    pictures = study_pictures_of(study, gallery_faces(report))
    return (report.model[0] if report.model else None), pictures


def study_pictures_of(study: Study, faces: "Iterable[DifferingFace]") -> Mapping[str, bytes]:
    """The crops of faces of a study, by face_id."""
    return {
        face.face_id: picture(study.path, face.item, whole=False)
        for face in faces
        if face.item is not None
    }


@contextmanager
def _answers_there(settings: Settings) -> "Iterator[AnswerStore | None]":
    """The database of answers; None where it isn't there yet, as opening it would make it."""
    from fer_pipeline.core.answers import AnswerStore

    if is_missing_file(settings.answers_address):
        yield None
        return
    with closing(AnswerStore(settings.answers_address)) as store:
        yield store
