import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_pipeline.core.datasets import find_format, open_dataset
from fer_pipeline.core.datasets.rows import dealt_list
from fer_pipeline.core.errors import InputError
from fer_pipeline_tests.core.datasets.reading import all_rows, crop_statuses, rows_of
from fer_pipeline_tests.core.datasets.tree_releases import drawn, fei, write
from fer_pipeline_tests.core.small_release import built, encoded, noise

NAME = "fei"
FOLDER = "frontalimages_manuallyaligned_part1"


def test_a_is_neutral_and_b_is_smiling(tmp_path):
    kept, rejected = rows_of(NAME, fei(tmp_path / "root", persons=11), tmp_path / "index")
    assert not rejected
    found = {row["image_path"]: row["expression"] for row in kept}
    assert len(found) == 22
    assert (found[f"{FOLDER}/1a.jpg"], found[f"{FOLDER}/11b.jpg"]) == (0, 1)


def test_pictures_may_stand_in_the_root_and_in_several_folders(tmp_path):
    fei(tmp_path, persons=1, folder=".")
    write(tmp_path, "part2/101a.PNG", encoded(noise(9)))
    kept, _ = all_rows(open_dataset(NAME, tmp_path))
    paths = {row["image_path"] for row in kept}
    assert paths == {"1a.jpg", "1b.jpg", "part2/101a.PNG"}


def test_person_is_the_same_in_every_folder_and_with_leading_zeros(tmp_path):
    fei(tmp_path, persons=1)
    write(tmp_path, "equalised/001b.png", b"")
    dataset = open_dataset(NAME, tmp_path)
    kept, _ = all_rows(dataset)
    assert len({dataset.photo_group((row["list"], row["image_path"])) for row in kept}) == 1
    assert len({row["list"] for row in kept}) == 1


def test_home_in_the_root_and_a_link_to_itself_are_no_part_of_the_data(tmp_path):
    root = fei(tmp_path, persons=1)
    places = open_dataset(NAME, root).lists()
    for name in ("run.lock", "settings.toml", "sheet.png"):
        write(root, f"fer-home/{name}", b"")
    (root / "loop").symlink_to("loop")
    assert open_dataset(NAME, root).lists() == places
    assert len(all_rows(open_dataset(NAME, root))[0]) == 2


def test_picture_with_another_name_is_rejected(tmp_path):
    root = fei(tmp_path / "root", persons=1)
    for name in ("1c.jpg", "1-11.jpg", "mean.png", "0a.jpg", "\u0661a.jpg"):
        write(root, f"{FOLDER}/{name}", b"")
    for name in ("Thumbs.db", "._2a.jpg", "1.txt"):
        write(root, f"{FOLDER}/{name}", b"")
    _, rejected = rows_of(NAME, root, tmp_path / "index")
    assert [row["reason"] for row in rejected] == ["unknown_name"] * 5


def test_the_other_set_of_fei_is_refused_in_a_sentence(tmp_path):
    write(tmp_path, "1-11.jpg", b"")
    with pytest.raises(InputError, match=r"1-01\.jpg to 1-14\.jpg are FEI's other set"):
        open_dataset(NAME, tmp_path)


def test_it_is_recognised_by_a_pair_and_not_by_one_picture(tmp_path):
    write(tmp_path, f"{FOLDER}/3b.jpg", b"")
    assert find_format(NAME).recognise(tmp_path) is None
    write(tmp_path, f"{FOLDER}/3a.jpg", b"")
    found = find_format(NAME).recognise(tmp_path)
    assert found == f"it holds {FOLDER}/3a.jpg and {FOLDER}/3b.jpg"


def test_no_person_is_on_two_sides_of_the_manifest(tmp_path):
    root = fei(tmp_path / "root", persons=20)
    _, manifest = built(root, tmp_path / "built", name=NAME, dev_share=0.3)
    sides = {}
    for row in manifest.to_pylist():
        sides.setdefault(row["image_path"][:-5], set()).add(row["split"])
    assert len(sides) == 20
    assert all(len(found) == 1 for found in sides.values())
    assert {side for found in sides.values() for side in found} == {"train", "dev", "test"}


def test_every_picture_has_a_crop_where_the_detector_finds_the_face(tmp_path):
    root = tmp_path / "root"
    for list_name in ("train", "test"):
        person = next(n for n in range(1, 99) if dealt_list(str(n)) == list_name)
        for letter, expression in (("a", "Neutral"), ("b", "Happiness")):
            write(root, f"{person}{letter}.png", drawn(person, expression))
    assert crop_statuses(open_dataset(NAME, root), tmp_path) == {"ok": 4}


_NAMES = st.builds(
    "{}{}.{}".format,
    st.text("0123456789", max_size=3),
    st.sampled_from(["", "a", "b", "c", "A", "B", "-"]),
    st.sampled_from(["jpg", "PNG", "txt"]),
)


@given(names=st.sets(st.tuples(st.sampled_from(["", "part1/", "x/"]), _NAMES), max_size=14))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pictures_of_any_tree_are_kept_or_rejected_and_all_are_counted(tmp_path_factory, names):
    root = fei(tmp_path_factory.mktemp("any"), persons=1)
    for folder, name in names:
        write(root, f"{folder}{name}", b"")
    kept, _ = all_rows(open_dataset(NAME, root))
    assert len(kept) >= 2
