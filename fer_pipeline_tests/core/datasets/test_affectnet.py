import codecs

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.datasets.base import UNKNOWN_LABEL, Role
from fer_pipeline.core.decode import UnreadableError
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.index import count_kept_and_rejected
from fer_pipeline_tests.core.small_release import (
    AUTO_PHOTOS,
    HEADER,
    LISTS,
    MANUAL_PHOTOS,
    NULLS,
    encoded,
    indexed,
    line,
    noise,
    write_list,
    write_photo,
)


def _one_list(root, tmp_path, content):
    """The kept and rejected rows of a training list with this content."""
    write_list(root, "manual_train", content)
    return indexed(root, tmp_path / "index")[1:]


def _reasons(rejected):
    return [(row["row"], row["reason"], row["value"]) for row in rejected]


def test_validation_list_without_header_is_read_from_its_first_row(root, tmp_path):
    write_list(root, "manual_val", f"{line('1/a.jpg')}\n{line('1/b.jpg')}\n")
    kept = indexed(root, tmp_path / "index")[1]
    assert [(row["row"], row["image_path"]) for row in kept] == [(1, "1/a.jpg"), (2, "1/b.jpg")]
    assert open_dataset("affectnet", root).count_rows("manual_val") == 2


def test_validation_list_with_header_counts_no_header(root, tmp_path):
    write_list(root, "manual_val", [line("1/a.jpg"), line("1/b.jpg")])
    kept = indexed(root, tmp_path / "index")[1]
    assert [(row["row"], row["image_path"]) for row in kept] == [(1, "1/a.jpg"), (2, "1/b.jpg")]
    assert open_dataset("affectnet", root).count_rows("manual_val") == 2


def test_header_in_other_order_and_case_is_followed(root, tmp_path):
    content = (
        "Expression,SubDirectory_filePath,face_width,face_height,face_x,face_y,"
        "facial_landmarks,arousal,valence\n6,1/a.jpg,30,40,1,2,9;9,0.25,-0.5\n"
    )
    kept, rejected = _one_list(root, tmp_path, content)
    assert rejected == []
    assert kept[0]["expression"] == 6
    assert [kept[0][f"face_{name}"] for name in ("x", "y", "width", "height")] == [1, 2, 30, 40]
    assert (kept[0]["valence"], kept[0]["arousal"]) == (-0.5, 0.25)


def test_header_without_a_needed_column_is_an_input_error_that_names_it(root, tmp_path):
    with pytest.raises(InputError, match=r"training\.csv, row 1: the header lacks expression"):
        _one_list(root, tmp_path, HEADER.replace("expression", "mood") + "\n")


def test_header_that_names_a_column_twice_is_an_input_error_that_names_it(root, tmp_path):
    content = HEADER.replace("arousal", "Valence,arousal") + "\n"
    with pytest.raises(InputError, match=r"training\.csv, row 1: the header names valence more"):
        _one_list(root, tmp_path, content)


@pytest.mark.parametrize("with_header", [True, False])
def test_byte_order_mark_hides_neither_header_nor_first_path(root, tmp_path, with_header):
    text = f"{HEADER}\n" * with_header + line("1/a.jpg") + "\n"
    kept, rejected = _one_list(root, tmp_path, codecs.BOM_UTF8 + text.encode())
    assert [row["image_path"] for row in kept] == ["1/a.jpg"]
    assert rejected == []


def test_crlf_leaves_no_carriage_return_in_the_last_column(root, tmp_path):
    kept, rejected = _one_list(root, tmp_path, f"{HEADER}\r\n{line(arousal=0.5)}\r\n")
    assert rejected == []
    assert kept[0]["arousal"] == 0.5


def test_blank_last_line_is_no_row(root, tmp_path):
    kept, rejected = _one_list(root, tmp_path, f"{HEADER}\n{line()}\n\n\n")
    assert (len(kept), rejected) == (1, [])
    assert open_dataset("affectnet", root).count_rows("manual_train") == 1


def test_row_of_null_is_rejected_as_empty(root, tmp_path):
    kept, rejected = _one_list(root, tmp_path, [line("1/a.jpg"), NULLS, line("1/b.jpg")])
    assert [row["row"] for row in kept] == [1, 3]
    assert [reason[:2] for reason in _reasons(rejected)] == [(2, "empty_row")]


def test_row_without_a_path_and_row_without_a_label_are_told_apart(root, tmp_path):
    _, rejected = _one_list(root, tmp_path, [line(path="NULL"), line(expression="")])
    assert [reason[:2] for reason in _reasons(rejected)] == [(1, "no_path"), (2, "no_label")]


