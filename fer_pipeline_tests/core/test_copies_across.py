"""Copies of a photo in another data set of a mixture, whatever their encoding."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fer_pipeline.core import copies_across, photo_copies
from fer_pipeline.core.bounds import DEFAULT_BOUNDS, Bounds
from fer_pipeline.core.copies_across import pairs_across
from fer_pipeline.core.datasets import open_dataset, open_datasets
from fer_pipeline.core.photo_copies import find_copies
from fer_pipeline_tests.core.parquet_faces import write_split
from fer_pipeline_tests.core.small_release import (
    built,
    encoded,
    line,
    noise,
    write_list,
    write_photo,
)

CLASSES = ("Neutral", "Happiness", "Sadness", "Surprise", "Fear", "Disgust", "Anger")


def resized(pixels, side):
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


def in_other_bytes(pixels):
    """One picture as other data sets hold it: raw pixels, encoded anew, grey, resized."""
    return {
        "pixels": encoded(pixels, "BMP"),
        "jpeg": encoded(pixels, "JPEG", quality=40),
        "grey": encoded(np.asarray(Image.fromarray(pixels).convert("L"))),
        "larger": encoded(resized(pixels, 224), "JPEG", quality=75),
        "smaller": encoded(resized(pixels, 32)),
    }


@pytest.fixture
def release(tmp_path):
    """An AffectNet-like release: five training photos and five of validation."""
    root = tmp_path / "release"
    for name, start in (("manual_train", 0), ("manual_val", 5)):
        numbers = range(start, start + 5)
        write_list(root, name, [line(f"1/{at}.png", expression=at % 4) for at in numbers])
    for at in range(10):
        write_photo(root, f"1/{at}.png", encoded(noise(at, 96, 96)))
    return root


def mixed(release, tmp_path, images, name="train", **more):
    root = tmp_path / "faces"
    write_split(root, name, [3] * len(images), images=images)
    for other, data in more.items():
        write_split(root, other, [3] * len(data), images=data)
    return open_datasets([("affectnet", release), ("hf-parquet", root)])


def manifest_of(dataset, folder, **options):
    summary, table = built(dataset, folder, CLASSES, **options)
    return summary, {(row["source"], row["image_path"]): row for row in table.to_pylist()}


@pytest.mark.parametrize("kind", ["pixels", "jpeg", "grey", "larger", "smaller"])
def test_training_copy_of_a_test_photo_in_other_bytes_is_left_out(release, tmp_path, kind):
    copy = in_other_bytes(noise(7, 96, 96))[kind]
    dataset = mixed(release, tmp_path, [encoded(noise(50, 48, 48)), copy])
    summary, rows = manifest_of(dataset, tmp_path)
    tested, planted = rows["affectnet", "1/7.png"], rows["hf-parquet", "data/train.parquet#1"]
    assert (tested["split"], planted["split"]) == ("test", "excluded")
    assert (planted["reason"], planted["group_id"]) == ("copy_of_test_photo", tested["group_id"])
    assert rows["hf-parquet", "data/train.parquet#0"]["split"] == "train"
    assert (summary.identical_photos, summary.near_copies_across_sets) == (0, 1)
    assert summary.excluded == {"copy_of_test_photo": 1}


def test_training_copy_of_a_dev_photo_in_other_bytes_is_left_out(release, tmp_path):
    given = [encoded(noise(60 + at, 48, 48)) for at in range(3)]
    copy = in_other_bytes(noise(2, 96, 96))["jpeg"]
    dataset = mixed(release, tmp_path, given, validation=[copy], test=[encoded(noise(70, 48, 48))])
    summary, rows = manifest_of(dataset, tmp_path)
    assert rows["hf-parquet", "data/validation.parquet#0"]["split"] == "dev"
    assert rows["affectnet", "1/2.png"]["reason"] == "copy_of_dev_photo"
    assert summary.near_copies_across_sets == 1


def test_the_smallest_key_names_the_group_whatever_the_order_of_the_data_sets(release, tmp_path):
    copies = list(in_other_bytes(noise(3, 96, 96)).values())
    groups = []
    for turned in (False, True):
        dataset = mixed(release, tmp_path, copies)
        if turned:
            dataset = open_datasets([(one.name, one.root) for one in dataset.parts()[::-1]])
        _, rows = manifest_of(dataset, tmp_path / str(turned))
        one = {row["group_id"] for key, row in rows.items() if key[0] == "hf-parquet"}
        groups.append(one | {rows["affectnet", "1/3.png"]["group_id"]})
    alone = open_dataset("affectnet", release).photo_group(("manual_train", "1/3.png"))
    assert groups == [{alone}, {alone}]


def test_other_pictures_and_mirrored_or_cut_ones_keep_their_groups(release, tmp_path):
    pixels = noise(7, 96, 96)
    others = [encoded(pixels[:, ::-1]), encoded(pixels[:60, 30:]), encoded(255 - pixels)]
    dataset = mixed(release, tmp_path, [*others, encoded(noise(90, 96, 96))])
    assert manifest_of(dataset, tmp_path)[0].near_copies_across_sets == 0


def test_flat_damaged_and_refused_photos_are_like_no_other(release, tmp_path):
    flat = encoded(np.full((48, 48, 3), 90, np.uint8))
    write_photo(release, "1/7.png", encoded(np.full((96, 96, 3), 90, np.uint8)))
    write_photo(release, "1/8.png", b"no picture")
    dataset = mixed(
        release, tmp_path, [flat, b"no photo", in_other_bytes(noise(2, 96, 96))["jpeg"]]
    )
    assert manifest_of(dataset, tmp_path)[0].near_copies_across_sets == 1
    small = Bounds(max_pixels=50 * 50)
    summary, _ = manifest_of(dataset, tmp_path / "small", across=small)
    assert summary.near_copies_across_sets == 0


def test_nothing_is_decoded_when_it_is_off_or_a_data_set_is_alone(release, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a photo was looked at")

    monkeypatch.setattr(copies_across, "small_picture", refuse)
    copy = in_other_bytes(noise(7, 96, 96))["jpeg"]
    summary, rows = manifest_of(mixed(release, tmp_path, [copy]), tmp_path, across=None)
    assert summary.near_copies_across_sets == 0
    assert rows["hf-parquet", "data/train.parquet#0"]["split"] == "train"
    alone = open_dataset("affectnet", release)
    assert manifest_of(alone, tmp_path / "alone")[0].near_copies_across_sets == 0


def test_progress_counts_every_photo_once(release, tmp_path):
    told = []
    dataset = mixed(release, tmp_path, [encoded(noise(80 + at, 48, 48)) for at in range(3)])
    manifest_of(dataset, tmp_path, on_compared=lambda done, total: told.append((done, total)))
    assert told[-1] == (13, 13)


def test_a_copy_joins_all_photos_of_a_person(release, tmp_path, monkeypatch):
    dataset = mixed(release, tmp_path, [in_other_bytes(noise(0, 96, 96))["jpeg"]])
    person = {f"1/{at}.png": "person" for at in range(3)}
    first = dataset.parts()[0]
    own = first.photo_group
    monkeypatch.setattr(first, "photo_group", lambda photo: person.get(photo[1]) or own(photo))
    photos = [
        *(("affectnet:manual_train", f"1/{at}.png") for at in range(4)),
        ("hf-parquet:train", "data/train.parquet#0"),
    ]
    found = find_copies(dataset, photos, across=DEFAULT_BOUNDS)
    assert [group == "person" for group in found.group] == [True, True, True, False, True]


def test_groups_are_joined_under_the_smallest_of_their_places():
    group = np.array(["a", "b", "c", "d", "b"], object)
    joined, ended = photo_copies._joined(group, np.array([[3, 4], [2, 3], [1, 2]]))
    assert (joined.tolist(), ended) == (["a", "b", "b", "b", "b"], 2)


def test_real_faces_encoded_anew_are_found_and_other_faces_are_not(real_data, tmp_path):
    files = sorted((real_data / "fer2013" / "data").glob("train*.parquet"))
    column = pq.read_table(files[0], columns=["image"])["image"].slice(0, 4000)
    stored = pa.concat_arrays(column.chunks).field("bytes").to_pylist()
    pixels = [np.asarray(Image.open(io.BytesIO(data)).convert("L")) for data in stored]
    kinds = list(in_other_bytes(np.dstack([pixels[0]] * 3)))
    # The others are pictures of the second half, of which the first has copies of its own.
    known = {picture.tobytes() for picture in pixels[:2000]}
    others = [picture for picture in pixels[2000:] if picture.tobytes() not in known][:1000]
    planted = [
        in_other_bytes(np.dstack([pixels[at]] * 3))[kinds[at % len(kinds)]] for at in range(500)
    ]
    write_split(tmp_path / "a", "train", [0] * 2000, images=stored[:2000], row_group_size=500)
    images = planted + [encoded(picture) for picture in others]
    write_split(tmp_path / "b", "train", [0] * len(images), images=images, row_group_size=500)
    dataset = open_datasets([("hf-parquet", tmp_path / "a"), ("hf-parquet", tmp_path / "b")])
    photos = [
        (name, f"data/train.parquet#{at}")
        for name, count in (("hf-parquet:train", 2000), ("hf-parquet-2:train", len(images)))
        for at in range(count)
    ]
    pairs = {tuple(sorted(pair)) for pair in pairs_across(dataset, photos, DEFAULT_BOUNDS).tolist()}
    wanted = {(at, 2000 + at) for at in range(500)}
    assert len(pairs & wanted) >= 0.99 * len(wanted)
    # Of a thousand other faces about one in a hundred is one photo cut or exposed otherwise.
    assert len({pair for pair in pairs if pair[1] >= 2500}) < 0.02 * len(others)
