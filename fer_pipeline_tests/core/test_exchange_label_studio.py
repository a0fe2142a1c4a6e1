import base64
import json
import xml.etree.ElementTree as ElementTree
from functools import partial

import pytest

from fer_pipeline.core.exchange_label_studio import (
    MAX_BYTES,
    labelling_config,
    read_annotations,
    write_annotations,
    write_tasks,
)
from fer_pipeline.core.study import NOT_A_FACE, UNSURE
from fer_pipeline_tests.core.small_study import CLASSES, answer_to, refused

_refused = partial(refused, read_annotations)


def _written(path, tasks):
    path.write_text(json.dumps(tasks))
    return path


def _task(study, item=0, **annotation):
    """A task of a raw export with one annotation."""
    given = {
        "id": 1001,
        "completed_by": 7,
        "result": [
            {"from_name": "expression", "to_name": "face", "type": "choices",
             "id": "Dx_aB91ISN", "value": {"choices": ["Sadness"]}},
        ],
        "was_cancelled": False,
        "created_at": "2030-01-31T12:00:00.5Z",
        "lead_time": 4.288,
        **annotation,
    }  # fmt: skip
    data = {"image": "data:,", "item": item, "study": study.key, "sample": study.sample}
    return {"id": 1, "data": data, "annotations": [given], "predictions": []}


def _minimal(study, item=0, **values):
    """A task of a JSON-MIN export."""
    return {
        "image": "data:,",
        "item": item,
        "study": study.key,
        "sample": study.sample,
        "id": 1,
        "expression": "Sadness",
        "annotator": 7,
        "annotation_id": 1001,
        "created_at": "2030-01-31T12:00:00.500000Z",
        "updated_at": "2030-01-31T12:00:00.500000Z",
        "lead_time": 4.288,
        **values,
    }


@pytest.mark.parametrize("whole", [True, False])
def test_tasks_show_every_picture_and_tell_nothing_else(study, tmp_path, whole):
    path = tmp_path / "tasks.json"
    assert write_tasks(path, study, whole=whole) == len(study)
    tasks = json.loads(path.read_text())
    items = [task["data"]["item"] for task in tasks]
    assert sorted(items) == list(range(len(study)))
    assert items != sorted(items)
    for task in tasks:
        assert set(task) == {"data"}
        assert set(task["data"]) == {"image", "item", "study", "sample"}
        head, _, encoded = task["data"]["image"].partition(",")
        kind = b"photo" if whole else b"crop"
        assert head == "data:image/jpeg;base64"
        assert base64.b64decode(encoded) == b"%s %d" % (kind, task["data"]["item"])
    text = path.read_text()
    for hidden in ("face_id", "image_path", "expression", "group_id", "split"):
        assert not any(str(value) in text for value in study.items[hidden].to_pylist() if value)


def test_the_configuration_offers_each_answer_with_a_key_of_its_own(study):
    root = ElementTree.fromstring(labelling_config(study))  # noqa: S314 - our own
    image, choices = root.find("Image"), root.find("Choices")
    assert image.get("value") == "$image"
    assert choices.get("toName") == image.get("name")
    assert [one.get("value") for one in choices] == [*CLASSES, UNSURE, NOT_A_FACE]
    keys = [one.get("hotkey") for one in choices]
    assert len(set(keys)) == len(keys) == 5


def test_annotations_are_read_as_they_were_written(study, tmp_path):
    answers = [
        answer_to(study, item, study.choices[item % 5], annotator=who, shown_order=item)
        for who in ("ann", "Zoë <b>")
        for item in range(len(study))
    ]
    path = tmp_path / "answers.json"
    assert write_annotations(path, study, answers) == 30
    found, skipped = read_annotations(path, study)
    assert sorted(found, key=lambda one: (one.annotator == "ann", one.item)) == sorted(
        answers, key=lambda one: (one.annotator == "ann", one.item)
    )
    assert skipped == 0


def test_annotations_do_not_tell_the_label(study, tmp_path):
    path = tmp_path / "answers.json"
    write_annotations(path, study, [answer_to(study, item, UNSURE) for item in range(5)])
    text = path.read_text()
    assert not any(name in text for name in CLASSES)


@pytest.mark.parametrize("form", [_task, _minimal])
def test_both_exports_of_label_studio_are_read(study, tmp_path, form):
    (answer,), _ = read_annotations(_written(tmp_path / "in.json", [form(study, 14)]), study)
    assert (answer.item, answer.answer, answer.repeat) == (14, "Sadness", True)
    assert (answer.annotator, answer.milliseconds) == ("Label Studio 7", 4288)
    assert answer.answered_at.isoformat() == "2030-01-31T12:00:00.500000+00:00"
    assert answer.face_id == study.items["face_id"][14].as_py()
    assert (answer.study, answer.sample) == (study.key, study.sample)