@pytest.mark.parametrize(
    "folder",
    [
        "Manually_Annotated_compressed/Manually_Annotated_Images",
        "Manually_Annotated_compressed/Manually Annotated Images",
        "Manually Annotated compressed/Manually Annotated Images",
        "Manually_Annotated_Images",
        "Manually Annotated Images",
    ],
)
def test_photo_root_is_found_with_blanks_and_without_the_compressed_level(root, folder):
    write_list(root, "manual_train", [line()])
    (root / MANUAL_PHOTOS).rmdir()
    (root / MANUAL_PHOTOS).parent.rmdir()
    write_photo(root, "1/a.jpg", b"photo", folder)
    dataset = open_dataset("affectnet", root)
    assert list(dataset.read_photos([("manual_train", "1/a.jpg")])) == [b"photo"]


def test_no_photo_root_is_an_input_error_that_says_what_to_unpack(root):
    write_list(root, "manual_train", [line()])
    (root / MANUAL_PHOTOS).rmdir()
    with pytest.raises(InputError, match=r"Manually_Annotated_compressed.*unpack"):
        open_dataset("affectnet", root)


def test_too_few_and_too_many_fields_are_rejected_with_their_row(root, tmp_path):
    rows = [line("1/a.jpg"), "1/b.jpg,1,2,3", line("1/c.jpg"), line("1/d.jpg") + ",8", line()]
    kept, rejected = _one_list(root, tmp_path, rows)
    assert [row["row"] for row in kept] == [1, 3, 5]
    assert _reasons(rejected) == [
        (2, "wrong_field_count", "1/b.jpg,1,2,3"),
        (4, "wrong_field_count", rows[3]),
    ]


@pytest.mark.parametrize(
    "row",
    [
        line(box=("12px", 1, 2, 3)),
        line(box=(1, 2, "inf", 3)),
        line(box=(1, 2, 10**9, 3)),
        line(valence="0,5").replace("0,5", '"0,5"'),
        line(arousal="1e999"),
    ],
)
def test_number_that_cannot_be_read_is_rejected_and_shown(root, tmp_path, row):
    kept, rejected = _one_list(root, tmp_path, [line("1/good.jpg"), row])
    assert [row["image_path"] for row in kept] == ["1/good.jpg"]
    ((number, reason, value),) = _reasons(rejected)
    assert (number, reason) == (2, "not_a_number")
    assert value.startswith("1/a.jpg,")


@pytest.mark.parametrize(
    "path", ["../../outside.jpg", "/etc/passwd", "\\\\host\\a.jpg", "..\\a.jpg", "C:\\a.jpg"]
)
def test_path_that_leaves_the_photo_root_is_rejected_as_unsafe(root, tmp_path, path):
    write_photo(root, "outside.jpg", b"photo", ".")
    kept, rejected = _one_list(root, tmp_path, [line(), line(path)])
    assert [row["row"] for row in kept] == [1]
    assert _reasons(rejected) == [(2, "unsafe_path", path.replace("\\", "/"))]


def test_backslash_within_a_path_is_a_folder_and_blanks_around_it_are_none(root, tmp_path):
    kept, _ = _one_list(root, tmp_path, [line("  103\\a.jpg "), line("103/a.jpg")])
    assert [row["image_path"] for row in kept] == ["103/a.jpg"] * 2
    assert kept[0]["face_id"] == kept[1]["face_id"]


@pytest.mark.parametrize("code", ["11", "-1", "1.5", "99", "grumpy"])
def test_unknown_label_is_rejected_with_its_value(root, tmp_path, code):
    _, rejected = _one_list(root, tmp_path, [line(), line(expression=code)])
    assert _reasons(rejected) == [(2, UNKNOWN_LABEL, code)]


@pytest.mark.parametrize("code", range(11))
def test_each_of_the_eleven_codes_is_kept(root, tmp_path, code):
    kept, rejected = _one_list(root, tmp_path, [line(expression=code)])
    assert [row["expression"] for row in kept] == [code]
    assert rejected == []


@pytest.mark.parametrize(("word", "code"), [("happy", 1), ("Anger", 6), ("No-Face", 10)])
def test_label_written_as_a_known_name_is_its_code(root, tmp_path, word, code):
    kept, rejected = _one_list(root, tmp_path, [line(expression=0), line(expression=word)])
    assert [row["expression"] for row in kept] == [0, code]
    assert rejected == []


def test_code_written_as_a_decimal_is_the_same_code(root, tmp_path):
    kept, _ = _one_list(root, tmp_path, [line(expression="3.0")])
    assert kept[0]["expression"] == 3


def test_valence_and_arousal_of_minus_two_are_not_defined(root, tmp_path):
    kept, _ = _one_list(
        root, tmp_path, [line(expression=8, valence=-2, arousal="-2.0"), line(valence=-1)]
    )
    assert (kept[0]["valence"], kept[0]["arousal"]) == (None, None)
    assert kept[1]["valence"] == -1


def test_row_without_a_box_is_kept_without_one(root, tmp_path):
    kept, rejected = _one_list(root, tmp_path, [line(box=("", "NULL", "", "nan"))])
    assert rejected == []
    assert [kept[0][f"face_{name}"] for name in ("x", "y", "width", "height")] == [None] * 4
    assert kept[0]["issue"] is None


