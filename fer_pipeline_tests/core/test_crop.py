import io
import time
import warnings
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from fer_pipeline.core.crop import CropSettings, Status, prepare_face, prepare_image
from fer_pipeline.core.drawing import draw_group
from fer_pipeline_tests.core.small_release import encoded, noise

RGB = CropSettings(side=100, colour="rgb", margin=0.125)
"""80 pixels and an eighth on each side make 100: nothing is resized."""


def _painted(x=150, y=60, width=80, height=80, shape=(200, 300)):
    """A dark picture with a white rectangle where the box is."""
    image = np.full((*shape, 3), 40, np.uint8)
    image[y : y + height, x : x + width] = 255
    return image


def test_painted_square_lands_centred_with_the_margin_around_it():
    face = prepare_image(_painted(), (150, 60, 80, 80), RGB)
    expected = np.full((100, 100, 3), 40, np.uint8)
    expected[10:90, 10:90] = 255
    assert face.status is Status.OK
    assert np.array_equal(face.crop, expected)
    assert face.box == (150, 60, 80, 80)
    assert (face.score, face.iou) == (None, None)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [((150, 60, 80, 40), (30, 70), (10, 90)), ((150, 60, 40, 80), (10, 90), (30, 70))],
)
def test_crop_of_a_long_box_is_a_square_around_its_middle_and_axes_are_not_swapped(
    box, rows, columns
):
    face = prepare_image(_painted(*box), box, RGB)
    white = np.argwhere(face.crop[:, :, 0] == 255)
    assert white.min(axis=0).tolist() == [rows[0], columns[0]]
    assert (white.max(axis=0) + 1).tolist() == [rows[1], columns[1]]


def test_margin_is_a_share_of_the_box_on_each_side():
    settings_ = CropSettings(side=100, colour="rgb", margin=0.5)
    face = prepare_image(_painted(width=50, height=50), (150, 60, 50, 50), settings_)
    white = np.argwhere(face.crop[:, :, 0] == 255)
    assert (white.min(), white.max()) == (25, 74)
    face = prepare_image(_painted(), (150, 60, 80, 80), replace(settings_, margin=0.0))
    assert (face.crop[3:-3, 3:-3] == 255).all()


@pytest.mark.parametrize("side", [16, 48, 112, 300])
def test_square_stays_centred_at_every_size_of_the_crop(side):
    face = prepare_image(_painted(), (150, 60, 80, 80), CropSettings(side=side, colour="rgb"))
    bright = np.argwhere(face.crop[:, :, 0] > 147)
    assert face.crop.shape == (side, side, 3)
    assert bright.min(axis=0) == pytest.approx([side * 9.6 / 99.2] * 2, abs=1)
    assert bright.max(axis=0) + 1 == pytest.approx([side * 89.6 / 99.2] * 2, abs=1)


@pytest.mark.parametrize("box", [(-20, 30, 80, 80), (240, 150, 80, 80), (100, -30, 80, 80)])
def test_box_partly_outside_the_frame_reflects_what_is_inside(box):
    image = noise(5, 200, 300)
    face = prepare_image(image, box, RGB)
    padded = np.pad(image, ((120, 120), (120, 120), (0, 0)), mode="symmetric")
    left, top = (round(box[axis] + 40 - 50) + 120 for axis in (0, 1))
    assert face.status is Status.OK
    assert np.array_equal(face.crop, padded[top : top + 100, left : left + 100])


def test_rgb_crop_keeps_the_order_red_green_blue():
    data = encoded(np.zeros((100, 100, 3), np.uint8) + np.array([250, 120, 10], np.uint8))
    face = prepare_face(data, (10, 10, 60, 60), CropSettings(side=20, colour="rgb"))
    assert face.crop.shape == (20, 20, 3)
    assert face.crop[10, 10].tolist() == [250, 120, 10]


def test_grey_crop_is_luma_in_one_channel():
    data = encoded(np.zeros((100, 100, 3), np.uint8) + np.array([255, 0, 0], np.uint8))
    face = prepare_face(data, (10, 10, 60, 60), CropSettings(side=20))
    assert face.crop.shape == (20, 20, 1)
    assert face.crop.dtype == np.uint8
    assert face.crop[10, 10, 0] == 76


