import json
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_pipeline.core.datasets import find_format, open_dataset
from fer_pipeline.core.datasets.affectnet_2021 import AffectNet2021
from fer_pipeline.core.datasets.base import Role
from fer_pipeline.core.datasets.npy_scalar import npy_scalar
from fer_pipeline.core.errors import InputError
from fer_pipeline_tests.core.datasets.reading import all_rows, crop_statuses, rows_of
from fer_pipeline_tests.core.datasets.tree_releases import affectnet_2021, npy, write
from fer_pipeline_tests.core.small_release import built

NAME = "affectnet-2021"


def test_rows_have_the_values_of_their_files(tmp_path):
    kept, rejected = rows_of(NAME, affectnet_2021(tmp_path / "root"), tmp_path / "index")
    assert not rejected
    assert [row["list"] for row in kept] == ["train"] * 6 + ["validation"] * 3
    third = kept[2]
    assert (third["image_path"], third["row"]) == ("train_set/images/2.jpg", 3)
    assert (third["expression"], third["arousal"]) == (2, 0.25)
    assert third["valence"] == pytest.approx(-0.1)


def test_val_set_is_the_locked_test(tmp_path):
    dataset = open_dataset(NAME, affectnet_2021(tmp_path))
    assert dataset.roles() == {"train": Role.TRAIN, "validation": Role.TEST}


def test_rows_stand_in_the_order_of_their_numbers(tmp_path):
    kept, _ = rows_of(NAME, affectnet_2021(tmp_path / "root", train=12), tmp_path / "index")
    paths = [row["image_path"] for row in kept if row["list"] == "train"]
    assert paths == [f"train_set/images/{number}.jpg" for number in range(12)]


@pytest.mark.parametrize(
    "value", ["3", 3, 3.0, np.int8(3), np.uint64(3), np.float16(3), b"3", ["3"], [[3]], " 3 "]
)
def test_value_is_read_however_it_was_saved(tmp_path, value):
    root = affectnet_2021(tmp_path / "root", train=1)
    write(root, "train_set/annotations/0_exp.npy", npy(value))
    kept, _ = rows_of(NAME, root, tmp_path / "index")
    assert kept[0]["expression"] == 3


@pytest.mark.parametrize("value", ["3", 3, 0.25, np.float32(-1.5), b"ab", ["x"]])
def test_value_of_big_endian_files_is_the_same(value):
    array = np.array(value)
    turned = array.astype(array.dtype.newbyteorder(">"))
    assert npy_scalar(npy(turned)) == npy_scalar(npy(array))


def test_pickled_object_is_refused_and_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    header = npy(np.array("3")).replace(b"'<U1'", b"'|O' ")
    data = header[: -len("3".encode("utf-32-le"))] + pickle.dumps(Trap())
    root = affectnet_2021(tmp_path / "root", train=2)
    write(root, "train_set/annotations/0_exp.npy", data)
    kept, rejected = rows_of(NAME, root, tmp_path / "index")
    assert [row["reason"] for row in rejected] == ["damaged_annotation"]
    assert len(kept) == 4


@pytest.mark.parametrize("kind", ["exp", "val", "aro"])
@pytest.mark.parametrize(
    "data",
    [b"", b"\x93NUMPY", npy("3")[:-1], npy("3") + b"x", npy([1, 2]), npy("3")[:40], b"3" * 99],
    ids=["empty", "magic", "cut", "longer", "two", "header", "text"],
)
def test_damaged_file_is_a_rejected_row_that_names_it(tmp_path, kind, data):
    root = affectnet_2021(tmp_path / "root", train=2)
    write(root, f"train_set/annotations/1_{kind}.npy", data)
    _, rejected = rows_of(NAME, root, tmp_path / "index")
    assert [(row["row"], row["reason"]) for row in rejected] == [(2, "damaged_annotation")]
    assert rejected[0]["value"].startswith("train_set/annotations/1: ")


def test_photo_without_an_expression_is_rejected_with_a_reason(tmp_path):
    root = affectnet_2021(tmp_path / "root", train=2)
    (root / "train_set/annotations/0_exp.npy").unlink()
    _, rejected = rows_of(NAME, root, tmp_path / "index")
    assert [row["reason"] for row in rejected] == ["no_label"]


def test_annotation_without_a_photo_is_a_row_whose_photo_is_missing(tmp_path):
    root = affectnet_2021(tmp_path / "root", train=2)
    (root / "train_set/images/1.jpg").unlink()
    kept, _ = rows_of(NAME, root, tmp_path / "index")
    dataset = open_dataset(NAME, root)
    sizes = dataset.photo_sizes([(row["list"], row["image_path"]) for row in kept])
    assert [row["image_path"] for row, size in zip(kept, sizes, strict=True) if size < 0] == [
        "train_set/images/1.jpg"
    ]


def test_unknown_code_is_an_unknown_label_and_minus_two_is_no_valence(tmp_path):
    root = affectnet_2021(tmp_path / "root", train=2)
    write(root, "train_set/annotations/0_exp.npy", npy("11"))
    write(root, "train_set/annotations/1_val.npy", npy("-2"))
    write(root, "train_set/annotations/1_aro.npy", npy(-2.0))
    kept, rejected = rows_of(NAME, root, tmp_path / "index")
    assert [row["reason"] for row in rejected] == ["unknown_label"]
    assert (kept[0]["valence"], kept[0]["arousal"]) == (None, None)


