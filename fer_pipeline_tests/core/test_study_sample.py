from collections import Counter
from itertools import pairwise

import pytest

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.study_sample import draw_people, draw_suspects
from fer_pipeline_tests.core.small_study import CLASSES, even_manifest, manifest_of


def _drawn(manifest, *, usable=None, per_class=5, repeat_share=0.0, seed=0, classes=CLASSES):
    faces = set(manifest["face_id"].to_pylist()) if usable is None else usable
    return draw_people(
        manifest,
        faces,
        classes,
        "listed",
        per_class=per_class,
        repeat_share=repeat_share,
        seed=seed,
    )


def _faces(sample):
    return sample.items["face_id"].to_pylist()


def test_each_class_gives_as_many_faces():
    sample = _drawn(even_manifest(20))
    assert Counter(sample.items["expression"].to_pylist()) == dict.fromkeys(CLASSES, 5)
    assert sample.items["item"].to_pylist() == list(range(15))
    assert (sample.shortfall, sample.left_out) == ({}, 0)


def test_test_faces_come_first_then_dev_then_train_and_excluded_ones_never():
    faces = [
        ("Happiness", split, f"{split}-{at}")
        for split, count in (("excluded", 9), ("train", 9), ("dev", 2), ("test", 3))
        for at in range(count)
    ]
    sample = _drawn(manifest_of(faces), per_class=8, classes=("Happiness",))
    assert Counter(sample.items["split"].to_pylist()) == {"test": 3, "dev": 2, "train": 3}


def test_a_class_with_fewer_faces_gives_all_it_has_and_says_so():
    faces = [("Happiness", "test", f"h{at}") for at in range(9)] + [("Sadness", "train", "s")]
    sample = _drawn(manifest_of(faces), per_class=4)
    assert Counter(sample.items["expression"].to_pylist()) == {"Happiness": 4, "Sadness": 1}
    assert sample.shortfall == {"Sadness": 3, "Surprise": 4}


def test_copies_of_one_photo_are_shown_once_and_the_rarest_class_chooses_first():
    faces = [("Happiness", "test", f"group {at}") for at in range(6)]
    faces += [("Sadness", "test", "group 0"), ("Sadness", "test", "group 1")]
    sample = _drawn(manifest_of(faces), per_class=6)
    groups = sample.items["group_id"].to_pylist()
    assert len(groups) == len(set(groups)) == 6
    assert Counter(sample.items["expression"].to_pylist()) == {"Happiness": 4, "Sadness": 2}


def test_faces_without_a_crop_are_not_drawn():
    manifest = even_manifest(10)
    usable = set(manifest["face_id"].to_pylist()[:9])
    assert set(_faces(_drawn(manifest, usable=usable))) == usable


def test_the_same_seed_draws_the_same_faces_whatever_the_order_of_the_rows():
    manifest = even_manifest(30)
    again = manifest.take(list(range(manifest.num_rows))[::-1])
    assert _faces(_drawn(manifest)) == _faces(_drawn(again))
    assert set(_faces(_drawn(manifest))) != set(_faces(_drawn(manifest, seed=1)))


def test_what_is_drawn_of_a_class_stays_when_other_faces_are_added():
    few = even_manifest(30).slice(0, 60)
    before, after = _faces(_drawn(few)), _faces(_drawn(even_manifest(30)))
    assert len(set(before) & set(after)) >= 5


def test_the_order_of_the_items_does_not_tell_the_class():
    labels = _drawn(even_manifest(200), per_class=200).items["expression"].to_pylist()
    same = sum(one == other for one, other in pairwise(labels))
    assert 0.25 < same / len(labels) < 0.42


@pytest.mark.parametrize(
    ("per_class", "share", "expected"),
    [(20, 0.05, 3), (4, 0.01, 1), (3, 0.05, 0), (40, 0.1, 12), (5, 1.0, 15), (40, 0.0, 0)],
)
def test_repeats_are_dealt_evenly_to_the_classes(per_class, share, expected):
    items = _drawn(even_manifest(40), per_class=per_class, repeat_share=share).items
    repeats = items.filter(items["repeat_of"].is_valid())
    assert repeats.num_rows == expected
    assert repeats["item"].to_pylist() == list(range(items.num_rows - expected, items.num_rows))
    faces = items["face_id"].to_pylist()
    firsts = repeats["repeat_of"].to_pylist()
    assert [faces[first] for first in firsts] == repeats["face_id"].to_pylist()
    assert len(set(firsts)) == expected
    dealt = Counter(repeats["expression"].to_pylist())
    assert max(dealt.values(), default=0) - min(dealt[name] for name in CLASSES) <= 1


def test_a_stream_without_a_face_is_wrong_input():
    with pytest.raises(InputError, match="Happiness, Sadness, Surprise"):
        _drawn(even_manifest(3), usable=set())


def _suspected(manifest, faces, count):
    return draw_suspects(manifest, faces, CLASSES, "listed", count=count, repeat_share=0.0, seed=0)


def test_suspects_are_the_first_of_the_ranking():
    manifest = even_manifest(10)
    ranked = manifest["face_id"].to_pylist()[::-1]
    sample = _suspected(manifest, ranked, 7)
    assert set(_faces(sample)) == set(ranked[:7])
    assert _faces(sample) != ranked[:7]


def test_suspects_that_are_gone_or_excluded_are_counted_and_passed_over():
    manifest = manifest_of(
        [("Happiness", "train", "a"), ("Anger", "train", "b"), ("Sadness", "excluded", "c")]
    )
    ids = manifest["face_id"].to_pylist()
    sample = _suspected(manifest, ["f" * 16, *ids[::-1], ids[0]], 5)
    assert _faces(sample) == ids[:1]
    assert sample.left_out == 3
    with pytest.raises(InputError, match="find the suspects again"):
        _suspected(manifest, ["f" * 16], 5)