def test_whole_picture_is_the_face_and_its_box():
    image = noise(2, 48, 48)
    settings_ = CropSettings(side=48, colour="rgb", detect="whole")
    face = prepare_image(image, None, settings_)
    assert np.array_equal(face.crop, image)
    assert face.box == (0, 0, 48, 48)
    assert np.array_equal(prepare_image(image, (1, 2, 9, 9), settings_).crop, image)


def test_missing_photo_and_unreadable_photo_say_why():
    face = prepare_face(None, (0, 0, 50, 50), RGB)
    assert (face.status, face.crop, face.reason) == (Status.MISSING, None, "no such photo")
    face = prepare_face(b"", (0, 0, 50, 50), RGB)
    assert (face.status, face.crop, face.reason) == (Status.UNREADABLE, None, "empty file")
    face = prepare_face(encoded(noise()), (0, 0, 50, 50), replace(RGB, max_pixels=99))
    assert face.status is Status.UNREADABLE
    assert "more than 99" in face.reason


def test_small_box_is_too_small_and_one_pixel_more_is_not():
    image = noise()
    face = prepare_image(image, (10, 10, 15, 40), CropSettings())
    assert (face.status, face.crop, face.box) == (Status.TOO_SMALL, None, (10, 10, 15, 40))
    assert prepare_image(image, (10, 10, 16, 40), CropSettings()).status is Status.OK
    larger = CropSettings(min_face=17)
    assert prepare_image(image, (10, 10, 16, 40), larger).status is Status.TOO_SMALL


@pytest.mark.parametrize(
    "box",
    [
        (900, 700, 60, 60),
        (-55, 10, 60, 60),
        (10, 95, 60, 60),
        (10, 10, -60, 60),
        (0, 0, 0, 0),
        (-1e9, -1e9, 2e9, 2e9),
        (float("nan"), 0, 60, 60),
        (0, 0, float("inf"), 60),
    ],
)
def test_box_out_of_the_frame_is_a_bad_box(box):
    face = prepare_image(noise(), box, CropSettings())
    assert (face.status, face.crop) == (Status.BAD_BOX, None)


def test_box_many_times_as_wide_as_the_photo_is_a_bad_box_and_asks_for_no_memory():
    # A tenth of it lies in the frame; its square would take 4 GB.
    face = prepare_image(noise(0, 100, 4000), (-30_000, 20, 36_000, 40), CropSettings())
    assert face.status is Status.BAD_BOX


def test_face_without_a_box_is_looked_for():
    image, (drawn,) = draw_group(np.random.default_rng(1), ("Happiness",))
    face = prepare_image(image, None, CropSettings())
    assert face.status is Status.OK
    assert face.score > 0.6
    assert face.iou is None
    assert face.box != drawn.box


def test_listed_box_is_used_unless_detection_is_asked_for():
    image, (drawn,) = draw_group(np.random.default_rng(1), ("Happiness",))
    box = tuple(map(float, drawn.box))
    listed = prepare_image(image, box, CropSettings())
    assert (listed.box, listed.score, listed.iou) == (box, None, None)
    found = prepare_image(image, box, CropSettings(detect="always"))
    assert found.box != box
    assert 0.4 < found.iou <= 1
    assert found.score > 0.6


def test_detection_that_finds_nothing_falls_back_on_the_listed_box():
    face = prepare_image(_painted(), (150, 60, 80, 80), replace(RGB, detect="always"))
    assert (face.status, face.box, face.score) == (Status.OK, (150, 60, 80, 80), None)


def test_photo_without_a_face_and_without_a_box_ends_as_no_face():
    face = prepare_image(np.full((100, 120, 3), 60, np.uint8), None, CropSettings())
    assert (face.status, face.crop, face.box) == (Status.NO_FACE, None, None)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_whole_grey_picture_of_the_crop_size_keeps_every_pixel(kind):
    pixels = noise(6, 48, 48)[:, :, 0]
    data = encoded(pixels, kind)
    face = prepare_face(data, None, CropSettings(detect="whole"))
    assert np.array_equal(face.crop[:, :, 0], np.asarray(Image.open(io.BytesIO(data))))
    assert (face.photo_width, face.photo_height) == (48, 48)


