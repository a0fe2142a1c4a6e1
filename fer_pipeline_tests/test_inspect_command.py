"""`fer-pipeline inspect` and `fer-pipeline labels`: what they say of folders that tests make."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fer_pipeline.core import inspection
from fer_pipeline.core.datasets import find_format, format_names
from fer_pipeline.core.datasets.affectnet import AffectNet
from fer_pipeline.core.datasets.photo_files import PhotoFiles
from fer_pipeline.core.decode import decode
from fer_pipeline.core.labels import VOTE_NAMES
from fer_pipeline.streams import STREAMS, fitting_stream
from fer_pipeline_tests.core.datasets.tree_releases import affectnet_plus
from fer_pipeline_tests.core.parquet_faces import write_split
from fer_pipeline_tests.core.small_release import encoded, line, noise, write_list, write_photo
from fer_pipeline_tests.graph import Ended

pytestmark = pytest.mark.usefixtures("own_environment")

Here = Callable[..., Ended]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """An AffectNet-like release: forty training faces of five classes, ten of validation."""
    root = tmp_path / "a release" / "it's here"
    codes = (0, 1, 2, 3, 6)
    for name, start, count in (("manual_train", 0, 40), ("manual_val", 40, 10)):
        numbers = range(start, start + count)
        write_list(root, name, [line(f"1/{at}.png", expression=codes[at % 5]) for at in numbers])
    for at in range(50):
        write_photo(root, f"1/{at}.png", encoded(noise(at)))
    return root


def _add(root: Path, name: str, *rows: str) -> Path:
    path = root / {"manual_train": "training.csv", "manual_val": "validation.csv"}[name]
    path = root / "Manually_Annotated_file_lists" / path.name
    path.write_text(path.read_text() + "".join(f"{row}\n" for row in rows))
    return path


def test_a_release_is_guessed_counted_and_given_its_command(release: Path, here: Here) -> None:
    ended = here("inspect", release, "--json")
    assert ended.code == 0, ended.err
    found = ended.answer
    assert (found["format"], found["also"]) == ("affectnet", {})
    assert "training.csv" in found["why"]
    assert found["counts"]["Happiness"] == {"train": 8, "test": 2}
    assert list(found["counts"]) == ["Neutral", "Happiness", "Sadness", "Surprise", "Anger"]
    assert found["lists"]["manual_val"]["role"] == "test"
    assert [one["status"] for one in found["samples"]] == ["ok"] * len(found["samples"])
    words = shlex.split(found["command"])
    assert words[:4] == ["fer-pipeline", "run", "--dataset", "affectnet"]
    assert words[words.index("--root") + 1] == str(release)
    assert words[words.index("--stream") + 1] == "five_class"
    assert "Happiness" in ended.words
    assert f"run: {' '.join(found['command'].split())}" in ended.words


def test_only_a_dozen_photos_are_read_of_however_many(
    release: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    own = PhotoFiles.read_photos
    monkeypatch.setattr(
        AffectNet,
        "read_photos",
        lambda self, photos, most=None: (read.extend(photos), own(self, photos, most))[1],
    )
    monkeypatch.setattr(PhotoFiles, "photo_sizes", None)
    monkeypatch.setattr(PhotoFiles, "stored_sizes", None)
    assert here("inspect", release, "--json").code == 0
    assert len(read) == inspection.SAMPLES == 12


def test_sample_pictures_are_drawn_on_one_sheet(release: Path, tmp_path: Path, here: Here) -> None:
    (release / "Manually_Annotated_compressed/Manually_Annotated_Images/1/3.png").unlink()
    sheet = tmp_path / "sheets" / "samples.png"
    found = here("inspect", release, "--out", sheet, "--json").answer
    assert found["sheet"] == str(sheet)
    height, width, _ = decode(sheet.read_bytes()).shape
    assert min(height, width) > 300


def test_votes_are_called_what_they_are(tmp_path: Path, here: Here) -> None:
    votes = [[10] + [0] * 9] * 2
    write_split(tmp_path / "fer", "train", [3, 4], votes=votes, vote_columns=VOTE_NAMES)
    assert "There are FER+ votes: --label-source" in here("inspect", tmp_path / "fer").words
    plus = affectnet_plus(tmp_path / "plus")
    assert "There are soft labels: --label-source" in here("inspect", plus).words


def test_a_sheet_takes_no_place_of_a_folder(release: Path, tmp_path: Path, here: Here) -> None:
    (tmp_path / "file").touch()
    for place, reason in ((tmp_path, "Is a directory"), (tmp_path / "file" / "x.png", "exists")):
        ended = here("inspect", release, "--out", place)
        assert ended.code == 2
        *_, line = ended.err.strip().splitlines()
        assert line.startswith("wrong input: ")
        assert reason in line


def test_problems_name_rows_photos_and_known_labels(release: Path, here: Here) -> None:
    path = _add(
        release,
        "manual_train",
        line("1/1.png", expression="rage"),
        line("1/2.png", expression=2),
        line("1/3.png", expression=1),
        line("1/4.png", (5, 5, -1, 9), expression=1),
        line("../5.png"),
        *(line(f"2/{at}.png", expression=7) for at in range(20)),
    )
    write_photo(release, "1/41.png", b"no photo")
    ended = here("inspect", release, "--json")
    found = ended.answer
    rejected = {one["reason"]: one for one in found["rejected"]}
    assert rejected["unknown_label"] == {
        "reason": "unknown_label",
        "rows": 1,
        "file": str(path),
        "row": 41,
        "value": "rage",
    }
    assert rejected["unsafe_path"]["value"] == "../5.png"
    told = "\n".join(found["problems"])
    for words in (
        f"1 row with a label in no table: {path}, row 41: 'rage' (affectnet knows 0 Neutral, ",
        "or a name: afraid, anger",
        "1 row rejected for other reasons",
        "1 row that repeat",
        "2 rows of faces listed with several labels",
        "1 row with a box that has no area",
        "no face is labelled Fear, Disgust",
        "no test face is labelled Contempt",
        "photos looked at missing",
        "the first is 2/",
    ):
        assert words in told
    assert "--unknown-labels reject" in found["command"]
    assert "--stream five_class" in found["command"]


def test_a_photo_that_does_not_open_is_told_with_its_reason(tmp_path: Path, here: Here) -> None:
    for name in ("train", "test"):
        write_split(tmp_path, name, [3, 4], images=[encoded(noise(1, 48, 48)), b"no photo"])
    found = here("inspect", tmp_path, "--json").answer
    assert "2 of 4 photos looked at unreadable; the first is data/" in found["problems"][0]


def test_the_command_runs_as_it_is_where_two_classes_need_a_stream_of_their_own(
    tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "some faces"
    for name, count in (("train", 40), ("validation", 8)):
        write_split(root, name, [3, 6] * (count // 2))
    command = here("inspect", root, "--json").answer["command"]
    variable, *words = shlex.split(command)
    name, _, value = variable.partition("=")
    assert json.loads(value) == {"own": ["Neutral", "Happiness"]}
    monkeypatch.setenv(name, value)
    ended = here(*words[1:], "--home", tmp_path / "home", "--select", "class_manifest", "--json")
    assert ended.code == 0, ended.err
    assert ended.answer["rows_by_split"]["test"] == 8


def test_without_a_test_list_there_is_no_command_but_a_reason(tmp_path: Path, here: Here) -> None:
    write_split(tmp_path, "train", [3, 4, 5])
    ended = here("inspect", tmp_path, "--json")
    assert (ended.code, ended.answer["command"]) == (0, None)
    assert any("no test list" in problem for problem in ended.answer["problems"])
    assert "run:" not in ended.words


def test_leftovers_of_another_set_are_a_problem_and_dataset_overrules(
    release: Path, here: Here
) -> None:
    for name in ("train", "validation"):
        write_split(release, name, [0, 1, 2, 3, 4, 5, 6])
    guessed = here("inspect", release, "--json").answer
    assert guessed["format"] == "affectnet"
    assert list(guessed["also"]) == ["hf-parquet"]
    assert any("looks like hf-parquet too" in problem for problem in guessed["problems"])
    named = here("inspect", release, "--dataset", "hf-parquet", "--json").answer
    assert named["format"] == "hf-parquet"
    assert any("looks like affectnet too" in problem for problem in named["problems"])
    assert "--dataset hf-parquet" in named["command"]
    assert "--stream seven_class" in named["command"]


def test_a_folder_one_level_off_is_hinted(release: Path, tmp_path: Path, here: Here) -> None:
    for place in (release.parent, release / "Manually_Annotated_file_lists"):
        ended = here("inspect", place, "--json")
        assert ended.code == 2
        assert f"{release} looks like affectnet (it holds " in ended.answer["error"]
        assert "give that folder" in ended.answer["error"]
    ended = here("inspect", tmp_path / "nowhere", "--json")
    assert (ended.code, "nowhere is not a folder" in ended.answer["error"]) == (2, True)


def test_a_folder_of_something_else_is_one_sentence_with_the_layouts(
    tmp_path: Path, here: Here
) -> None:
    (tmp_path / "in" / "side").mkdir(parents=True)
    (tmp_path / "in" / "notes.txt").write_text("nothing here")
    ended = here("inspect", tmp_path / "in")
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    for name in format_names():
        assert f"{name}: {find_format(name).layout}" in ended.err
    assert "docs/datasets.md" in ended.err


def test_an_unknown_option_or_format_is_one_sentence(release: Path, here: Here) -> None:
    for words in (("--dataset-option", "affectnet.colour=red"), ("--dataset", "affectnot")):
        ended = here("inspect", release, *words)
        assert ended.code == 2
        assert "Traceback" not in ended.err


def test_the_largest_stream_with_faces_on_each_side_fits() -> None:
    eight = set(STREAMS["eight_class"])
    assert fitting_stream(eight, eight, eight) == ("eight_class", STREAMS["eight_class"])
    assert fitting_stream(eight, eight, eight - {"Contempt"}) == (
        "seven_class",
        STREAMS["seven_class"],
    )
    assert fitting_stream(eight, {"Fear", "Anger", "None"}, eight) == ("own", ("Fear", "Anger"))
    assert fitting_stream(eight, {"Fear"}, eight) is None


def test_labels_tells_codes_spellings_and_what_each_format_writes(here: Here) -> None:
    ended = here("labels", "--json")
    assert ended.code == 0
    found = {one["name"]: one for one in ended.answer["expressions"]}
    assert found["Happiness"]["code"] == 1
    assert found["Happiness"]["written"]["affectnet"] == ["1"]
    assert {"happiness", "joy"} <= set(found["Happiness"]["spellings"])
    assert ended.answer["by_name"] == [one for one in format_names() if not find_format(one).labels]
    assert "hf-parquet" in ended.answer["by_name"]
    assert "joy" in ended.words
    for name in format_names():
        assert name in ended.words


def test_memory_of_an_inspection_holds_no_row(
    release: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are read in batches of the index that is made aside, never as a whole."""
    sizes: list[int] = []
    batches = inspection.row_batches

    def counted(folder: Path, columns: list[str]):  # type: ignore[no-untyped-def]
        for batch in batches(folder, columns):
            sizes.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(inspection, "row_batches", counted)
    rows = [line(f"3/{at}.png", expression=at % 7) for at in np.arange(150_000)]
    _add(release, "manual_train", *rows)
    ended = here("inspect", release, "--json")
    assert ended.answer["rows_read"] == 150_050
    assert max(sizes) <= 65_536
