import pytest

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.datasets import find_format
from fer_pipeline.core.datasets.base import UNKNOWN_LABEL, Role
from fer_pipeline.core.datasets.people import people_of_photos
from fer_pipeline.core.datasets.rows import UNKNOWN_SPLIT
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import NAMES
from fer_pipeline_tests.core.crop_work import Made
from fer_pipeline_tests.core.datasets.table_releases import indexed_as, opened, write_pictures

BOX = {"x": "l", "y": "t", "width": "w", "height": "h"}


def _write(root, *lines, name="list.csv"):
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("".join(f"{line}\n" for line in lines))


def _index(root, tmp_path, **options):
    dataset = opened("csv", root, **options)
    return dataset, *indexed_as(dataset, tmp_path / "index")


@pytest.mark.parametrize(
    ("header", "options"),
    [
        ("path,label", {}),
        (" Image_Path , Emotion ", {}),
        ("a,b", {"path": "a", "label": "b"}),
        ("A,B", {"path": "a", "label": "b"}),
    ],
)
def test_columns_are_found_by_usual_names_or_as_the_options_say(tmp_path, header, options):
    _write(tmp_path / "root", header, "x/1.png,joy", "./x\\2.png,sad", '"x/3,1.png",angry')
    kept = _index(tmp_path / "root", tmp_path, **options)[2]
    assert {row["image_path"]: NAMES[row["expression"]] for row in kept} == {
        "x/1.png": "Happiness",
        "x/2.png": "Sadness",
        "x/3,1.png": "Anger",
    }


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        ("path,label", {"label": "mood"}, r"list\.csv has no column 'mood': its columns are path"),
        ("photo,label", {}, "no column of a usual name for the path: its columns are photo, label"),
        ("path,label,label", {}, "2 columns 'label'"),
        ("path,label,l", {"x": "l"}, r"csv\.x is given, csv\.y, csv\.width, csv\.height is not"),
        ("path,label,l,t,w,h", {**BOX, "cropped": "yes"}, "which have no boxes"),
        ("path,label", {"numbers": "mine"}, r"csv\.numbers takes one of affectnet"),
        ("path,label", {"photos": "nowhere"}, "nowhere is not a folder: let csv.photos"),
        ("path,label", {"file": "other.csv"}, r"holds no other\.csv: give --root"),
        ("path,label", {"cropped": "true"}, "takes yes or no"),
    ],
)
def test_wrong_option_is_one_sentence_that_says_what_there_is(tmp_path, header, options, message):
    _write(tmp_path, header, "1.png,happy")
    with pytest.raises(InputError, match=message):
        opened("csv", tmp_path, **options)


def test_of_several_lists_one_must_be_named(tmp_path):
    _write(tmp_path, "path,label", "1.png,happy", name="a.csv")
    _write(tmp_path, "path,label", "2.png,sad", name="b.csv")
    with pytest.raises(InputError, match=r"holds 2 lists \(a\.csv, b\.csv\): name one"):
        opened("csv", tmp_path)
    assert opened("csv", tmp_path, file="b.csv").path.name == "b.csv"


def test_given_splits_are_the_lists_and_an_unknown_one_is_a_rejected_row(tmp_path):
    splits = ["Train", "val", "TEST", "fold3", ""]
    rows = [f"{at}.png,happy,{split}" for at, split in enumerate(splits)]
    _write(tmp_path / "root", "path,label,split", *rows)
    dataset, summary, _, rejected = _index(tmp_path / "root", tmp_path)
    assert summary.rows_by_list == {"train": 3, "validation": 1, "test": 1}
    assert dataset.roles()["validation"] == Role.DEV
    assert [(row["row"], row["reason"], row["value"]) for row in rejected] == [
        (4, UNKNOWN_SPLIT, "fold3"),
        (5, UNKNOWN_SPLIT, ""),
    ]
    dealt = _index(tmp_path / "root", tmp_path, split="")[1]
    assert dealt.rows_rejected == 0


def test_rows_that_say_too_little_are_rejected_with_the_reason(tmp_path):
    rows = ["1.png,happy", ",happy", "../2.png,sad", "3.png,", "4.png,grumpy", "5.png,happy,more"]
    _write(tmp_path / "root", "path,label", *rows)
    _, _, kept, rejected = _index(tmp_path / "root", tmp_path)
    assert [row["image_path"] for row in kept] == ["1.png"]
    assert {row["row"]: row["reason"] for row in rejected} == {
        2: "no_path",
        3: "unsafe_path",
        4: "no_label",
        5: UNKNOWN_LABEL,
        6: "wrong_field_count",
    }