def test_truncated_photo_is_unreadable_whatever_its_box():
    data = encoded(noise(1, 300, 400), "JPEG")[:-2000]
    for box in ((10, 10, 200, 200), (10, 10, 5, 5), (-900, 10, 60, 60), None):
        for detect in ("missing", "always", "whole"):
            face = prepare_face(data, box, CropSettings(detect=detect))
            assert face.status is Status.UNREADABLE
            assert (face.photo_width, face.photo_height) == (None, None)


def test_size_of_the_photo_is_told_for_every_status_that_has_one():
    data = encoded(noise(1, 300, 400), "JPEG")
    for box, status in (
        ((10, 10, 200, 200), Status.OK),
        ((10, 10, 5, 5), Status.TOO_SMALL),
        ((-900, 10, 60, 60), Status.BAD_BOX),
        (None, Status.NO_FACE),
    ):
        face = prepare_face(data, box, CropSettings())
        assert face.status is status
        assert (face.photo_width, face.photo_height) == (400, 300)


def test_hash_of_the_settings_changes_with_each_of_them():
    other = {
        "side": 49,
        "colour": "rgb",
        "margin": 0.13,
        "detect": "always",
        "min_face": 17,
        "max_pixels": 5,
        "max_decoded_bytes": 6,
        "max_file_bytes": 7,
        "align": True,
    }
    assert set(other) == {field.name for field in fields(CropSettings)}
    hashes = {replace(CropSettings(), **{name: value}).hash for name, value in other.items()}
    assert len(hashes | {CropSettings().hash}) == len(other) + 1
    assert CropSettings().hash == CropSettings(side=48).hash


_SIDE = st.floats(-400, 400) | st.sampled_from([float("nan"), float("inf"), 1e30, -1e30, 0.0, 16.0])


@given(
    box=st.tuples(_SIDE, _SIDE, _SIDE, _SIDE),
    shape=st.tuples(st.integers(1, 130), st.integers(1, 130)),
    colour=st.sampled_from(["grey", "rgb"]),
)
@example(box=(0.0, 0.0, 16.0, 16.0), shape=(1, 130), colour="grey")
@example(box=(-1e30, 0.0, 1e30, 16.0), shape=(100, 100), colour="rgb")
@settings(max_examples=200)
def test_any_box_on_any_picture_ends_in_a_status(box, shape, colour):
    settings_ = CropSettings(side=24, colour=colour)
    face = prepare_image(np.full((*shape, 3), 77, np.uint8), box, settings_)
    if face.status is Status.OK:
        assert face.crop.shape == settings_.shape
        assert (face.crop == 77).all()
    else:
        assert face.status in (Status.BAD_BOX, Status.TOO_SMALL)
        assert face.crop is None


@pytest.mark.parametrize("detect", ["missing", "whole"])
def test_every_hostile_file_ends_in_the_status_that_pillow_gives_it_and_soon(real_data, detect):
    seen = {}
    for file in sorted((real_data / "hostile").iterdir()):
        data = file.read_bytes()
        start = time.perf_counter()
        face = prepare_face(data, None, CropSettings(detect=detect))
        assert time.perf_counter() - start < 5, file.name
        size = _loaded_size(data)
        assert (face.status is Status.UNREADABLE) == (size is None), file.name
        assert (face.photo_width, face.photo_height) == (size or (None, None)), file.name
        assert (face.crop is not None) == (face.status is Status.OK), file.name
        assert (face.reason is not None) == (face.status is Status.UNREADABLE), file.name
        seen[face.status] = seen.get(face.status, 0) + 1
    assert seen[Status.UNREADABLE] > 10
    assert seen[Status.NO_FACE if detect == "missing" else Status.OK] > 30


def _loaded_size(data):
    """Width and height of what Pillow opens and loads upright within the bound on pixels."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > CropSettings().max_pixels:
                return None
            picture.load()
            return ImageOps.exif_transpose(picture).size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
