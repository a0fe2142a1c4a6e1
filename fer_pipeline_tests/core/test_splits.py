import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_pipeline.core.datasets.base import Role
from fer_pipeline.core.splits import CONFLICT_WEIGHT, deal, groups_on_two_sides

ROLES = {"train": Role.TRAIN, "val": Role.TEST, "auto": Role.TRAIN_ONLY}
GIVEN = {"train": Role.TRAIN, "val": Role.DEV, "test": Role.TEST}


def _deal(lists, groups, conflicting=(), roles=ROLES, dev_share=0.2, seed=0):
    return deal(
        np.array(lists, dtype=object),
        np.array(groups, dtype=object),
        np.array(conflicting or [False] * len(lists), dtype=bool),
        roles,
        dev_share=dev_share,
        seed=seed,
    )


def _groups(count, start=0):
    return [f"group{number}" for number in range(start, start + count)]


def test_test_list_is_the_test_split_and_the_automatic_list_only_trains():
    dealt = _deal(["val", "auto"] * 50, _groups(100))
    assert dealt.split.tolist() == ["test", "train"] * 50


def test_dev_share_is_roughly_kept_and_seed_deals_anew():
    lists, groups = ["train"] * 4000, _groups(4000)
    dealt = _deal(lists, groups, dev_share=0.15)
    assert 0.13 < (dealt.split == "dev").mean() < 0.17
    assert set(dealt.split) == {"train", "dev"}
    other = _deal(lists, groups, dev_share=0.15, seed=1)
    assert (dealt.split != other.split).any()
    assert (dealt.split == _deal(lists, groups, dev_share=0.15).split).all()


def test_deal_of_a_group_stays_when_the_data_grows():
    groups = _groups(500)
    small = _deal(["train"] * 500, groups)
    mixed = [*_groups(700, start=500), *groups[::-1]]
    large = _deal(["train"] * 1200, mixed)
    sides = dict(zip(mixed, large.split, strict=True))
    assert [sides[group] for group in groups] == small.split.tolist()


def test_copies_of_a_test_photo_are_excluded_with_that_reason():
    dealt = _deal(["val", "train", "auto", "train"], ["a", "a", "a", "b"], dev_share=0)
    assert dealt.split.tolist() == ["test", "excluded", "excluded", "train"]
    assert dealt.reason.tolist() == ["", "copy_of_test_photo", "copy_of_test_photo", ""]


def test_automatic_copies_of_a_dev_photo_are_excluded_with_that_reason():
    dealt = _deal(["train", "auto"], ["a", "a"], dev_share=1)
    assert dealt.split.tolist() == ["dev", "excluded"]
    assert dealt.reason.tolist() == ["", "copy_of_dev_photo"]


def test_given_dev_list_is_dev_and_nothing_is_carved():
    lists = ["train"] * 50 + ["val"] * 5 + ["test"] * 5
    dealt = _deal(lists, _groups(60), roles=GIVEN, dev_share=0.9)
    assert dealt.split.tolist() == ["train"] * 50 + ["dev"] * 5 + ["test"] * 5


def test_copy_in_all_three_given_lists_stands_in_test_alone():
    dealt = _deal(["train", "val", "test"], ["a"] * 3, roles=GIVEN)
    assert dealt.split.tolist() == ["excluded", "excluded", "test"]
    assert dealt.reason[1] == "copy_of_test_photo"


def test_conflicting_faces_train_with_less_weight_and_stay_out_of_dev_and_test():
    dealt = _deal(["train", "val", "auto"], ["a", "b", "c"], [True] * 3, dev_share=0)
    assert dealt.split.tolist() == ["train", "excluded", "train"]
    assert dealt.reason.tolist() == ["", "conflicting_label", ""]
    assert dealt.weight.tolist() == [CONFLICT_WEIGHT] * 3
    dealt = _deal(["train", "train"], ["a", "b"], [True, False], dev_share=1)
    assert dealt.split.tolist() == ["excluded", "dev"]
    assert dealt.weight.tolist() == [CONFLICT_WEIGHT, 1.0]


def test_nothing_to_deal_is_no_error():
    assert len(_deal([], []).split) == 0


def test_group_on_two_sides_is_found_and_an_excluded_copy_is_none():
    groups = np.array(["a", "a", "b", "b", "c", "c"], dtype=object)
    split = np.array(["train", "dev", "test", "excluded", "train", "train"], dtype=object)
    assert groups_on_two_sides(groups, split) == ["a"]


@given(
    faces=st.lists(
        st.tuples(st.sampled_from(["train", "val", "x"]), st.integers(0, 12), st.booleans()),
        max_size=60,
    ),
    roles=st.sampled_from([{**ROLES, "x": Role.TRAIN_ONLY}, {**GIVEN, "x": Role.TEST}]),
    dev_share=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 5),
)
@settings(max_examples=150)
def test_no_group_ever_stands_on_two_sides(faces, roles, dev_share, seed):
    lists = [name for name, _, _ in faces]
    groups = [str(group) for _, group, _ in faces]
    conflicting = [flag for _, _, flag in faces]
    dealt = _deal(lists, groups, conflicting, roles, dev_share, seed)
    assert groups_on_two_sides(np.array(groups, dtype=object), dealt.split) == []
    for (name, _, flag), split, reason in zip(faces, dealt.split, dealt.reason, strict=True):
        assert (split == "excluded") == (reason != "")
        assert not (flag and split in ("dev", "test"))
        if split == "test":
            assert roles[name] == Role.TEST
        if roles[name] == Role.TEST:
            assert split in ("test", "excluded")


@pytest.mark.parametrize("dev_share", [0.0, 1.0])
def test_share_of_none_and_of_all_are_kept_exactly(dev_share):
    split = _deal(["train"] * 100, _groups(100), dev_share=dev_share).split
    assert (split == "dev").mean() == dev_share


def test_dev_is_carved_of_the_named_lists_beside_a_given_dev_list():
    roles = {"a:train": Role.TRAIN, "b:train": Role.TRAIN, "b:val": Role.DEV, "b:test": Role.TEST}
    lists = ["a:train"] * 400 + ["b:train"] * 400 + ["b:val"] * 100 + ["b:test"] * 100
    dealt = deal(
        np.array(lists, dtype=object),
        np.array(_groups(1000), dtype=object),
        np.zeros(1000, bool),
        roles,
        dev_share=0.2,
        seed=0,
        carved={"a:train"},
    )
    alone = _deal(["a:train"] * 400, _groups(400), roles={"a:train": Role.TRAIN})
    assert dealt.split[:400].tolist() == alone.split.tolist()
    assert 0.15 < (dealt.split[:400] == "dev").mean() < 0.25
    assert dealt.split[400:].tolist() == ["train"] * 400 + ["dev"] * 100 + ["test"] * 100


def test_copy_of_a_given_dev_photo_is_excluded_and_not_drawn_as_dev():
    roles = {"a:train": Role.TRAIN, "b:val": Role.DEV}
    dealt = deal(
        np.array(["a:train", "b:val"] * 50, dtype=object),
        np.repeat(np.array(_groups(50), dtype=object), 2),
        np.zeros(100, bool),
        roles,
        dev_share=0.99,
        seed=0,
        carved={"a:train"},
    )
    assert dealt.split.tolist() == ["excluded", "dev"] * 50
    assert set(dealt.reason[::2]) == {"copy_of_dev_photo"}