def test_numbers_are_labels_only_by_a_table_that_is_named(tmp_path):
    _write(tmp_path / "root", "path,label", "1.png,3", "2.png,happy")
    rejected = _index(tmp_path / "root", tmp_path)[3]
    assert [(row["reason"], row["value"]) for row in rejected] == [(UNKNOWN_LABEL, "3")]
    for table, name in (("fer2013", "Happiness"), ("rafdb", "Disgust"), ("affectnet", "Surprise")):
        kept = _index(tmp_path / "root", tmp_path, numbers=table)[2]
        assert {NAMES[row["expression"]] for row in kept} == {name, "Happiness"}


def test_box_is_all_four_numbers_or_none_and_text_is_refused(tmp_path):
    rows = ["1.png,happy,1,2,30.6,40", "2.png,happy,,2,30,40", "3.png,happy,left,2,30,40"]
    _write(tmp_path / "root", "path,label,l,t,w,h", *rows)
    _, _, kept, rejected = _index(tmp_path / "root", tmp_path, **BOX)
    sides = ("face_x", "face_y", "face_width", "face_height")
    boxes = {row["row"]: [row[side] for side in sides] for row in kept}
    assert boxes == {1: [1, 2, 31, 40], 2: [None] * 4}
    assert [(row["row"], row["reason"]) for row in rejected] == [(3, "not_a_number")]


@pytest.mark.parametrize("name", ["NA", "null", "None", "nan", " n/a "])
def test_person_of_any_name_is_a_person_and_only_an_empty_cell_is_nobody(tmp_path, name):
    rows = [f"{at}.png,happy,{name}" for at in range(20)]
    rows += [f"{at}.png,happy, " for at in range(20, 40)]
    _write(tmp_path / "root", "path,label,who", *rows)
    dataset, _, kept, _ = _index(tmp_path / "root", tmp_path, person="who")
    groups = [dataset.photo_group((row["list"], row["image_path"])) for row in kept]
    lists = {row["list"] for row in kept if int(row["image_path"][:-4]) < 20}
    assert len(set(groups)) == 21
    assert len(lists) == 1


def test_all_photos_of_a_person_stand_on_one_side(tmp_path):
    rows = [f"{at}.png,happy,person {at % 12}" for at in range(60)]
    # In photo 0 stand two people: where the one is, the other has to be.
    _write(tmp_path / "root", "path,label,who", *rows, "0.png,sad,person 1")
    dataset, _, kept, _ = _index(tmp_path / "root", tmp_path, person="who")
    side = {}
    for row in kept:
        person = int(row["image_path"].removesuffix(".png")) % 12
        group = dataset.photo_group((row["list"], row["image_path"]))
        side.setdefault(max(person, 1), set()).add((row["list"], group))
    assert [len(found) for found in side.values()] == [1] * 11
    assert {name for found in side.values() for name, _ in found} == {"train", "test"}


def test_a_photo_of_nobody_is_a_group_of_its_own(tmp_path):
    _write(tmp_path, "path,label,who", "1.png,happy,", "2.png,happy,anna", "3.png,sad,anna")
    dataset = opened("csv", tmp_path, person="who")
    groups = [dataset.photo_group(("train", f"{at}.png")) for at in (1, 2, 3)]
    assert groups[0] != groups[1] == groups[2]


def test_people_who_share_photos_are_as_one():
    pairs = [("a", "Zoe"), ("b", "Yan"), ("c", "Xu"), ("b", "Xu"), ("a", "Yan"), ("d", "Wim")]
    assert people_of_photos(pairs) == {"a": "Xu", "b": "Xu", "c": "Xu", "d": "Wim"}


def test_list_of_usual_columns_is_recognised_and_fer2013_is_another_format(tmp_path):
    _write(tmp_path / "one", "file,emotion", "1.png,happy")
    assert "file and emotion" in find_format("csv").recognise(tmp_path / "one")
    _write(tmp_path / "two", "emotion,pixels,Usage", "3,1 2,Training", name="fer2013.csv")
    assert find_format("csv").recognise(tmp_path / "two") is None
    _write(tmp_path / "three", "x" * 200_000 + ",label", "1.png,happy")
    assert find_format("csv").recognise(tmp_path / "three") is None


def test_crops_are_cut_at_the_boxes_of_photos_in_a_folder_of_their_own(tmp_path):
    root = tmp_path / "root"
    write_pictures(root, [f"photos/{at}.png" for at in range(8)])
    rows = [f"{at}.png,{('happy', 'sad')[at % 2]},5,5,40,40" for at in range(8)]
    _write(root / "lists", "path,label,l,t,w,h", *rows, name="faces.csv")
    dataset = opened("csv", root, file="lists/faces.csv", photos="photos", **BOX)
    made = Made(dataset, tmp_path / "made", ("Happiness", "Sadness"))
    shards = made.write(tmp_path / "crops", CropSettings(side=24), shard_rows=100)
    assert [shard.statuses for shard in shards] == [{"ok": 8}]
