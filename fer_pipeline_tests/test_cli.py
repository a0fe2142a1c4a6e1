"""The commands beside a whole run: their answers, their exit codes, their one sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fer_pipeline.core.decode import UnreadableError, decode
from fer_pipeline.core.index import INDEX_FILE
from fer_pipeline.core.manifest import read_manifest
from fer_pipeline.instance import locked_home
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.core.parquet_faces import write_split
from fer_pipeline_tests.core.small_release import encoded
from fer_pipeline_tests.graph import Ended, Finished, fer_pipeline

pytestmark = pytest.mark.usefixtures("own_environment")


@pytest.fixture(scope="module")
def done(drawn_release: Path) -> Finished:
    return graph.finished(drawn_release)


@pytest.fixture
def early(drawn_release: Path, tmp_path: Path) -> Settings:
    """A home with index, manifest and crops that remembers its settings."""
    settings = graph.early_copy(drawn_release, tmp_path / "home")
    settings.remember()
    return settings


def _is_one_sentence(ended: Ended, *words: str) -> bool:
    """Wrong input: exit code 2, the words in one line for people, no traceback, no JSON."""
    lines = [line for line in ended.err.splitlines() if line.strip()]
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert lines[-1].startswith("wrong input:")
    return all(word in lines[-1] for word in words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--dataset", "imagenet", "--root", "."), ("'imagenet'", "affectnet, affectnet-2021")),
        (("--dataset", "affectnet", "--root", "nowhere"), ("nowhere", "--root")),
        (("--dataset", "affectnet", "--root", "empty"), ("empty", "training.csv")),
        (("--dataset", "hf-parquet", "--root", "empty"), ("empty", "--root")),
        (("--dataset", "affectnet"), ("--root",)),
        ((), ("no data set is chosen", "--dataset NAME --root DIR")),
        (("--stream", "six_class"), ("'six_class'", "five_class, three_class")),
        (("--preset", "huge"), ("preset", "'smoke', 'cpu' or 'gpu'")),
        (("--minutes", "-1"), ("minutes", "greater than 0")),
        (("--set", "emma=0.9"), ("recipe_overrides", "'emma' is no value of a preset")),
        (("--set", "ema"), ("name=value",)),
        (("--vote-share", "2"), ("vote_share", "less than or equal to 1")),
        (("--label-source", "rumour"), ("label_source", "'listed' or 'votes'")),
        (("--unknown-labels", "guess"), ("unknown_labels", "'stop' or 'reject'")),
    ],
)
def test_wrong_option_of_run_is_one_sentence(
    here, tmp_path: Path, monkeypatch, words: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert _is_one_sentence(here("run", "--home", tmp_path / "home", *words), *expected)


def test_wrong_path_ends_the_installed_command_with_code_2(tmp_path: Path) -> None:
    ended = fer_pipeline(
        *("run", "--dataset", "affectnet", "--root", tmp_path / "nowhere"),
        *("--home", tmp_path / "home"),
    )
    assert _is_one_sentence(ended, "nowhere is not a folder", "--root")


def test_unknown_asset_is_told_the_names_of_assets(here, early: Settings) -> None:
    ended = here("run", "--home", early.home, "--select", "face_crop")
    assert _is_one_sentence(ended, "'face_crop'", "face_crops", "three_class/trained_model")


def test_home_that_cannot_be_made_is_named(here, tmp_path: Path, drawn_release: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    words = ("run", "--dataset", "affectnet", "--root", drawn_release)
    ended = here(*words, "--home", tmp_path / "file" / "home")
    assert _is_one_sentence(ended, "file/home", "--home")


def test_wrong_variable_of_the_environment_is_one_sentence(here, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FER_SEED", "many")
    assert _is_one_sentence(here("status", "--home", tmp_path), "FER_SEED")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--model", "nothing", "--root", "."), ("nothing", "models:/NAME/1")),
        (("--model", "empty", "--root", "."), ("empty", "model.keras")),
        (
            ("--model", "models:/fer-three_class/77", "--root", "."),
            ("fer-three_class/77", "--home"),
        ),
        (("--model", "nothing", "--root", "nowhere"), ("nowhere", "--root")),
        (
            ("--model", "nothing", "--root", ".", "--label-source", "rumour"),
            ("--label-source", "rumour"),
        ),
    ],
)
def test_wrong_option_of_evaluate_is_one_sentence(
    here, tmp_path, monkeypatch, drawn_release: Path, words, expected
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    words = [drawn_release if word == "." else word for word in words]
    ended = here("evaluate", "--dataset", "affectnet", "--home", tmp_path / "home", *words)
    assert _is_one_sentence(ended, *expected)


def test_show_without_an_index_says_what_to_run(here, tmp_path: Path) -> None:
    assert _is_one_sentence(here("show", "0", "--home", tmp_path), "no index", "fer-pipeline run")


def test_show_of_a_row_that_is_not_there_says_how_rows_count(here, early: Settings) -> None:
    for wanted in ("100000", "f" * 16):
        ended = here("show", wanted, "--home", early.home)
        assert _is_one_sentence(ended, wanted, "rows count from 0")


def _row(settings: Settings, state: str) -> dict[str, Any]:
    """The first row of the index whose photo is "whole", "missing" or "damaged"."""
    rows = pq.read_table(settings.index_folder / INDEX_FILE).to_pylist()
    photos = settings.open_dataset().read_photos([(row["list"], row["image_path"]) for row in rows])
    return next(
        {**row, "number": number}
        for number, (row, data) in enumerate(zip(rows, photos, strict=True))
        if _state(data) == state
    )


def _state(data: bytes | None) -> str:
    if data is None:
        return "missing"
    try:
        decode(data)
    except UnreadableError:
        return "damaged"
    return "whole"


def test_photo_is_shown_by_row_and_by_face(here, early: Settings, tmp_path: Path) -> None:
    row = _row(early, "whole")
    out = tmp_path / "shown.png"
    by_row = here("show", row["number"], "--home", early.home, "--out", out, "--json")
    assert by_row.code == 0, by_row.err
    assert by_row.answer["face_id"] == row["face_id"]
    assert by_row.answer["box"] == [
        row[name] for name in ("face_x", "face_y", "face_width", "face_height")
    ]
    assert by_row.answer["picture"] == str(out)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert by_row.answer["expression"] in by_row.words

    by_face = here("show", row["face_id"], "--home", early.home, "--json")
    assert by_face.answer["row"] == row["number"]
    assert Path(by_face.answer["picture"]).read_bytes() == out.read_bytes()
    assert Path(by_face.answer["picture"]).is_relative_to(early.home)


@pytest.mark.parametrize(("state", "words"), [("missing", "missing"), ("damaged", "be read")])
def test_photo_that_cannot_be_shown_is_named(here, early: Settings, state: str, words: str) -> None:
    row = _row(early, state)
    ended = here("show", row["number"], "--home", early.home)
    assert _is_one_sentence(ended, str(row["image_path"]), f"row {row['number']}", words)


def test_status_of_a_new_home_says_that_it_holds_nothing_and_leaves_it_so(here, tmp_path) -> None:
    ended = here("status", "--home", tmp_path, "--json")
    assert ended.code == 2
    assert "holds nothing yet" in ended.words
    assert "holds nothing yet" in ended.answer["error"]
    assert not list(tmp_path.iterdir())


def test_demo_leaves_the_results_of_a_users_data_alone(here, early: Settings) -> None:
    early.remember()
    ended = here("demo", "--home", early.home)
    assert _is_one_sentence(ended, str(early.root), "give --home another folder")
    assert not (early.home / "demo-data").exists()


def test_negative_seed_of_the_demo_is_one_sentence(here, tmp_path: Path) -> None:
    assert _is_one_sentence(here("demo", "--home", tmp_path, "--seed", -1), "setting seed")


def test_status_tells_what_is_made_from_what_and_how_good(here, done: Finished) -> None:
    ended = here("status", "--home", done.home, "--json")
    assert ended.code == 0, ended.err
    answer = ended.answer
    made = {name: asset for name, asset in answer["assets"].items() if not asset["on_demand"]}
    assert all(asset["up_to_date"] and asset["made_at"] for asset in made.values())
    assert {name.rpartition("/")[2] for name in answer["assets"].keys() - made.keys()} == {
        "label_issues"
    }
    assert answer["settings"]["root"] == str(done.root)
    assert answer["settings"]["streams"] == list(graph.STREAMS)
    for name in ("rows_read", "faces", "streams"):
        assert answer[name] == done.ended.answer[name]


def test_status_tells_what_the_next_run_would_make_and_why(here, early: Settings) -> None:
    answer = here("status", "--home", early.home, "--json").answer
    assert answer["assets"]["face_crops"]["up_to_date"]
    trained = answer["assets"]["three_class/trained_model"]
    assert (trained["up_to_date"], trained["reason"]) == (False, "never made")


def test_a_reason_is_told_as_it_is_whatever_brackets_its_path_has(
    here, drawn_release: Path, tmp_path: Path
) -> None:
    settings = graph.early_copy(drawn_release, tmp_path / "a[/b]")
    settings.remember()
    settings.corrections_file.write_text("nonsense\n")
    ended = here("status", "--home", settings.home, "--json")
    assert ended.code == 0, ended.err
    assert "[/b]" in ended.answer["assets"]["class_manifest"]["reason"]


def test_unknown_label_stops_the_run_with_code_2(drawn_release: Path, tmp_path: Path) -> None:
    ended = fer_pipeline(
        *("run", "--dataset", "affectnet", "--root", drawn_release, "--home", tmp_path / "home"),
        *("--select", "class_manifest"),
    )
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    assert "check no_unknown_label: 1 row with a label in no table" in ended.words
    assert "training.csv, row " in ended.words
    assert "set unknown_labels to reject" in ended.words
    assert not (tmp_path / "home" / "manifest").exists()


def test_second_run_at_the_same_time_is_refused(early: Settings) -> None:
    with locked_home(early):
        ended = fer_pipeline("run", "--home", early.home, "--json")
    assert ended.code == 1
    assert f"works on {early.home}" in ended.words
    assert "wait for it, or give --home another folder" in ended.words
    assert "Traceback" not in ended.err


@pytest.fixture(scope="module")
def never_seen(done: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of the drawn test faces as a data set of another format that holds one list."""
    settings = done.settings()
    (shard,) = settings.crops_folder.glob("shard-*.parquet")
    crops = pq.read_table(shard).to_pylist()
    manifest = read_manifest(settings.manifest_folder).to_pylist()
    names = ("sad", "happy", "surprise", "angry")
    code = {1: "happy", 2: "sad", 3: "surprise"}
    pictures, labels = [], []
    for crop, face in zip(crops, manifest, strict=True):
        if face["split"] == "test" and crop["crop"] is not None:
            pixels = np.frombuffer(crop["crop"], np.uint8).reshape(48, 48)
            pictures.append(encoded(pixels))
            labels.append(names.index(code[face["expression"]]))
    # One of a class that the model doesn't know, one that doesn't open.
    pictures += [pictures[0], b"no picture"]
    labels += [names.index("angry"), names.index("happy")]
    root = tmp_path_factory.mktemp("never-seen")
    write_split(root, "test", labels, names=names, images=pictures)
    return root