def test_valence_that_is_no_number_is_rejected_and_a_missing_one_is_not(tmp_path):
    root = affectnet_2021(tmp_path / "root", train=2)
    write(root, "train_set/annotations/0_val.npy", npy("much"))
    (root / "train_set/annotations/1_val.npy").unlink()
    kept, rejected = rows_of(NAME, root, tmp_path / "index")
    assert [row["reason"] for row in rejected] == ["not_a_number"]
    assert kept[0]["valence"] is None


def test_hidden_files_and_others_are_no_rows(tmp_path):
    root = affectnet_2021(tmp_path / "root", train=2)
    for path in ("images/._0.jpg", "images/Thumbs.db", "annotations/._0_exp.npy", ".DS_Store"):
        write(root, f"train_set/{path}", b"x")
    kept, rejected = rows_of(NAME, root, tmp_path / "index")
    assert (len(kept), len(rejected)) == (5, 0)


def test_name_that_is_no_text_is_rejected(tmp_path):
    root = affectnet_2021(tmp_path / "root", train=1)
    with open(bytes(root / "train_set/images") + b"/\xff.jpg", "wb"):  # noqa: PTH123
        pass
    _, rejected = rows_of(NAME, root, tmp_path / "index")
    assert [row["reason"] for row in rejected] == ["unreadable_name"]


def test_both_pictures_of_a_name_are_rows(tmp_path):
    root = affectnet_2021(tmp_path / "root", train=1)
    write(root, "train_set/images/0.png", b"x")
    kept, _ = rows_of(NAME, root, tmp_path / "index")
    assert [row["image_path"] for row in kept[:2]] == [
        "train_set/images/0.jpg",
        "train_set/images/0.png",
    ]


def test_annotations_without_photos_are_refused_in_a_sentence(tmp_path):
    write(tmp_path, "train_set/annotations/0_exp.npy", npy("1"))
    with pytest.raises(InputError, match="has no folder images: unpack the photos"):
        open_dataset(NAME, tmp_path)


def test_annotations_of_the_other_release_are_refused_with_its_name(tmp_path):
    write(tmp_path, "train_set/annotations/0.json", json.dumps({}))
    with pytest.raises(InputError, match="--dataset affectnet-plus"):
        open_dataset(NAME, tmp_path)


def test_two_folders_of_one_list_are_refused(tmp_path):
    affectnet_2021(tmp_path)
    write(tmp_path, "train/annotations/0_exp.npy", npy("1"))
    with pytest.raises(InputError, match="train and train_set, both the list train"):
        open_dataset(NAME, tmp_path)


def test_it_is_recognised_by_its_files_and_only_by_them(tmp_path):
    root = affectnet_2021(tmp_path)
    assert "_set/annotations/" in (AffectNet2021.recognise(root) or "")
    assert find_format("affectnet-plus").recognise(root) is None


def test_manifest_keeps_val_set_apart_and_crops_are_whole_pictures(tmp_path):
    root = affectnet_2021(tmp_path / "root")
    _, manifest = built(root, tmp_path / "built", name=NAME, dev_share=0.3)
    sides = {row["list"]: row["split"] for row in manifest.to_pylist()}
    assert sides["validation"] == "test"
    assert crop_statuses(open_dataset(NAME, root), tmp_path) == {"ok": 9}


_PIECES = [b"", b"\x00", b"\xff", b"'", b"(", b"1,", b"<U1", b"|O", b"<f8", b"\x93NUMPY", b"9" * 6]


@given(
    start=st.sampled_from([npy("3"), npy(3), npy(0.5), npy([2]), npy("-0.25")]),
    changes=st.lists(st.tuples(st.integers(0, 140), st.sampled_from(_PIECES), st.booleans())),
)
@settings(max_examples=150)
def test_changed_file_gives_a_text_or_nothing(start, changes):
    data = bytearray(start)
    for at, piece, is_inserted in changes:
        data[at : at + (0 if is_inserted else max(1, len(piece)))] = piece
    found = npy_scalar(bytes(data))
    assert found is None or isinstance(found, str)
    assert changes or found is not None


@given(
    files=st.dictionaries(
        st.builds(
            "{}{}".format,
            st.sampled_from(["0", "1", "22", "x.y", "_exp", "a_exp"]),
            st.sampled_from(["_exp.npy", "_val.npy", "_lnd.npy", ".npy", ".jpg", "", ".JPG"]),
        ),
        st.sampled_from([b"", npy("1"), npy("x"), npy(2.5), npy("nan"), npy("1e999")]),
        max_size=12,
    )
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_name_is_a_row_at_most_once_and_all_rows_are_counted(tmp_path, files):
    root = tmp_path / "any"
    for old in root.glob("train_set/*/*"):
        old.unlink()
    for name, data in files.items():
        folder = "images" if name.lower().endswith(".jpg") else "annotations"
        write(root, f"train_set/{folder}/{name}", data)
    write(root, "train_set/annotations/7_exp.npy", npy("1"))
    write(root, "train_set/images/7.jpg", b"")
    kept, rejected = all_rows(open_dataset(NAME, root))
    assert "train_set/images/7.jpg" in {row["image_path"] for row in kept}
    assert len(kept) + len(rejected) <= len(files) + 1