def test_roles_lock_validation_and_keep_automatic_labels_in_training(root):
    for name in LISTS:
        write_list(root, name, [line()])
    assert open_dataset("affectnet", root).roles() == {
        "manual_train": Role.TRAIN,
        "manual_val": Role.TEST,
        "auto": Role.TRAIN_ONLY,
    }


def test_list_that_is_not_there_is_left_out_with_its_photo_root(root):
    write_list(root, "auto", [line()])
    assert list(open_dataset("affectnet", root).lists()) == ["auto"]


def test_annotation_follows_the_list(root, tmp_path):
    for name in LISTS:
        write_list(root, name, [line(f"1/{name}.jpg")])
    kept = indexed(root, tmp_path / "index")[1]
    assert [(row["list"], row["annotation"]) for row in kept] == [
        ("manual_train", "manual"),
        ("manual_val", "manual"),
        ("auto", "auto"),
    ]


def test_training_and_validation_share_one_photo_and_the_automatic_list_has_its_own(root):
    for name in LISTS:
        write_list(root, name, [line()])
    write_photo(root, "1/a.jpg", b"manual", MANUAL_PHOTOS)
    write_photo(root, "1/a.jpg", b"automatic", AUTO_PHOTOS)
    dataset = open_dataset("affectnet", root)
    photos = [(name, "1/a.jpg") for name in LISTS]
    assert list(dataset.read_photos(photos)) == [b"manual", b"manual", b"automatic"]
    keys = [dataset.photo_key(photo) for photo in photos]
    assert keys[0] == keys[1] != keys[2]


def test_missing_photo_and_an_endless_name_are_missing_and_a_folder_is_unreadable(root):
    write_list(root, "manual_train", [line()])
    write_photo(root, "1/empty.jpg", b"")
    write_photo(root, "1/a.jpg", encoded(noise()))
    dataset = open_dataset("affectnet", root)
    names = ["1/empty.jpg", "1/gone.jpg", "1", "x" * 5000, "1/a.jpg"]
    photos = [("manual_train", name) for name in names]
    read = list(dataset.read_photos(photos))
    assert [read[0], read[1], read[3]] == [b"", None, None]
    assert isinstance(read[2], UnreadableError)
    assert read[4] == encoded(noise())
    sizes = dataset.photo_sizes(photos)
    assert sizes[[0, 1, 3]].tolist() == [0, -1, -1]
    assert sizes[4] == len(read[4])


_CELLS = st.sampled_from(
    ["1/a.jpg", "../a.jpg", "NULL", "", "12px", "-1", "10", "60", "1e999", "nan", "0.5", "11", "3"]
)
_ROWS = st.one_of(
    st.lists(_CELLS, min_size=1, max_size=11).map(",".join),
    st.tuples(*[_CELLS] * 9).map(",".join),
    st.sampled_from([line(), NULLS, "", HEADER, '1/a.jpg,"a\nb"', "\x00", "\N{SNOWMAN}"]),
)
_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r", b"\xff\n", b'"\n'])


@given(rows=st.lists(st.tuples(_ROWS, _ENDS), min_size=1, max_size=25), header=st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_kept_and_rejected_rows_of_any_list_add_up_to_its_rows(tmp_path, rows, header):
    root = tmp_path / "any"
    content = f"{HEADER}\n".encode() * header + b"".join(row.encode() + end for row, end in rows)
    write_list(root, "manual_train", content)
    write_list(root, "manual_val", [line()])
    try:
        summary, kept, rejected = indexed(root, tmp_path / "index")
    except InputError as error:
        if "a quote too many or too few" in str(error):
            return
        # A first row that starts like the header is one, and has to have its columns.
        assert not header
        assert rows[0][0].startswith("subDirectory") or not rows[0][0]
        return
    stated = open_dataset("affectnet", root).count_rows("manual_train") + 1
    assert summary.rows_read == len(kept) + len(rejected) == stated
    counted = count_kept_and_rejected(tmp_path / "index")
    assert all(whole for _, _, whole in counted.values())


def test_every_row_of_the_real_lists_is_indexed(real_data, tmp_path):
    root = real_data / "affectnet-layout"
    summary, kept, rejected = indexed(root, tmp_path / "index")
    assert summary.rows_by_list == {"manual_train": 906, "manual_val": 240, "auto": 460}
    assert (summary.rows_read, len(kept), rejected) == (1606, 1606, [])
    assert summary.issues == {"duplicate": 8, "conflicting_label": 10, "bad_box": 1}
    dataset = open_dataset("affectnet", root)
    assert {name: dataset.count_rows(name) for name in LISTS} == summary.rows_by_list
    undefined = [row for row in kept if row["expression"] >= 8]
    assert undefined
    assert all(row["valence"] is None and row["arousal"] is None for row in undefined)