def test_model_is_evaluated_on_a_folder_it_has_never_seen(
    here, done: Finished, never_seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The backend's threads are chosen once a process, and this one may have begun.
    monkeypatch.delenv("FER_THREADS")
    figures = done.ended.answer["streams"]["three_class"]
    ended = here(
        *("evaluate", "--model", figures["model_uri"], "--dataset", "hf-parquet"),
        *("--root", never_seen, "--split", "test", "--home", done.home, "--json"),
    )
    assert ended.code == 0, ended.err
    answer = ended.answer
    assert answer["n"] == figures["n_test"]
    assert answer["classes"] == ["Happiness", "Sadness", "Surprise"]
    assert answer["rows_read"] == figures["n_test"] + 2
    assert answer["left_out"] == {"other_class": 1}
    assert answer["faces"] == {"ok": figures["n_test"], "unreadable": 1}
    # The same faces by another way: the same crops, so the same score.
    assert answer["accuracy"] == pytest.approx(figures["accuracy"])
    assert {"accuracy_low", "accuracy_high", "macro_f1", "balanced_accuracy", "ece"} <= set(answer)
    assert len(ended.out.strip().splitlines()) == 1


def test_json_is_the_last_line_of_stdout(here, early: Settings) -> None:
    ended = here("status", "--home", early.home, "--json")
    assert json.loads(ended.out.splitlines()[-1])["home"] == str(early.home)
