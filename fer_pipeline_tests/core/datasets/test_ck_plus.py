import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_pipeline.core.datasets import find_format, open_dataset
from fer_pipeline.core.datasets.rows import dealt_list
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.index import lists_digest
from fer_pipeline_tests.core.datasets.reading import all_rows, crop_statuses, rows_of
from fer_pipeline_tests.core.datasets.tree_releases import ck_plus, drawn, sequence, write
from fer_pipeline_tests.core.small_release import built

NAME = "ck-plus"


def frames_of(rows):
    """Frame numbers and expressions, by number."""
    return sorted((int(row["image_path"][-12:-4]), row["expression"]) for row in rows)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ("peak", [(5, 1)]),
        ("peak+neutral", [(1, 0), (5, 1)]),
        ("last3", [(3, 1), (4, 1), (5, 1)]),
        ("last3+neutral", [(1, 0), (3, 1), (4, 1), (5, 1)]),
    ],
)
def test_frames_of_a_labelled_sequence_are_as_chosen(tmp_path, frames, expected):
    sequence(tmp_path / "root", "S005", "001", frames=5, label=5)
    kept, _ = rows_of(NAME, tmp_path / "root", tmp_path / "index", frames=frames)
    assert frames_of(kept) == expected


def test_the_default_is_the_last_frame_and_the_first_as_neutral(tmp_path):
    sequence(tmp_path / "root", "S005", "001", frames=11, label=7)
    kept, _ = rows_of(NAME, tmp_path / "root", tmp_path / "index")
    assert frames_of(kept) == [(1, 0), (11, 3)]


@pytest.mark.parametrize("frames", ["peak+neutral", "last3+neutral"])
def test_frame_of_a_short_sequence_is_no_neutral_and_peak_at_once(tmp_path, frames):
    sequence(tmp_path / "root", "S005", "001", frames=1, label=5)
    kept, _ = rows_of(NAME, tmp_path / "root", tmp_path / "index", frames=frames)
    assert frames_of(kept) == [(1, 1)]


@pytest.mark.parametrize(
    ("number", "code"), [(0, 0), (1, 6), (2, 7), (3, 5), (4, 4), (5, 1), (6, 2), (7, 3)]
)
def test_its_numbers_are_not_affectnets(tmp_path, number, code):
    sequence(tmp_path / "root", "S005", "001", label=number)
    kept, _ = rows_of(NAME, tmp_path / "root", tmp_path / "index", frames="peak")
    assert kept[0]["expression"] == code


def test_unlabelled_sequences_are_counted_as_rejected_rows(tmp_path):
    root = ck_plus(tmp_path / "root", subjects=3)
    (root / "Emotion/S006/002").rmdir()
    kept, rejected = rows_of(NAME, root, tmp_path / "index")
    assert len(kept) == 6
    assert sorted((row["reason"], row["value"]) for row in rejected) == [
        ("no_label", f"cohn-kanade-images/S00{at}/002") for at in (5, 6, 7)
    ]


def test_label_without_frames_is_a_rejected_row(tmp_path):
    root = ck_plus(tmp_path / "root", subjects=1)
    write(root, "Emotion/S999/001/S999_001_00000003_emotion.txt", "1.0")
    _, rejected = rows_of(NAME, root, tmp_path / "index")
    assert ("no_frames", "cohn-kanade-images/S999/001") in {
        (row["reason"], row["value"]) for row in rejected
    }
    before = lists_digest(open_dataset(NAME, root))
    write(root, "cohn-kanade-images/S999/001/S999_001_00000003.png", b"x")
    assert lists_digest(open_dataset(NAME, root)) != before


@pytest.mark.parametrize(
    ("label", "reason"),
    [("", "no_label"), ("8.0", "unknown_label"), ("3.5", "unknown_label"), ("?", "unknown_label")],
)
def test_label_that_means_nothing_rejects_the_peak(tmp_path, label, reason):
    sequence(tmp_path / "root", "S005", "001", label=label)
    _, rejected = rows_of(NAME, tmp_path / "root", tmp_path / "index", frames="peak")
    assert [row["reason"] for row in rejected] == [reason]


def test_sequence_with_two_labels_or_without_its_peak_is_rejected(tmp_path):
    root = ck_plus(tmp_path / "root", subjects=2)
    write(root, "Emotion/S005/001/S005_001_00000003_emotion.txt", "1.0")
    (root / "cohn-kanade-images/S006/001/S006_001_00000004.png").unlink()
    _, rejected = rows_of(NAME, root, tmp_path / "index", frames="peak")
    reasons = {row["reason"] for row in rejected}
    assert reasons == {"no_label", "two_labels", "no_peak_frame"}


