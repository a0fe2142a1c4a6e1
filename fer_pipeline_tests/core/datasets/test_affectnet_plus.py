import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_pipeline.core.datasets import find_format, open_dataset
from fer_pipeline.core.datasets.base import Role
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.votes import chosen_expression
from fer_pipeline_tests.core.datasets.reading import all_rows, crop_statuses, rows_of
from fer_pipeline_tests.core.datasets.tree_releases import SOFT, affectnet_plus, note, write
from fer_pipeline_tests.core.small_release import built, encoded, noise

NAME = "affectnet-plus"
FIRST = "human_annotated/train_set/annotations/0.json"


def read_one(tmp_path, text):
    """Kept rows of the first annotation, and what became of it else."""
    root = affectnet_plus(tmp_path / "root", train=1, validation=0)
    write(root, FIRST, text)
    return rows_of(NAME, root, tmp_path / "index")


def test_row_has_label_votes_and_what_is_known_of_the_face(tmp_path):
    kept, _ = read_one(tmp_path, note(1))
    row = kept[0]
    assert row["image_path"] == "human_annotated/train_set/images/0.jpg"
    assert (row["expression"], row["valence"], row["arousal"]) == (1, 0.5, None)
    assert row["votes"] == [4, 80, 2, 4, 2, 2, 3, 3, 0, 0]
    assert json.loads(row["attributes"]) == {
        "age": "20-39",
        "gender": "female",
        "pose": "yaw -12, pitch 3, roll 0",
        "race": "asian",
        "subset": "challenging",
    }


@pytest.mark.parametrize(
    ("human", "soft"),
    [
        ("Human-Label", "Soft-Label"),
        ("human_label", "soft_label"),
        ("HUMAN LABEL", "SOFT LABEL"),
        ("humanLabel", "softLabel"),
    ],
)
def test_keys_are_known_in_any_spelling(tmp_path, human, soft):
    text = json.dumps({human: "3", soft: SOFT, "SUBSET": 2, "Metadata": {"Age": "66"}})
    kept, _ = read_one(tmp_path, text)
    assert (kept[0]["expression"], kept[0]["votes"][1]) == (3, 80)
    assert json.loads(kept[0]["attributes"]) == {"age": "40-69", "subset": "difficult"}


def test_annotation_without_a_soft_label_has_no_votes(tmp_path):
    kept, _ = read_one(tmp_path, note(2, None))
    assert (kept[0]["expression"], kept[0]["votes"]) == (2, None)


@pytest.mark.parametrize(
    "soft", [[0.1] * 7, [0.1] * 9, [2] + [0] * 7, [-0.1] * 8, ["x"] * 8, [None] * 8, 3, {}]
)
def test_soft_label_that_is_no_eight_shares_is_rejected(tmp_path, soft):
    _, rejected = read_one(tmp_path, note(1, soft))
    assert [row["reason"] for row in rejected] == ["bad_soft_label"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "damaged_annotation"),
        ("[]", "damaged_annotation"),
        ('{"human-label": 1', "damaged_annotation"),
        ("[" * 100_000, "damaged_annotation"),
        ('{"human-label": ' + "9" * 5000 + "}", "damaged_annotation"),
        ("{}", "no_label"),
        (note(None), "no_label"),
        (note([1]), "no_label"),
        (note(11), "unknown_label"),
        (note(1.5), "unknown_label"),
        (note(True), "unknown_label"),
        (note("\ud800"), "unknown_label"),
        (note(1, valence="much", **{"meta-data": None}), "not_a_number"),
        (note(1, arousal=float("inf"), **{"meta-data": None}), "not_a_number"),
    ],
)
def test_annotation_that_says_nothing_usable_is_rejected(tmp_path, text, reason):
    kept, rejected = read_one(tmp_path, text)
    assert not kept
    assert [row["reason"] for row in rejected] == [reason]
    assert rejected[0]["value"].startswith("human_annotated/train_set/annotations/0: ")


def test_byte_order_mark_is_no_damage(tmp_path):
    kept, _ = read_one(tmp_path, b"\xef\xbb\xbf" + note(4).encode())
    assert kept[0]["expression"] == 4