@pytest.mark.parametrize(
    ("completed_by", "name"),
    [
        ({"id": 3, "email": "ann@example.org"}, "ann@example.org"),
        ({"id": 3}, "Label Studio 3"),
        ("ann", "ann"),
        (None, "Label Studio"),
    ],
)
def test_annotators_are_named_by_what_the_export_says(study, tmp_path, completed_by, name):
    path = _written(tmp_path / "in.json", [_task(study, completed_by=completed_by)])
    assert read_annotations(path, study)[0][0].annotator == name
    assert read_annotations(path, study, "bob")[0][0].annotator == "bob"


def test_shown_order_is_the_order_of_the_times(study, tmp_path):
    tasks = [
        _task(study, item, created_at=f"2030-01-31T12:00:{second:02}Z", completed_by=who)
        for item, second, who in [(0, 30, 1), (1, 10, 1), (2, 20, 1), (0, 5, 2)]
    ]
    found, _ = read_annotations(_written(tmp_path / "in.json", tasks), study)
    assert [(one.annotator[-1], one.item, one.shown_order) for one in found] == [
        ("1", 1, 0),
        ("1", 2, 1),
        ("1", 0, 2),
        ("2", 0, 0),
    ]


def test_skipped_tasks_are_counted_and_give_no_answer(study, tmp_path):
    tasks = [_task(study, 0, was_cancelled=True, result=[]), _task(study, 1)]
    tasks.append({**_task(study, 2), "annotations": []})
    found, skipped = read_annotations(_written(tmp_path / "in.json", tasks), study)
    assert ([one.item for one in found], skipped) == ([1], 1)


@pytest.mark.parametrize("choice", ["<script>", "Fear", "", None, 3, ["Sadness"], {"a": 1}])
@pytest.mark.parametrize("form", [_task, _minimal])
def test_an_unknown_choice_is_named(study, tmp_path, form, choice):
    if form is _task:
        task = _task(study, result=[{"type": "choices", "value": {"choices": [choice]}}])
    else:
        task = _minimal(study, expression={"choices": [choice]})
    _refused(_written(tmp_path / "in.json", [task]), study, "task 1", "answers are Happiness")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sample": "0" * 16}, ("sample '0000000000000000'", "belongs to")),
        ({"study": "five_class/people"}, ("'five_class/people'",)),
        ({"study": None}, ("'None'",)),
        ({"item": 15}, ("'15'", "0 to 14")),
        ({"item": -1}, ("'-1'",)),
        ({"item": True}, ("'True'",)),
        ({"item": [0]}, ("'[0]'",)),
        ({"item": "0x1"}, ("'0x1'",)),
    ],
)
def test_a_task_of_another_study_refuses_the_file(study, tmp_path, change, words):
    task = _task(study)
    task["data"] |= change
    _refused(_written(tmp_path / "in.json", [_task(study, 3), task]), study, "task 2", *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"result": []}, ("0 choices",)),
        ({"result": None}, ("0 choices",)),
        ({"result": [{"value": {"choices": ["Sadness", "Happiness"]}}]}, ("2 choices",)),
        ({"lead_time": -1}, ("lead_time", "'-1'")),
        ({"lead_time": "soon"}, ("'soon'",)),
        ({"lead_time": 1e300}, ("1e+300",)),
        ({"lead_time": float("nan")}, ("nan",)),
        ({"created_at": "yesterday"}, ("'yesterday'",)),
        ({"created_at": 5}, ("'5'",)),
        ({"completed_by": "a\nb"}, ("can't name an annotator", "--annotator")),
        ({"completed_by": "x" * 300}, ("can't name an annotator",)),
    ],
)
def test_a_wrong_annotation_refuses_the_file(study, tmp_path, change, words):
    path = _written(tmp_path / "in.json", [_task(study, **change)])
    _refused(path, study, "task 1", *words)


def test_two_answers_of_one_person_to_one_picture_refuse_the_file(study, tmp_path):
    _refused(_written(tmp_path / "in.json", [_task(study)] * 2), study, "two answers", "image 0")


def test_one_name_is_not_given_to_two_people(study, tmp_path):
    tasks = [_task(study, 0), _task(study, 1, completed_by=8)]
    path = _written(tmp_path / "in.json", tasks)
    _refused(path, study, "Label Studio 7, Label Studio 8", "leave it out", annotator="ann")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{}", b"[]", b"null", b"[1]", b'[{"annotations": 5}]', b'["a"', b"\xff\xfe"),
        *(b"\0", b"[" * 100_000, b'[{"annotations": [3], "data": {}}]'),
        b'[{"expression": "Sadness"}]',
    ],
)
def test_a_file_that_is_no_export_is_told_what_it_should_be(study, tmp_path, content):
    path = tmp_path / "in.json"
    path.write_bytes(content)
    _refused(path, study)


def test_a_file_that_is_gone_or_too_large_is_named(study, tmp_path):
    _refused(tmp_path / "gone.json", study, "No such file")
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    _refused(tmp_path / "huge.json", study, "300,000,000 bytes")
