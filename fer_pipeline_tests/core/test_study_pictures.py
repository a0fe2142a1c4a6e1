import io

import numpy as np
import pytest
from PIL import Image

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.crop_set import publish_crop_set
from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.study import picture, study_path
from fer_pipeline.core.study_making import make_study, suspected_faces
from fer_pipeline.core.study_pictures import crop_boxes, study_pictures, usable_faces
from fer_pipeline_tests.core.crop_work import CLASSES, SETTINGS, Made
from fer_pipeline_tests.core.parquet_faces import write_split
from fer_pipeline_tests.core.small_release import MANUAL_PHOTOS, encoded, line, noise, write_list
from fer_pipeline_tests.core.small_release import write_photo as write


def _shown(data):
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    assert not image.getexif()
    assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    return np.asarray(image.convert("RGB")).astype(int)


def _shards(made, folder, settings=SETTINGS):
    return [folder / shard.file_name for shard in made.write(folder, settings)]


def _one_photo(tmp_path, data, box, name="1/a.png"):
    """The pictures of one face in a release of its own."""
    root = tmp_path / "release"
    write_list(root, "manual_train", [line("9/other.png", box)])
    write_list(root, "manual_val", [line(name, box)])
    write(root, name, data)
    made = Made(open_dataset("affectnet", root), tmp_path, ("Happiness",))
    shards = _shards(made, tmp_path / "crops")
    items = made.manifest.filter(_is(made.manifest, "split", "test"))
    boxes = crop_boxes(shards, items["face_id"].to_pylist())
    return next(study_pictures(made.dataset, items, boxes, SETTINGS))


def _is(table, column, value):
    return [one == value for one in table[column].to_pylist()]


def _frame_box(pixels):
    """The outer sides of the dark lines on a white photo: left, top, right, bottom."""
    dark = (pixels < 80).all(axis=2)
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def test_the_face_is_framed_in_two_colours_and_stays_free(tmp_path):
    photo, _ = _one_photo(tmp_path, encoded(np.full((400, 600, 3), 255, np.uint8)),
                          (200, 100, 120, 150))  # fmt: skip
    pixels = _shown(photo)
    assert pixels.shape == (400, 600, 3)
    left, top, right, bottom = _frame_box(pixels)
    assert left < 200
    assert top < 100
    assert right > 320
    assert bottom > 250
    assert min(left - 180, top - 80, 340 - right, 270 - bottom) > 0
    assert (pixels[105:245, 205:315] > 240).all()
    yellow = (pixels[..., 0] > 200) & (pixels[..., 2] < 120)
    assert yellow[top:bottom, left:right].any()
    assert not yellow[110:240, 210:310].any()