def test_hidden_files_are_neither_frames_nor_subjects(tmp_path):
    root = ck_plus(tmp_path / "root", subjects=1)
    for path in (".DS_Store", "S005/.DS_Store", "S005/001/.DS_Store", "S005/001/._x.png", "a.txt"):
        write(root, f"cohn-kanade-images/{path}", b"x")
    write(root, "Emotion/S005/002/._S005_002_00000004_emotion.txt", b"x")
    kept, rejected = rows_of(NAME, root, tmp_path / "index")
    assert (len(kept), len(rejected)) == (2, 1)


def test_lists_change_with_frames_and_labels(tmp_path):
    root = ck_plus(tmp_path, subjects=2)
    places = {str(place.relative_to(root)) for place in open_dataset(NAME, root).lists()["train"]}
    assert "cohn-kanade-images/S005/002" in places
    assert "Emotion/S006/001/S006_001_00000004_emotion.txt" in places


@pytest.mark.parametrize(
    ("images", "emotion"),
    [("extended-cohn-kanade-images/cohn-kanade-images", "Emotion_labels/Emotion")],
)
def test_folders_are_found_in_those_of_their_archives(tmp_path, images, emotion):
    write(tmp_path, f"{images}/S005/001/S005_001_00000001.png", b"")
    write(tmp_path, f"{emotion}/S005/001/S005_001_00000001_emotion.txt", "1")
    kept, _ = all_rows(open_dataset(NAME, tmp_path))
    assert kept[0]["image_path"] == f"{images}/S005/001/S005_001_00000001.png"
    assert find_format(NAME).recognise(tmp_path) == f"it holds {images} and {emotion}"


def test_images_without_labels_and_unknown_frames_are_input_errors(tmp_path):
    root = ck_plus(tmp_path, subjects=1)
    with pytest.raises(InputError, match="choose one of peak, peak"):
        open_dataset(NAME, root, None, {"ck-plus.frames": "all"})
    (root / "Emotion").rename(root / "Emotions")
    with pytest.raises(InputError, match="has no folder Emotion: give --root"):
        open_dataset(NAME, root)


def test_no_person_is_on_two_sides_of_the_manifest(tmp_path):
    _, manifest = built(ck_plus(tmp_path / "root"), tmp_path / "built", name=NAME, dev_share=0.3)
    sides = {}
    for row in manifest.to_pylist():
        sides.setdefault(row["image_path"].split("/")[1], set()).add(row["split"])
    assert all(len(found) == 1 for found in sides.values())
    assert {side for found in sides.values() for side in found} == {"train", "dev", "test"}


def test_every_frame_has_a_crop_where_the_detector_finds_the_face(tmp_path):
    sides = {dealt_list(f"S{at:03d}"): f"S{at:03d}" for at in range(5, 30)}
    for at, subject in enumerate(sides.values()):
        picture = drawn(at, "Happiness")
        sequence(tmp_path / "root", subject, "001", 1, label=5, picture=picture)
    dataset = open_dataset(NAME, tmp_path / "root")
    assert crop_statuses(dataset, tmp_path) == {"ok": 2}


_NAMES = st.sampled_from(["S005", "S010", ".x", "a b"])
_FILES = st.sampled_from(["_1.png", "_2.PNG", "_2_emotion.txt", "_1_emotion.txt", "x", "._1.png"])


@given(
    files=st.sets(st.tuples(st.booleans(), _NAMES, _NAMES, _FILES), max_size=14),
    label=st.binary(max_size=8) | st.sampled_from([b"1.0", b"  5.0e+00\n"]),
    frames=st.sampled_from(["peak", "peak+neutral", "last3", "last3+neutral"]),
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_frames_of_any_tree_are_kept_or_rejected_and_all_are_counted(
    tmp_path_factory, files, label, frames
):
    root = tmp_path_factory.mktemp("any")
    ck_plus(root, subjects=1)
    for is_frame, subject, number, ending in files:
        top = "cohn-kanade-images" if is_frame else "Emotion"
        write(root, f"{top}/{subject}/{number}/x{ending}", label)
    kept, _ = all_rows(open_dataset(NAME, root, None, {"ck-plus.frames": frames}))
    assert kept
