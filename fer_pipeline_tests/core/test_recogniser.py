"""Faces of pictures and their expressions, by path, bytes and pixels."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import fer_pipeline
from fer_pipeline.core import decode
from fer_pipeline.core.bounds import Bounds, TooLargeError, UnreadableError
from fer_pipeline.core.crop import CropSettings, Status, for_photos, prepare_face, prepare_image
from fer_pipeline.core.detect import Box
from fer_pipeline.core.drawing import draw_group
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.recogniser import Recogniser
from fer_pipeline_tests.core.small_release import encoded, noise

EXPRESSIONS = ("Happiness", "Surprise", "Anger")


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser.load(threads=1)


@pytest.fixture(scope="module")
def group() -> tuple[NDArray[np.uint8], list[Box]]:
    """Three drawn people side by side, RGB, and their boxes from left to right."""
    image, faces = draw_group(np.random.default_rng(3), EXPRESSIONS, size=(840, 320))
    boxes = [tuple(map(float, face.box)) for face in faces]
    return image, boxes  # type: ignore[return-value]


def test_every_face_of_a_group_is_found_with_what_the_model_says(
    recogniser: Recogniser, group: tuple[NDArray[np.uint8], list[Box]]
) -> None:
    image, boxes = group
    faces = recogniser.read(image, order="rgb")
    assert len(faces) == len(boxes)
    assert [face.box[2] * face.box[3] for face in faces] == sorted(
        (face.box[2] * face.box[3] for face in faces), reverse=True
    )
    for face, (x, y, width, height) in zip(
        sorted(faces, key=lambda face: face.box[0]), boxes, strict=True
    ):
        centre = face.box[0] + face.box[2] / 2, face.box[1] + face.box[3] / 2
        assert abs(centre[0] - x - width / 2) < width / 3
        assert abs(centre[1] - y - height / 2) < height / 3
        assert face.status is Status.OK
        assert face.landmarks is not None
        assert face.landmarks.shape == (5, 2)
        assert face.score is not None
        assert face.score > 0.6
        assert face.probabilities is not None
        assert tuple(face.probabilities) == recogniser.classes
        assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert face.label == max(face.probabilities, key=face.probabilities.__getitem__)


def test_path_bytes_and_pixels_of_either_order_say_the_same(
    recogniser: Recogniser, group: tuple[NDArray[np.uint8], list[Box]], tmp_path: Path
) -> None:
    image, _ = group
    data = encoded(image, "PNG")
    path = tmp_path / "group.png"
    path.write_bytes(data)
    expected = recogniser.read(image, order="rgb")
    for faces in (
        recogniser.read(image[:, :, ::-1], order="bgr"),
        recogniser.read(data),
        recogniser.read(path),
        recogniser.read(str(path)),
    ):
        assert [face.box for face in faces] == [face.box for face in expected]
        assert [face.probabilities for face in faces] == [face.probabilities for face in expected]


def test_given_boxes_are_cropped_as_in_training_and_kept_in_order(
    recogniser: Recogniser, group: tuple[NDArray[np.uint8], list[Box]]
) -> None:
    image, boxes = group
    faces = recogniser.read(image, order="rgb", boxes=boxes[::-1])
    assert [face.box for face in faces] == boxes[::-1]
    crops = [
        prepare_image(image, box, for_photos(recogniser.card.crop)).crop for box in boxes[::-1]
    ]
    expected = recogniser.recognise_crops(np.stack(crops))
    for face, row in zip(faces, expected, strict=True):
        assert face.score is None
        assert face.probabilities is not None
        assert list(face.probabilities.values()) == pytest.approx(row, abs=1e-6)


def test_many_boxes_of_different_sizes_need_few_decodes_of_the_photo(
    recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, _ = draw_group(np.random.default_rng(3), ("Happiness", "Anger"), size=(1200, 900))
    data = encoded(pixels, "JPEG", quality=90)
    boxes = [
        *((x, y, side, side) for x, y in ((10, 20), (300, 200)) for side in (60, 130, 250, 500)),
        *((600, 150, side, side) for side in (500, 60, 250, 130)),
    ]
    alone = [recogniser.read(data, boxes=[box])[0] for box in boxes]
    decodes = []
    usual = decode.decode_scaled
    monkeypatch.setattr(
        decode, "decode_scaled", lambda *a, **k: decodes.append(a) or usual(*a, **k)
    )
    together = recogniser.read(data, boxes=boxes)
    # One for each scale that the sizes need, and one of an upper part.
    assert 1 < len(decodes) <= 5
    for one, other in zip(together, alone, strict=True):
        assert one.box == other.box
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)


def test_faces_that_are_too_small_or_out_of_the_frame_have_a_status_and_no_label(
    recogniser: Recogniser, group: tuple[NDArray[np.uint8], list[Box]]
) -> None:
    image, boxes = group
    faces = recogniser.read(
        image, order="rgb", boxes=[(5.0, 5.0, 9.0, 9.0), (-900.0, 0.0, 90.0, 90.0), boxes[0]]
    )
    assert [face.status for face in faces] == [Status.TOO_SMALL, Status.BAD_BOX, Status.OK]
    assert [face.label is None for face in faces] == [True, True, False]
    assert [face.probabilities is None for face in faces] == [True, True, False]


def test_picture_that_is_a_face_is_taken_whole_where_it_is_small_or_said_so(
    recogniser: Recogniser,
) -> None:
    assert recogniser.card.crop.detect == "whole"
    face = np.random.default_rng(7).integers(0, 256, (48, 48)).astype(np.uint8)
    (small,) = recogniser.read(face)
    assert small.box == (0, 0, 48, 48)
    crop = prepare_face(encoded(np.dstack([face] * 3), "PNG"), None, recogniser.card.crop).crop
    assert crop is not None
    assert small.probabilities is not None
    assert list(small.probabilities.values()) == pytest.approx(
        recogniser.recognise_crops(crop[None])[0], abs=1e-6
    )
    large = np.repeat(np.repeat(face, 4, axis=0), 4, axis=1)
    assert recogniser.read(large) == []
    assert recogniser.read(large, whole=True)[0].box == (0, 0, 192, 192)
    assert recogniser.read(face, whole=False) == []


def test_pictures_that_can_not_be_read_are_readings_with_their_reason(
    recogniser: Recogniser, group: tuple[NDArray[np.uint8], list[Box]], tmp_path: Path
) -> None:
    image, boxes = group
    good = encoded(image)
    pictures = [good, b"", b"GIF89a", tmp_path / "none.jpg", encoded(noise()), good]
    readings = list(
        recogniser.read_many(pictures, boxes=[None, None, None, None, None, [boxes[1]]])
    )
    assert [len(reading.faces) for reading in readings] == [3, 0, 0, 0, 0, 1]
    reasons = [reading.reason for reading in readings]
    assert [reason is None for reason in reasons] == [True, False, False, False, True, True]
    assert reasons[1] == "empty file"
    assert "none.jpg is no file" in str(reasons[3])
    assert (readings[0].width, readings[0].height) == (840, 320)
    assert readings[0].faces[0].box == recogniser.read(good)[0].box
    with pytest.raises(ValueError, match="shorter"):
        list(recogniser.read_many(pictures, boxes=[]))


def test_more_pictures_than_are_held_at_once_are_all_read_in_order(
    recogniser: Recogniser,
) -> None:
    rng = np.random.default_rng(9)
    faces = [rng.integers(0, 256, (48, 48)).astype(np.uint8) for _ in range(70)]
    readings = list(recogniser.read_many(faces))
    for face, reading in zip(faces, readings, strict=True):
        assert reading.faces[0].probabilities == pytest.approx(
            recogniser.read(face)[0].probabilities, abs=1e-6
        )


def test_crops_are_turned_level_only_by_a_model_that_was_trained_so(
    recogniser: Recogniser, group: tuple[NDArray[np.uint8], list[Box]]
) -> None:
    import cv2

    image, _ = group
    turned = np.ascontiguousarray(image[:, 280:560])
    matrix = cv2.getRotationMatrix2D((140, 160), 25, 1)
    turned = np.asarray(cv2.warpAffine(turned, matrix, (280, 320)), np.uint8)

    class Kept:
        """Stands for the network: keeps the crops that it is asked about."""

        def __init__(self, align: bool) -> None:
            self.card = replace(
                recogniser.card, crop=CropSettings(align=align, detect="always", margin=0.3)
            )
            self.classes = self.card.classes

        def probabilities(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
            self.crops = crops
            return np.full((len(crops), len(self.classes)), 1 / len(self.classes), np.float32)

    plain, level = Kept(align=False), Kept(align=True)
    (face,) = Recogniser(plain).read(turned, order="rgb")  # type: ignore[arg-type]
    (again,) = Recogniser(level).read(turned, order="rgb")  # type: ignore[arg-type]
    assert face.box == again.box
    assert np.abs(plain.crops.astype(int) - level.crops.astype(int)).mean() > 5


def test_halves_of_a_reading_give_the_whole_for_pictures_of_several_callers(
    recogniser: Recogniser, group: tuple[NDArray[np.uint8], list[Box]]
) -> None:
    image, boxes = group
    prepared = [
        recogniser.prepare(image, order="rgb"),
        recogniser.prepare(noise(), order="rgb"),
        recogniser.prepare(image, order="rgb", boxes=[(0.0, 0.0, 9.0, 9.0), boxes[2]]),
    ]
    found = recogniser.recognise(prepared)
    assert [(one.width, one.height) for one in found] == [(840, 320), (120, 100), (840, 320)]
    assert [len(one.faces) for one in found] == [3, 0, 2]
    for face, expected in zip(
        (*found[0].faces, found[2].faces[1]),
        (
            *recogniser.read(image, order="rgb"),
            *recogniser.read(image, order="rgb", boxes=[boxes[2]]),
        ),
        strict=True,
    ):
        assert face.box == expected.box
        assert face.probabilities == pytest.approx(expected.probabilities, abs=1e-6)


def test_same_model_within_other_bounds_refuses_what_is_beyond_them(
    recogniser: Recogniser, group: tuple[NDArray[np.uint8], list[Box]]
) -> None:
    data = encoded(group[0])
    bounded = recogniser.within(Bounds(max_pixels=840 * 320))
    assert len(bounded.read(data)) == 3
    for bounds in (
        Bounds(max_pixels=840 * 320 - 1),
        Bounds(max_decoded_bytes=840 * 320 * 3 - 1),
        Bounds(max_file_bytes=len(data) - 1),
    ):
        with pytest.raises(TooLargeError, match="more than"):
            recogniser.within(bounds).read(data)
    assert len(recogniser.read(data)) == 3


@pytest.mark.parametrize(
    ("pixels", "problem"),
    [
        (np.zeros((9, 9, 3), np.float32), "pixels are uint8"),
        (np.zeros((0, 9, 3), np.uint8), "pixels are uint8"),
        (np.zeros((9, 9, 4), np.uint8), r"or \(height, width, 3\), not \(9, 9, 4\)"),
        (np.zeros((9, 9, 3), np.uint8), "say the order of the colour channels"),
    ],
)
def test_pixels_that_can_not_be_understood_are_refused(
    recogniser: Recogniser, pixels: NDArray[np.uint8], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        recogniser.read(pixels)


def test_what_is_no_picture_or_no_model_is_one_sentence(
    recogniser: Recogniser, tmp_path: Path
) -> None:
    with pytest.raises(UnreadableError, match="empty file"):
        recogniser.read(b"")
    with pytest.raises(InputError, match="is no file: give the path of a picture"):
        recogniser.read(tmp_path / "none.jpg")
    with pytest.raises(UnreadableError, match="a folder, not a photo"):
        recogniser.read(tmp_path)
    with pytest.raises(InputError, match=r"is no file: give a \.keras file"):
        Recogniser.load(tmp_path / "model.keras")
    (tmp_path / "model.keras").write_bytes(b"PK")
    with pytest.raises(InputError, match="is no model file of this pipeline"):
        Recogniser.load(tmp_path / "model.keras")


def test_library_imports_no_training_framework_and_no_orchestration() -> None:
    program = (
        "import sys, numpy\n"
        "from fer_pipeline import Recogniser\n"
        "Recogniser.load().read(numpy.zeros((48, 48), 'uint8'))\n"
        "heavy = {'tensorflow', 'keras', 'torch', 'jax', 'dagster', 'mlflow', 'pandas', 'sklearn',"
        " 'matplotlib', 'streamlit', 'scipy'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_package_has_nothing_else_that_is_made_when_asked_for() -> None:
    assert fer_pipeline.Recogniser.load.__doc__
    with pytest.raises(AttributeError, match="no attribute 'Recognizer'"):
        fer_pipeline.__getattr__("Recognizer")


def test_seven_photos_have_a_face_each_and_the_starter_reads_them(
    recogniser: Recogniser, real_data: Path
) -> None:
    words = {
        "angry": "Anger", "disgusted": "Disgust", "fearful": "Fear", "happy": "Happiness",
        "neutral": "Neutral", "sad": "Sadness", "surprised": "Surprise",
    }  # fmt: skip
    photos = sorted((real_data / "photos").glob("*.jpg"))
    found = {
        photo.stem: [face.label for face in reading.faces]
        for photo, reading in zip(photos, recogniser.read_many(photos), strict=True)
    }
    assert {name: len(labels) for name, labels in found.items()} == dict.fromkeys(words, 1)
    right = [name for name, (label,) in found.items() if label == words[name]]
    assert len(right) >= 6, found
