"""The commands of `fer-pipeline study`, on a home of drawn faces."""

import csv
import json
from pathlib import Path

import pytest

from fer_pipeline.core.answers import AnswerStore
from fer_pipeline.core.corrections import read_corrections
from fer_pipeline.core.manifest import read_manifest
from fer_pipeline.core.study import read_study, study_path
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.object_store import object_store, upload

KEY = "three_class/people"

pytestmark = pytest.mark.usefixtures("own_environment")


@pytest.fixture
def home(drawn_release: Path, tmp_path: Path) -> Settings:
    """A home with manifest and crops, and no study."""
    settings = graph.early_copy(drawn_release, tmp_path / "home")
    settings.remember()
    return settings


@pytest.fixture
def study(here, home):
    """The command in this process on that home, and a study of it."""

    def run(*words, code=0):
        ended = here("study", words[0], "--home", home.home, *words[1:])
        assert ended.code == code, ended.err
        assert "Traceback" not in ended.err
        return ended

    return run


def _made(study, home, **more):
    study("new", "--per-class", 4, *more.get("words", ()))
    return read_study(study_path(home.studies_folder, "three_class", more.get("name", "people")))


def _labels(made):
    return dict(enumerate(made.items["expression"].to_pylist()))


def test_a_new_study_is_drawn_of_the_faces_with_a_crop(study, home):
    ended = study("new", "--per-class", 4, "--json")
    (told,) = ended.answer["studies"]
    made = read_study(Path(told["path"]))
    assert (told["study"], told["kind"], told["pictures"]) == (KEY, "people", len(made))
    assert set(made.items["face_id"].to_pylist()) <= set(
        read_manifest(home.manifest_folder)["face_id"].to_pylist()
    )
    assert made.sample == told["sample"]
    assert "pictures" in ended.words


def test_a_study_of_a_name_that_is_taken_is_refused(study, home):
    made = _made(study, home)
    ended = study("new", "--per-class", 3, code=2)
    assert "never changed" in ended.err
    assert read_study(made.path).sample == made.sample
    study("new", "--per-class", 3, "--name", "second", "--seed", 7)


def test_no_study_is_drawn_when_one_of_several_cannot_be(study, home):
    made = _made(study, home)
    words = ("new", "--stream", "five_class", "--stream", "three_class")
    assert str(made.path) in study(*words, code=2).err
    assert [one["study"] for one in study("list", "--json").answer["studies"]] == [KEY]
    assert "label_issues" in study(*words, "--kind", "suspects", code=2).err


def test_a_class_without_enough_faces_is_told(study):
    ended = study("new", "--per-class", 1000)
    assert "fewer than asked for" in ended.words


def test_suspects_are_drawn_from_the_ranking(study, home):
    assert "label_issues" in study("new", "--kind", "suspects", code=2).err
    faces = read_manifest(home.manifest_folder)
    labelled = [
        face
        for face, code in zip(
            faces["face_id"].to_pylist(), faces["expression"].to_pylist(), strict=True
        )
        if code in (1, 2, 3)
    ]
    folder = home.report_folder("three_class")
    folder.mkdir(parents=True)
    ranked = [face for face in labelled if face in _usable(home)][:5]
    (folder / "label_issues.csv").write_text("face_id\n" + "\n".join([*ranked, "f" * 16]) + "\n")
    told = study("new", "--kind", "suspects", "--per-class", 4, "--json")
    made = read_study(Path(told.answer["studies"][0]["path"]))
    assert (made.key, made.kind) == ("three_class/suspects", "suspects")
    assert set(made.items["face_id"].to_pylist()) <= set(ranked)
    assert "no faces of the stream any more" in told.words


def _usable(home):
    from fer_pipeline.core.crop_set import read_crop_set
    from fer_pipeline.core.study_pictures import usable_faces

    return usable_faces(read_crop_set(home.crops_folder).paths)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("new", "--stream", "six_class"), "'six_class'"),
        (("new", "--name", "../../escaped"), "can't name a study"),
        (("new", "--name", "a b"), "can't name a study"),
        (("export", "three_class/../people", "--out", "x.csv"), "can't name a study"),
        (("export", "../studies/people", "--out", "x.csv"), "names no study"),
        (("export", "people", "--out", "x.csv"), "stream/name"),
        (("export", "three_class/gone", "--out", "x.csv"), "no study at"),
        (("import", "three_class/gone", "x.csv"), "no study at"),
        (("correct", "three_class/gone"), "no study at"),
        (("export", KEY, "--out", "x.csv", "--tasks"), "--format label-studio"),
        (("export", KEY, "--out", "x.csv", "--whole"), "--tasks"),
    ],
)
def test_wrong_words_are_one_sentence(study, words, said):
    ended = study(*words, code=2)
    lines = [line for line in ended.err.splitlines() if line.strip()]
    assert lines[-1].startswith("wrong input:")
    assert said in lines[-1]