@pytest.mark.parametrize("key", ["landmark-68", "landmarks", "landmark"])
@pytest.mark.parametrize("value", [[], [1, 2.5], [[1, 2], [3, 4]], {"a": [1]}, "[1]", None])
def test_landmarks_in_any_shape_are_passed_over(tmp_path, key, value):
    said = {key: value, "race": 'a "landmark": [1, 2] b', key + "-2": value, "gender": "female"}
    kept, _ = read_one(tmp_path, note(3, **{"meta-data": said}))
    assert kept[0]["expression"] == 3
    assert json.loads(kept[0]["attributes"]) == {
        "gender": "female",
        "race": 'a "landmark": [1, 2] b',
        "subset": "challenging",
    }


def test_odd_attributes_are_short_texts(tmp_path):
    meta = {"age": 1e9, "gender": {}, "race": "\ud800" * 500, "pose": {"yaw": 1e308, "x": "y"}}
    kept, _ = read_one(tmp_path, note(0, **{"meta-data": meta}))
    said = json.loads(kept[0]["attributes"])
    assert set(said) == {"race", "pose", "subset"}
    assert max(map(len, said.values())) <= 60


@pytest.mark.parametrize("parent", ["", "human_annotated/"])
@pytest.mark.parametrize("names", [("train", "validation"), ("Train_Set", "val_set")])
def test_annotations_beside_the_photos_are_read_too(tmp_path, parent, names):
    root = tmp_path / "root"
    for at, folder in enumerate(names):
        write(root, f"{parent}{folder}/0.json", note(1))
        write(root, f"{parent}{folder}/0.jpg", encoded(noise(at)))
    kept, rejected = rows_of(NAME, root, tmp_path / "index")
    assert not rejected
    assert [(row["list"], row["image_path"]) for row in kept] == [
        ("train", f"{parent}{names[0]}/0.jpg"),
        ("validation", f"{parent}{names[1]}/0.jpg"),
    ]


def test_photo_without_an_annotation_is_rejected_and_the_other_way_round_is_a_row(tmp_path):
    root = affectnet_plus(tmp_path / "root", train=3, validation=0)
    (root / FIRST).unlink()
    (root / "human_annotated/train_set/images/2.jpg").unlink()
    kept, rejected = rows_of(NAME, root, tmp_path / "index")
    assert [row["reason"] for row in rejected] == ["no_label"]
    assert [row["row"] for row in kept] == [2, 3]


def test_annotations_of_the_other_release_are_refused_with_its_name(tmp_path):
    write(tmp_path, "train_set/annotations/0_exp.npy", b"")
    with pytest.raises(InputError, match="--dataset affectnet-2021"):
        open_dataset(NAME, tmp_path)


def test_it_is_recognised_by_its_files_and_only_by_them(tmp_path):
    root = affectnet_plus(tmp_path, train=1, validation=0)
    assert find_format(NAME).recognise(root) == f"it holds {FIRST}"
    assert find_format("affectnet-2021").recognise(root) is None


def test_manifest_takes_soft_labels_as_votes_and_crops_are_whole_pictures(tmp_path):
    root = affectnet_plus(tmp_path / "root")
    write(root, FIRST, note(0, (0.5, 0.5, 0, 0, 0, 0, 0, 0)))
    dataset = open_dataset(NAME, root)
    assert dataset.roles() == {"train": Role.TRAIN, "validation": Role.TEST}
    summary, manifest = built(root, tmp_path / "built", name=NAME, votes=True)
    assert set(chosen_expression(manifest, "votes")) == {1}
    assert summary.left_out["no_majority_vote"] == 1
    assert crop_statuses(dataset, tmp_path) == {"ok": 9}


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=9,
)
_KEYS = st.sampled_from(["human-label", "Soft_Label", "subset", "meta-data", "age", "pose", "race"])


@given(
    said=st.lists(
        st.dictionaries(_KEYS, _VALUES).map(json.dumps)
        | st.binary(max_size=40).map(lambda data: data.decode("latin-1")),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_an_annotation_says_it_is_a_row_kept_or_rejected(tmp_path, said):
    root = tmp_path / "any"
    for old in root.glob("train/*"):
        old.unlink()
    for number, text in enumerate(said):
        write(root, f"train/{number}.json", text)
    kept, rejected = all_rows(open_dataset(NAME, root))
    assert len(kept) + len(rejected) == len(said)
