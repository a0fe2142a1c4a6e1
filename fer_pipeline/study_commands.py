"""The commands of `fer-pipeline study`: draw, list, export, import, correct."""

import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fer_pipeline.core.errors import InputError
from fer_pipeline.options import Home, Json
from fer_pipeline.people import (
    draw_study,
    label_issues_file,
    study_annotators,
    study_answers,
)
from fer_pipeline.settings import Settings
from fer_pipeline.terminal import print_json, say

if TYPE_CHECKING:
    from fer_pipeline.core.study import Study

study_app = typer.Typer(
    no_args_is_help=True,
    help="Studies: fixed samples of faces that people label, and their answers.",
)

_console = Console(stderr=True)

StudyKey = Annotated[
    str, typer.Argument(metavar="STUDY", help="stream/name, as `study list` shows it.")
]


@study_app.command()
def new(
    stream: Annotated[
        list[str] | None, typer.Option(help="Its stream; may be given again (default: all).")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Its name (default: as its kind).")] = None,
    kind: Annotated[
        Literal["people", "suspects"],
        typer.Option(help="A stratified sample, or the labels that are suspected most."),
    ] = "people",
    per_class: Annotated[
        int | None, typer.Option(min=1, help="Faces of each class; of suspects: faces in all.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sample.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Draw a study from the manifest and the crops. A study is never changed after that."""
    from rich.progress import Progress

    settings = Settings.load(home=home, seed=seed)
    name = name or kind
    # All of them before the first is drawn, which would be in the way of a second try.
    suspects = {one: _check_new(settings, one, name, kind) for one in stream or settings.streams}
    with Progress(console=_console, transient=True) as progress:
        task = progress.add_task("photos")

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        drawn = [
            draw_study(settings, one, name, suspects=faces, count=per_class, on_photo=tell)
            for one, faces in suspects.items()
        ]
    for study, sample in drawn:
        say(
            _console,
            f"{len(study):,} pictures, {study.test_share:.0%} of the faces from the test split",
            head=study.key,
            style="bold",
        )
        for label, missing in sample.shortfall.items():
            words = f"{missing:,} faces of {label} fewer than asked for: there are no more"
            say(_console, words, style="yellow")
        if sample.left_out:
            words = f"{sample.left_out:,} suspected faces are no faces of the stream any more"
            say(_console, words, style="yellow")
    say(_console, "`fer-pipeline review` shows them to people.")
    if as_json:
        print_json({"studies": [_described(study) for study, _ in drawn]})


@study_app.command("list")
def list_studies(home: Home = None, as_json: Json = False) -> None:
    """The studies there are, and who has answered how many of their pictures."""
    from fer_pipeline.core.study import studies_in

    settings = Settings.load(home=home)
    studies = studies_in(settings.studies_folder)
    found = []
    table = Table("stream", "name", "kind", "pictures", "annotators")
    for study in studies:
        people = study_annotators(settings, study)
        found.append({**_described(study), "annotators": people})
        names = ", ".join(f"{escape(who)} ({count:,})" for who, count in people.items())
        table.add_row(study.stream, study.name, study.kind, f"{len(study):,}", names or "-")
    if studies:
        _console.print(table)
    else:
        say(
            _console,
            f"There is no study in {settings.studies_folder}: `fer-pipeline study new` draws one.",
        )
    if as_json:
        print_json({"studies": found})


@study_app.command("export")
def export_answers(
    study: StudyKey,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")],
    form: Annotated[
        Literal["csv", "label-studio"],
        typer.Option("--format", help="The notebooks' CSV, or Label Studio's JSON."),
    ] = "csv",
    tasks: Annotated[
        bool,
        typer.Option("--tasks", help="The pictures to be labelled in Label Studio, no answers."),
    ] = False,
    whole: Annotated[
        bool, typer.Option("--whole", help="Tasks show whole photos, the face framed.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write the answers to a study to a file.

    The CSV holds the true labels: keep it from people who are still to answer. Tasks and
    answers for Label Studio hold none; its labelling configuration is written beside them.
    """
    from fer_pipeline.core.exchange import write_answers_csv
    from fer_pipeline.core.exchange_label_studio import (
        labelling_config,
        write_annotations,
        write_tasks,
    )
    from fer_pipeline.core.files import publish_bytes

    if (tasks and form != "label-studio") or (whole and not tasks):
        raise InputError(
            "--tasks goes with --format label-studio, and --whole with --tasks: give them too, "
            "or leave it out"
        )
    if out.is_dir() or (form == "label-studio" and out.suffix == ".xml"):
        raise InputError(
            f"{out} can't be the file of answers, as it is a folder or the labelling configuration "
            "would take its place: give --out another name"
        )
    settings = Settings.load(home=home)
    chosen = _study(settings, study)
    answers = study_answers(settings, chosen)
    if not (answers or tasks):
        raise InputError(
            f"nobody has answered {chosen.key} yet: `fer-pipeline review` is the page for it"
        )
    out = out.absolute()
    written = {"file": str(out)}
    if form == "label-studio":
        configuration = out.with_suffix(".xml")
        publish_bytes(configuration, labelling_config(chosen).encode())
        written["configuration"] = str(configuration)
    if tasks:
        count, what = write_tasks(out, chosen, whole=whole), "tasks"
    else:
        write = write_answers_csv if form == "csv" else write_annotations
        count, what = write(out, chosen, answers), "answers"
    say(_console, f"{count:,} {what} of {chosen.key} written to {' and '.join(written.values())}")
    if form == "csv":
        say(_console, "The file holds the true labels: keep it from annotators.", style="yellow")
    if as_json:
        print_json({"study": chosen.key, what: count, **written})


@study_app.command("import")
def import_answers(
    study: StudyKey,
    file: Annotated[Path, typer.Argument(help="CSV, or Label Studio's JSON or JSON-MIN export.")],
    annotator: Annotated[
        str | None, typer.Option(help="Who answered, where the file doesn't say.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Take in answers from a file: all of them, or none if one is wrong.

    Answers that are there already stay as they are. A file that ends in .json is taken for
    Label Studio's, any other for CSV.
    """
    from fer_pipeline.core.answers import AnswerStore
    from fer_pipeline.core.exchange import read_answers_csv
    from fer_pipeline.core.exchange_label_studio import read_annotations

    settings = Settings.load(home=home)
    chosen = _study(settings, study)
    skipped = 0
    if file.suffix.casefold() == ".json":
        answers, skipped = read_annotations(file, chosen, annotator)
    else:
        answers = read_answers_csv(file, chosen, annotator)
    with closing(AnswerStore(settings.answers_address)) as store:
        added, already = store.add_all(answers)
    there = {
        (answer.annotator, answer.item): answer.answer for answer in study_answers(settings, chosen)
    }
    other = sum(there.get((one.annotator, one.item)) != one.answer for one in answers)
    say(_console, f"{added:,} answers added to {chosen.key}, {already:,} were there already")
    if other:
        say(_console, f"{other:,} differ from those that are there, which stay", style="yellow")
    if skipped:
        say(_console, f"{skipped:,} tasks were skipped in Label Studio", style="yellow")
    if as_json:
        counts = {"added": added, "already": already, "differing": other, "skipped": skipped}
        print_json({"study": chosen.key, **counts})


@study_app.command("correct")
def correct_labels(
    study: StudyKey,
    votes: Annotated[
        int, typer.Option(min=1, help="Annotators who must agree on another label.")
    ] = 1,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write the labels that people found wrong to corrections.csv, which the next run applies.

    A label is corrected to what more than half of its annotators say. Corrections of the locked
    test split are written too, and applied with the setting corrections_on_test alone.
    """
    from fer_pipeline.core.corrections import append_corrections, read_corrections
    from fer_pipeline.core.study_verdicts import verdicts

    settings = Settings.load(home=home)
    chosen = _study(settings, study)
    answers = study_answers(settings, chosen)
    found = verdicts(chosen, answers, votes, read_corrections(settings.corrections_file))
    added = append_corrections(settings.corrections_file, found.corrections)
    splits = dict(
        zip(chosen.items["face_id"].to_pylist(), chosen.items["split"].to_pylist(), strict=True)
    )
    locked = sum(splits[correction.face_id] == "test" for correction in found.corrections)
    say(
        _console,
        f"{len(found.corrections):,} labels corrected ({added:,} of them new in "
        f"{settings.corrections_file}), {found.confirmed:,} confirmed, {found.unsure:,} unsure, "
        f"{found.undecided:,} undecided",
    )
    if locked and not settings.corrections_on_test:
        say(
            _console,
            f"{locked:,} of them are in the locked test split and are not applied, unless "
            "FER_CORRECTIONS_ON_TEST is set",
            style="yellow",
        )
    if as_json:
        counts = {
            "corrected": len(found.corrections),
            "added": added,
            "in_test": locked,
            "confirmed": found.confirmed,
            "unsure": found.unsure,
            "undecided": found.undecided,
        }
        print_json({"study": chosen.key, "file": str(settings.corrections_file), **counts})


def _check_new(settings: Settings, stream: str, name: str, kind: str) -> list[str] | None:
    """The suspected faces that a study is to be drawn of, None for a stratified sample.

    Raises InputError where the study is there, or what it is drawn of isn't.
    """
    from fer_pipeline.core.crop_set import CROPS_LIST
    from fer_pipeline.core.manifest import MANIFEST_FILE
    from fer_pipeline.core.storage import is_file
    from fer_pipeline.core.study import StudyThereError, study_path
    from fer_pipeline.core.study_making import suspected_faces

    if stream not in settings.all_streams:
        raise InputError(
            f"{stream!r} is no known stream: choose from {', '.join(settings.all_streams)}"
        )
    path = study_path(settings.studies_folder, stream, name)
    for needed in (settings.manifest_folder / MANIFEST_FILE, settings.crops_folder / CROPS_LIST):
        if not is_file(needed):
            raise InputError(f"{needed} is not there: `fer-pipeline run` makes it")
    if is_file(path):
        raise StudyThereError(path)
    return None if kind == "people" else suspected_faces(label_issues_file(settings, stream))


def _study(settings: Settings, key: str) -> "Study":
    from fer_pipeline.core.study import read_study, study_path

    stream, mark, name = key.partition("/")
    if not mark or not re.fullmatch(r"\w+", stream, re.ASCII):
        raise InputError(
            f"{key[:80]!r} names no study: give stream/name, as `fer-pipeline study list` shows it"
        )
    return read_study(study_path(settings.studies_folder, stream, name))


def _described(study: "Study") -> dict[str, Any]:
    return {
        "study": study.key,
        "kind": study.kind,
        "pictures": len(study),
        "sample": study.sample,
        "test_share": study.test_share,
        "created": study.created,
        "path": str(study.path),
    }