def test_a_home_without_crops_is_told_what_makes_them(here, tmp_path, drawn_release):
    settings = Settings.fresh(home=tmp_path / "new", dataset="affectnet", root=drawn_release)
    settings.home.mkdir()
    settings.remember()
    ended = here("study", "new", "--home", settings.home)
    assert (ended.code, "fer-pipeline run" in ended.err) == (2, True)


def test_the_list_shows_who_has_answered_how_many(study, home):
    assert "no study" in study("list").words
    made = _made(study, home)
    graph.store_answers(home, made, "ann", {0: "unsure", 1: "Sadness"})
    graph.store_answers(home, made, "[red]bob[/]", {0: "unsure"})
    ended = study("list", "--json")
    assert "[red]bob[/] (1), ann (2)" in ended.words
    assert ended.answer["studies"][0]["annotators"] == {"ann": 2, "[red]bob[/]": 1}


def test_answers_travel_by_csv_to_another_home(study, here, home, tmp_path):
    made = _made(study, home)
    graph.store_answers(home, made, "=bob", dict.fromkeys(range(len(made)), "Sadness"))
    file = tmp_path / "answers.csv"
    ended = study("export", KEY, "--out", file)
    assert "true labels" in ended.words
    other = ("--home", home.home, "--json")
    before = here("study", "import", KEY, file, *other).answer
    assert (before["added"], before["already"], before["differing"]) == (0, len(made), 0)
    Path(home.state_folder / "studies.db").unlink()
    again = here("study", "import", KEY, file, *other).answer
    assert (again["added"], again["already"]) == (len(made), 0)
    store = AnswerStore(home.answers_address)
    assert store.annotators(KEY, made.sample) == {"=bob": len(made)}
    store.close()


def test_the_file_of_the_notebooks_is_taken_in_under_a_name(study, home, tmp_path):
    made = _made(study, home)
    rows = [(item, label, "Sadness", label == "Sadness") for item, label in _labels(made).items()]
    file = tmp_path / "notebook.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([("Image Index", "True Label", "User Label", "Match"), *rows])
    assert "--annotator" in study("import", KEY, file, code=2).err
    told = study("import", KEY, file, "--annotator", "ann", "--json").answer
    assert told["added"] == len(made)
    file.write_text(file.read_text().replace("Sadness,True", "Surprise,False"))
    changed = study("import", KEY, file, "--annotator", "ann", "--json")
    assert changed.answer["already"] == len(made)
    assert changed.answer["differing"] == list(_labels(made).values()).count("Sadness") > 0
    assert "which stay" in changed.words


def test_nothing_of_a_bad_file_is_taken_in(study, home, tmp_path):
    made = _made(study, home)
    file = tmp_path / "bad.csv"
    labels = _labels(made)
    lines = [f"{item},{labels[item]},unsure,False" for item in range(3)]
    header = "Image Index,True Label,User Label,Match"
    file.write_text("\n".join([header, *lines, "3,nothing,unsure,False"]))
    ended = study("import", KEY, file, "--annotator", "ann", "--json", code=2)
    assert "bad.csv, row 5" in ended.answer["error"]
    assert study("list", "--json").answer["studies"][0]["annotators"] == {}


def test_tasks_go_to_label_studio_and_its_export_comes_back(study, home, tmp_path):
    made = _made(study, home)
    file = tmp_path / "tasks.json"
    words = ("export", KEY, "--format", "label-studio")
    told = study(*words, "--out", file, "--tasks", "--whole", "--json").answer
    assert told["tasks"] == len(made)
    assert Path(told["configuration"]).read_text().startswith("<View>")
    tasks = json.loads(file.read_text())
    assert all(task["data"]["image"].startswith("data:image/jpeg;base64,") for task in tasks)
    for task in tasks:
        result = [{"type": "choices", "value": {"choices": ["Surprise"]}}]
        task["annotations"] = [{"completed_by": 5, "result": result, "lead_time": 1.5}]
    tasks[0]["annotations"][0]["was_cancelled"] = True
    file.write_text(json.dumps(tasks))
    back = study("import", KEY, file, "--annotator", "ann", "--json")
    assert (back.answer["added"], back.answer["skipped"]) == (len(made) - 1, 1)
    assert "1 tasks were skipped" in back.words
    out = tmp_path / "answers.json"
    assert study(*words, "--out", out, "--json").answer["answers"] == len(made) - 1
    assert study("import", KEY, out, "--json").answer["already"] == len(made) - 1