def test_a_large_photo_is_shrunk_and_its_frame_with_it(tmp_path):
    photo, _ = _one_photo(tmp_path, encoded(np.full((1200, 2400, 3), 255, np.uint8)),
                          (800, 400, 400, 400))  # fmt: skip
    pixels = _shown(photo)
    assert pixels.shape == (450, 900, 3)
    left, top, right, bottom = _frame_box(pixels)
    middle = (left + right) / 2, (top + bottom) / 2
    assert middle == pytest.approx((375, 225), abs=1.5)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_photo_is_shown_upright_with_its_frame_in_place(tmp_path, orientation):
    upright = np.full((240, 320, 3), 255, np.uint8)
    upright[60:120, 40:100] = (40, 90, 200)
    stored = np.ascontiguousarray(np.rot90(upright, {1: 0, 3: 2, 6: 1, 8: 3}[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, "JPEG", quality=95, exif=exif.tobytes())
    photo, crop = _one_photo(tmp_path, data, (40, 60, 60, 60), "1/a.jpg")
    pixels = _shown(photo)
    assert pixels.shape == (240, 320, 3)
    left, top, right, bottom = _frame_box(pixels)
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((70, 90), abs=2)
    assert np.abs(_shown(crop)[192, 192] - (40, 90, 200)).max() < 12


def test_a_box_at_the_edge_keeps_all_four_sides_of_its_frame(tmp_path):
    photo, _ = _one_photo(tmp_path, encoded(np.full((200, 300, 3), 255, np.uint8)),
                          (-20, -30, 340, 260))  # fmt: skip
    pixels = _shown(photo)
    for side in (pixels[:8].min(axis=0), pixels[-8:].min(axis=0),
                 pixels[:, :8].min(axis=1), pixels[:, -8:].min(axis=1)):  # fmt: skip
        assert (side.max(axis=1) < 120).mean() > 0.9


def test_the_crop_is_the_face_in_colour_with_its_margin(tmp_path):
    pixels = np.full((300, 300, 3), 255, np.uint8)
    pixels[100:200, 100:200] = (200, 40, 40)
    _, crop = _one_photo(tmp_path, encoded(pixels), (100, 100, 100, 100))
    shown = _shown(crop)
    assert shown.shape == (384, 384, 3)
    margin = 384 * SETTINGS.margin / (1 + 2 * SETTINGS.margin)
    row = np.flatnonzero(shown[192, :, 1] < 150)
    assert (row[0], row[-1]) == pytest.approx((margin, 384 - margin), abs=3)


def test_repeats_show_the_very_picture_again_and_read_no_photo_twice(made, tmp_path, monkeypatch):
    _made_study(made, tmp_path)
    asked = []
    read = type(made.dataset).read_photos

    def counting(dataset, photos, max_bytes=None):
        asked.extend(photos)
        return read(dataset, photos, max_bytes=max_bytes)

    monkeypatch.setattr(type(made.dataset), "read_photos", counting)
    path = study_path(tmp_path / "again", "mood", "people")
    again, _ = _made_study(made, tmp_path, path=path, repeat_share=0.5)
    assert len(asked) == len(set(asked)) < len(again)
    for item, first in enumerate(again.items["repeat_of"].to_pylist()):
        if first is not None:
            assert picture(path, item, whole=True) == picture(path, first, whole=True)
            assert picture(path, item, whole=False) == picture(path, first, whole=False)


def test_each_item_shows_its_own_photo(made, tmp_path):
    study, sample = _made_study(made, tmp_path)
    for item, name in enumerate(study.items["image_path"].to_pylist()):
        number = int(name.split("/")[1].removesuffix(".png"))
        photo = _shown(picture(study.path, item, whole=True))
        inside = np.abs(photo[20:80, 30:80] - noise(number)[20:80, 30:80])
        assert np.median(inside) < 6
    assert sample.items.equals(study.items)


def _made_study(made, tmp_path, path=None, **given):
    shards = made.write(tmp_path / "crops")
    publish_crop_set(tmp_path / "crops", made.manifest_folder, SETTINGS, shards)
    return make_study(
        path or study_path(tmp_path / "studies", "mood", "people"),
        made.dataset,
        made.manifest_folder,
        tmp_path / "crops",
        stream="mood",
        classes=CLASSES,
        label_source="listed",
        per_class=3,
        seed=0,
        **{"repeat_share": 0.0, **given},
    )


def test_what_is_done_is_told_photo_by_photo(made, tmp_path):
    told = []
    _made_study(made, tmp_path, on_photo=lambda done, total: told.append((done, total)))
    assert told == [(done, len(told)) for done in range(1, len(told) + 1)]


def test_a_photo_that_went_away_since_it_was_cropped_is_named(made, tmp_path):
    shards = _shards(made, tmp_path / "crops")
    items = made.manifest.slice(0, 3)
    boxes = crop_boxes(shards, items["face_id"].to_pylist())
    gone = items["image_path"][1].as_py()
    (made.dataset.root / MANUAL_PHOTOS / gone).unlink()
    with pytest.raises(InputError, match=rf"{gone} \(.*\) had a face crop.*no such photo"):
        list(study_pictures(made.dataset, items, boxes, SETTINGS))


def test_only_faces_with_a_crop_are_usable(made, tmp_path):
    (made.dataset.root / MANUAL_PHOTOS / made.manifest["image_path"][0].as_py()).unlink()
    shards = _shards(made, tmp_path / "crops")
    ids = made.manifest["face_id"].to_pylist()
    assert usable_faces(shards) == set(ids[1:])
    with pytest.raises(InputError, match=f"face {ids[0]} and 0 more"):
        crop_boxes(shards, ids)


def test_pictures_that_are_faces_already_are_enlarged(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (48, 48)).astype(np.uint8)
    root = tmp_path / "faces"
    write_split(root, "train", [3], images=[encoded(grey)])
    write_split(root, "validation", [3], images=[encoded(255 - grey)])
    dataset = open_dataset("hf-parquet", root)
    made = Made(dataset, tmp_path, ("Happiness",))
    settings = CropSettings(side=24, detect="whole")
    shards = _shards(made, tmp_path / "crops", settings)
    items = made.manifest
    boxes = crop_boxes(shards, items["face_id"].to_pylist())
    for photo, crop in study_pictures(dataset, items, boxes, settings):
        assert photo == crop
        assert _shown(photo).shape == (384, 384, 3)


def test_suspects_are_shown_by_rank_and_say_what_they_are(made, tmp_path):
    ids = made.manifest["face_id"].to_pylist()
    table = tmp_path / "label_issues.csv"
    table.write_text("rank,face_id\n" + "".join(f"{at},{face}\n" for at, face in enumerate(ids)))
    study, _ = _made_study(made, tmp_path, suspects=suspected_faces(table))
    assert study.kind == "suspects"
    assert set(study.items["face_id"].to_pylist()) == set(ids[:3])


@pytest.mark.parametrize("content", [None, b"", b"rank\n1\n", b"\xff\xfe", b'face_id\n"open'])
def test_a_table_of_suspects_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "label_issues.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"label_issues\.csv .*materialize"):
        suspected_faces(path)
