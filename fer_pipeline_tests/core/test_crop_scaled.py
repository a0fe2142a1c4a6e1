"""Crops from photos that are decoded small, in part or turned equal those of the whole picture."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fer_pipeline.core.crop import CropSettings, Status, prepare_face, prepare_image
from fer_pipeline.core.decode import decode, photo_of
from fer_pipeline.core.detect import find_face
from fer_pipeline.core.drawing import draw_group
from fer_pipeline.core.jpeg import decode_scaled
from fer_pipeline_tests.core.small_release import encoded, noise

PORTRAIT = encoded(noise(8, 400, 300), "JPEG")
STORED = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, 1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, -1),
}
"""By EXIF orientation, how an upright picture lies in its file."""


@pytest.fixture(scope="module")
def large_photo():
    """A drawn photo (height, width, 3) of 1800 pixels, and the box of its face."""
    import cv2

    image, (drawn,) = draw_group(np.random.default_rng(1), ("Happiness",))
    factor = 1800 / max(image.shape)
    image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return image, tuple(factor * side for side in drawn.box)


def _decibels(first, second):
    return 10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2))


@pytest.mark.parametrize("colour", ["grey", "rgb"])
@pytest.mark.parametrize("side", [24, 48, 112])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_crop_from_a_scaled_decode_is_that_of_the_whole_picture(
    large_photo, colour, side, orientation
):
    image, box = large_photo
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = STORED[orientation](image)
    data = encoded(np.ascontiguousarray(stored), "JPEG", quality=92, exif=exif)
    settings_ = CropSettings(side=side, colour=colour)
    found = prepare_face(data, box, settings_)
    assert (found.photo_width, found.photo_height) == image.shape[1::-1]
    whole = prepare_image(decode(data), box, settings_)
    assert _decibels(found.crop, whole.crop) > 38
    assert _decibels(found.crop, prepare_image(image, box, settings_).crop) > 35


@pytest.mark.parametrize("shift", [0.25, 0.5, 0.75])
def test_crop_moves_by_fractions_of_a_pixel(large_photo, shift):
    """Boxes are not rounded: a box between two others gives a crop between theirs."""
    image, (x, y, width, height) = large_photo
    data = encoded(image, "JPEG", quality=92)
    settings_ = CropSettings()
    step = 8  # pixels of the photo, one or less of the decode
    crops = [
        prepare_face(data, (x + part * step, y, width, height), settings_).crop.astype(float)
        for part in (0, shift, 1)
    ]
    between = (1 - shift) * crops[0] + shift * crops[2]
    assert np.abs(crops[0] - crops[2]).mean() > 1
    assert np.abs(crops[1] - between).mean() < 0.35 * np.abs(crops[0] - crops[2]).mean()


def test_decode_keeps_the_box_at_twice_the_side_of_the_crop(large_photo, monkeypatch):
    image, (x, y, _, _) = large_photo
    data = encoded(image, "JPEG")
    used = []

    def note(data, header, eighths, *, grey, strict=True):
        used.append((eighths, grey))
        return decode_scaled(data, header, eighths, grey=grey, strict=strict)

    monkeypatch.setattr("fer_pipeline.core.decode.decode_scaled", note)
    for side in (96 * 8, 96 * 8 - 1, 96 * 4, 96 * 4 - 1, 96 * 2, 96 * 2 - 1):
        prepare_face(data, (x, y, side, 60), CropSettings())
    assert used == [(1, True), (2, True), (2, True), (4, True), (4, True), (8, True)]
    prepare_face(data, (x, y, 96 * 8, 60), CropSettings(colour="rgb"))
    assert used[-1] == (1, False)


def test_detected_face_is_cropped_from_a_larger_decode_than_it_was_found_in(large_photo):
    image, _ = large_photo
    data = encoded(image, "JPEG", quality=92)
    settings_ = CropSettings(side=112, colour="rgb", detect="always")
    found = prepare_face(data, None, settings_)
    # The same box as a listed one, in the whole picture.
    expected = prepare_image(image, found.box, replace(settings_, detect="missing"))
    assert found.score > 0.6
    assert _decibels(found.crop, expected.crop) > 33


@pytest.mark.parametrize("degrees", [-25, 25])
def test_aligned_face_has_level_eyes_and_one_with_a_listed_box_stays(degrees):
    import cv2

    image, (drawn,) = draw_group(np.random.default_rng(1), ("Happiness",))
    middle = (drawn.box[0] + drawn.box[2] / 2, drawn.box[1] + drawn.box[3] / 2)
    turn = cv2.getRotationMatrix2D(middle, -degrees, 1)
    turned = cv2.warpAffine(image, turn, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    settings_ = CropSettings(side=200, colour="rgb", margin=0.3, detect="always")
    angles = {}
    for align in (False, True):
        face = prepare_image(turned, None, replace(settings_, align=align))
        angles[align] = np.degrees(find_face(photo_of(face.crop)).eye_line)
    assert angles[False] == pytest.approx(degrees, abs=7)
    # YuNet sees drawn faces less turned than they are.
    assert abs(angles[True]) < 10
    listed = replace(settings_, detect="missing")
    box = tuple(map(float, drawn.box))
    crops = [prepare_image(turned, box, replace(listed, align=on)).crop for on in (False, True)]
    assert np.array_equal(*crops)


@given(
    box=st.tuples(st.floats(-60, 290), st.floats(-60, 390), st.floats(17, 300), st.floats(17, 300)),
    settings_=st.builds(
        CropSettings,
        side=st.sampled_from([8, 24, 48]),
        colour=st.sampled_from(["grey", "rgb"]),
        margin=st.floats(0, 0.5),
    ),
)
@example(box=(100.0, 103.0, 24.0, 24.0), settings_=CropSettings(margin=0.0))  # enlarged
@settings(max_examples=200, deadline=None)
def test_crop_is_the_same_when_the_decoder_stops_below_the_face(box, settings_):
    data = PORTRAIT
    stopped = prepare_face(data, box, settings_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fer_pipeline.core.decode.upper_part", lambda *_, **__: None)
        whole = prepare_face(data, box, settings_)
    assert stopped.status is whole.status
    assert np.array_equal(stopped.crop, whole.crop)


def test_decoder_stops_below_the_face_unless_the_photo_lies_turned_in_its_file(monkeypatch):
    decoded = []

    def note(data, header, *arguments, **options):
        decoded.append(header.height)
        return decode_scaled(data, header, *arguments, **options)

    monkeypatch.setattr("fer_pipeline.core.decode.decode_scaled", note)
    for orientation in (1, 6):
        exif = Image.Exif()
        exif[0x0112] = orientation
        buffer = io.BytesIO()
        Image.open(io.BytesIO(PORTRAIT)).save(buffer, "JPEG", exif=exif)
        assert prepare_face(buffer.getvalue(), (10, 10, 80, 80), CropSettings()).status is Status.OK
    assert decoded == [112, 400]
