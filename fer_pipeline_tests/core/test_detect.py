import numpy as np
import pytest

from fer_pipeline.core.decode import decode
from fer_pipeline.core.detect import DetectedFace, best_face, detect_faces, iou
from fer_pipeline.core.drawing import draw_group


def _face(box, score=0.9):
    return DetectedFace(box, np.zeros((5, 2), np.float32), score)


@pytest.fixture(scope="module")
def two_faces():
    return draw_group(np.random.default_rng(4), ("Happiness", "Surprise"), size=(480, 300))


def test_drawn_faces_are_found_where_they_were_drawn(two_faces):
    image, drawn = two_faces
    found = detect_faces(image)
    assert len(found) == 2
    for face in drawn:
        assert max(iou(other.box, face.box) for other in found) > 0.5


def test_faces_come_best_first_with_landmarks_in_their_box(two_faces):
    image, _ = two_faces
    found = detect_faces(image)
    assert found[0].score >= found[1].score > 0.6
    for face in found:
        x, y, width, height = face.box
        assert face.landmarks.shape == (5, 2)
        assert (face.landmarks >= (x, y)).all()
        assert (face.landmarks <= (x + width, y + height)).all()
        eyes, mouth = face.landmarks[:2, 1], face.landmarks[3:, 1]
        assert eyes.max() < mouth.min()


def test_boxes_are_in_pixels_of_the_photo_at_any_size(two_faces):
    import cv2

    image, drawn = two_faces
    larger = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_LINEAR)
    found = detect_faces(larger)
    for face in drawn:
        scaled = tuple(3 * side for side in face.box)
        assert max(iou(other.box, scaled) for other in found) > 0.5


@pytest.mark.parametrize(
    "shape", [(200, 300), (1, 1), (1, 5000), (5000, 1), (3, 900), (900, 9), (12, 11)]
)
def test_picture_without_a_face_gives_none_whatever_its_shape(shape):
    assert detect_faces(np.full((*shape, 3), 90, np.uint8)) == []


def test_iou_of_known_boxes():
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert iou((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert iou((0, 0, 10, 10), (2, 2, 5, 5)) == pytest.approx(25 / 100)
    assert iou((0, 0, 10, 10), (10, 0, 10, 10)) == 0
    assert iou((0, 0, 10, 10), (40, 40, 10, 10)) == 0
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0


def test_face_over_the_listed_box_is_chosen_before_a_larger_one():
    small, large = _face((0, 0, 20, 20)), _face((100, 0, 90, 90))
    assert best_face([large, small], (5, 5, 20, 20)) is small


def test_largest_face_is_chosen_without_a_listed_box_or_away_from_it():
    small, large = _face((0, 0, 20, 20), 0.99), _face((100, 0, 90, 90), 0.7)
    assert best_face([small, large], None) is large
    assert best_face([small, large], (300, 300, 20, 20)) is large
    assert best_face([], (5, 5, 20, 20)) is None


def test_each_real_photo_has_a_face(real_data):
    photos = sorted((real_data / "photos").glob("*.jpg"))
    assert len(photos) == 7
    for photo in photos:
        assert detect_faces(decode(photo.read_bytes())), photo.name