def test_an_export_without_answers_says_where_to_answer(study, home, tmp_path):
    _made(study, home)
    folder = tmp_path / "out"
    for form in ("csv", "label-studio"):
        ended = study("export", KEY, "--out", folder / "x.txt", "--format", form, code=2)
        assert "fer-pipeline review" in ended.err
    assert not folder.exists()


def test_wrong_labels_are_written_to_the_file_of_corrections_once(study, home):
    made = _made(study, home)
    labels = _labels(made)
    other = {"Happiness": "Sadness", "Sadness": "Surprise", "Surprise": "not a face"}
    for name in ("ann", "bob"):
        graph.store_answers(home, made, name, {at: other[label] for at, label in labels.items()})
    faces = len(set(made.items["face_id"].to_pylist()))
    assert study("correct", KEY, "--votes", 3, "--json").answer["undecided"] == faces
    told = study("correct", KEY, "--votes", 2, "--json")
    assert (told.answer["corrected"], told.answer["added"]) == (faces, faces)
    assert told.answer["in_test"] == round(made.test_share * faces) > 0
    assert "FER_CORRECTIONS_ON_TEST" in told.words
    written = read_corrections(home.corrections_file)
    assert {(one.old, one.new) for one in written} == {
        ("Happiness", "Sadness"),
        ("Sadness", "Surprise"),
        ("Surprise", "No-Face"),
    }
    assert {(one.who, one.study) for one in written} == {("ann, bob", KEY)}
    assert study("correct", KEY, "--votes", 2, "--json").answer["added"] == 0


def test_a_database_that_is_none_is_one_sentence(study, home):
    _made(study, home)
    Path(home.state_folder / "studies.db").write_bytes(b"not a database at all\n" * 100)
    ended = study("list", code=2)
    assert "file is not a database" in ended.err


def test_a_home_in_an_object_store_holds_studies_and_corrections(
    here, drawn_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = graph.early_copy(drawn_release, tmp_path / "copy")
    monkeypatch.setenv("FER_STATE", str(tmp_path / "state"))
    with object_store() as address:
        upload(local.home, "home")
        home = Settings.load(home=f"{address}/home", dataset="affectnet", root=drawn_release)
        home = home.model_copy(update={"streams": local.streams, "preset": local.preset})
        home.remember()
        words = ("--home", home.home, "--json")
        assert here("study", "new", "--per-class", 3, *words).code == 0
        ended = here("study", "new", "--per-class", 3, *words)
        assert (ended.code, "never changed" in ended.err) == (2, True)
        made = read_study(study_path(home.studies_folder, "three_class", "people"))
        graph.store_answers(home, made, "ann", {0: "not a face"})
        listed = here("study", "list", *words).answer["studies"]
        assert [(one["study"], one["annotators"]) for one in listed] == [(KEY, {"ann": 1})]
        assert here("study", "correct", KEY, *words).answer["added"] == 1
        assert [one.new for one in read_corrections(home.corrections_file)] == ["No-Face"]


def test_asking_makes_no_database(study, home):
    _made(study, home)
    study("list")
    study("correct", KEY)
    study("export", KEY, "--out", "x.csv", code=2)
    assert not (home.state_folder / "studies.db").exists()


def test_the_help_warns_of_the_true_labels(here):
    ended = here("study", "export", "--help")
    assert "keep it from people who are still to answer" in " ".join(ended.out.split())


@pytest.mark.parametrize("words", [("--out", "."), ("--out", "x.xml", "--format", "label-studio")])
def test_an_export_takes_no_place_of_a_folder_or_of_its_own_configuration(study, home, words):
    made = _made(study, home)
    graph.store_answers(home, made, "ann", dict(list(_labels(made).items())[:1]))
    assert "give --out another name" in study("export", KEY, *words, code=2).err


def test_an_export_below_a_file_is_one_sentence(study, home, tmp_path):
    made = _made(study, home)
    graph.store_answers(home, made, "ann", dict(list(_labels(made).items())[:1]))
    (tmp_path / "file").touch()
    said = study("export", KEY, "--out", tmp_path / "file" / "x.csv", code=2).err
    assert "can't be used (File exists): give another path" in " ".join(said.split())
