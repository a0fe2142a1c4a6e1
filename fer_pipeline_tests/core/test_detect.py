import threading

import cv2
import numpy as np
import pytest

from fer_pipeline.core import detect
from fer_pipeline.core.decode import open_photo, photo_of
from fer_pipeline.core.detect import DetectedFace, best_face, find_face, find_faces, iou
from fer_pipeline.core.drawing import draw_group
from fer_pipeline_tests.core.small_release import encoded


def _face(box, score=0.9):
    return DetectedFace(box, np.zeros((5, 2), np.float32), score)


@pytest.fixture(scope="module")
def two_faces():
    return draw_group(np.random.default_rng(4), ("Happiness", "Surprise"), size=(480, 300))


def test_drawn_faces_are_found_where_they_were_drawn(two_faces):
    image, drawn = two_faces
    found = find_faces(photo_of(image))
    assert len(found) == 2
    for face in drawn:
        assert max(iou(other.box, face.box) for other in found) > 0.5


def test_faces_come_best_first_with_landmarks_in_their_box(two_faces):
    image, _ = two_faces
    found = find_faces(photo_of(image))
    assert found[0].score >= found[1].score > 0.6
    for face in found:
        x, y, width, height = face.box
        assert face.landmarks.shape == (5, 2)
        assert (face.landmarks >= (x, y)).all()
        assert (face.landmarks <= (x + width, y + height)).all()
        eyes, mouth = face.landmarks[:2, 1], face.landmarks[3:, 1]
        assert eyes.max() < mouth.min()


def test_boxes_are_in_pixels_of_the_photo_at_any_size(two_faces):

    image, drawn = two_faces
    larger = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_LINEAR)
    found = find_faces(photo_of(larger))
    for face in drawn:
        scaled = tuple(3 * side for side in face.box)
        assert max(iou(other.box, scaled) for other in found) > 0.5


@pytest.mark.parametrize(
    "shape", [(200, 300), (1, 1), (1, 5000), (5000, 1), (3, 900), (900, 9), (12, 11)]
)
def test_picture_without_a_face_gives_none_whatever_its_shape(shape):
    assert find_faces(photo_of(np.full((*shape, 3), 90, np.uint8))) == []


@pytest.mark.parametrize("shape", [(24, 640), (640, 24), (80, 640), (150, 900)])
def test_long_narrow_picture_has_no_invented_faces(shape):
    image = np.random.default_rng(7).integers(0, 256, (*shape, 3), np.uint8)
    photo = photo_of(image)
    for long_side in (640, 320, 160):
        for _ in range(4):
            assert detect._faces_at(photo, long_side) == []


def test_face_in_a_long_narrow_picture_is_found_where_it_is(two_faces):
    image, drawn = two_faces
    x, y, width, height = (round(side) for side in drawn[0].box)
    part = image[max(0, y - 20) : y + height + 20, max(0, x - 20) : x + width + 20]
    long = np.full((part.shape[0], 12 * part.shape[0], 3), 120, np.uint8)
    long[:, 300 : 300 + part.shape[1]] = part
    box = (300.0 + x - max(0, x - 20), float(y - max(0, y - 20)), width, height)
    (face,) = find_faces(photo_of(long))
    assert iou(face.box, box) > 0.5


class _Detector:
    """In YuNet's place: keeps what it is given, and answers with `rows`."""

    def __init__(self, rows=None):
        self.rows, self.size, self.image = rows, None, None

    def setInputSize(self, size):  # noqa: N802 - OpenCV's name
        self.size = size

    def detect(self, image):
        self.image = image
        return 1, self.rows


@pytest.mark.parametrize(
    ("shape", "size"), [((24, 320), (320, 33)), ((320, 20), (33, 320)), ((200, 320), (320, 200))]
)
def test_narrow_picture_is_padded_at_its_lower_right_and_others_are_left(shape, size, monkeypatch):
    detector = _Detector()
    monkeypatch.setattr(detect, "_detector", lambda: detector)
    image = np.full((*shape, 3), 90, np.uint8)
    assert detect._faces_at(photo_of(image), 320) == []
    assert detector.size == size
    assert detector.image.shape == (size[1], size[0], 3)
    assert np.array_equal(detector.image[: shape[0], : shape[1]], image)


def test_rows_without_place_or_area_are_no_faces(monkeypatch, two_faces):
    rows = np.zeros((4, 15), np.float32)
    rows[:, :4] = [(1, 2, 30, 40), (-np.inf, 2, 30, 40), (1, 2, 0, 40), (1, np.nan, 30, 40)]
    monkeypatch.setattr(detect, "_detector", lambda: _Detector(rows))
    assert len(detect._faces_at(photo_of(two_faces[0]), 320)) == 1


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


@pytest.fixture(scope="module")
def small_and_large():
    """A large photo with a large face at the left and one of 60 pixels at the right."""

    image = np.full((1000, 1600, 3), 120, np.uint8)
    boxes = []
    for seed, left, side in ((1, 40, 700), (2, 1200, 60)):
        drawn, (face,) = draw_group(np.random.default_rng(seed), ("Happiness",))
        factor = side / face.box[2]
        part = cv2.resize(drawn, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        part = part[: min(900, part.shape[0]), : 1600 - left]
        image[50 : 50 + part.shape[0], left : left + part.shape[1]] = part
        x, y, width, height = (factor * value for value in face.box)
        boxes.append((left + x, 50 + y, width, height))
    return image, boxes


def test_small_face_is_looked_for_in_a_larger_size_of_the_photo(small_and_large, monkeypatch):
    image, (_, small) = small_and_large
    right = np.ascontiguousarray(image[:, 1100:])
    right = np.pad(right, ((0, 0), (1100, 0), (0, 0)), mode="edge")
    assert iou(find_face(photo_of(right)).box, small) > 0.4
    monkeypatch.setattr(detect, "_LONG_SIDES", (320,))
    assert find_face(photo_of(right)) is None


def test_listed_face_is_looked_for_on_where_only_another_was_found(small_and_large, monkeypatch):
    image, (large, small) = small_and_large
    photo = photo_of(image)
    assert iou(find_face(photo).box, large) > 0.4
    assert iou(find_face(photo, small).box, small) > 0.4
    monkeypatch.setattr(detect, "_LONG_SIDES", (320,))
    assert iou(find_face(photo, small).box, small) == 0


def test_face_in_a_jpeg_is_found_in_a_smaller_decode_and_told_in_pixels_of_the_photo(
    small_and_large, monkeypatch
):
    image, (large, _) = small_and_large
    photo = open_photo(encoded(image, "JPEG", quality=90))
    scales, view = [], photo.view

    def watched(least, **options):
        found = view(least, **options)
        scales.append(found.scale)
        return found

    monkeypatch.setattr(photo, "view", watched)
    face = find_face(photo)
    assert iou(face.box, large) > 0.5
    assert scales == [0.25]
    near = find_face(photo_of(image))
    assert iou(face.box, near.box) > 0.9
    assert np.abs(face.landmarks - near.landmarks).max() < 0.02 * large[2]


@pytest.mark.parametrize("degrees", [-15, 0, 15])
def test_eye_line_is_the_angle_by_which_the_face_is_turned(degrees):
    image, _ = draw_group(np.random.default_rng(1), ("Happiness",))
    height, width = image.shape[:2]
    # OpenCV's angles are counter-clockwise.
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1)
    turned = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    level = np.degrees(find_face(photo_of(image)).eye_line)
    found = np.degrees(find_face(photo_of(turned)).eye_line)
    # YuNet sees drawn faces less turned than they are.
    assert found - level == pytest.approx(degrees, abs=7)


def test_threads_find_each_their_own_faces(two_faces):
    image, _ = two_faces
    pictures = [image, np.ascontiguousarray(image[:, :240]), np.ascontiguousarray(image[30:270])]
    alone = [[face.box for face in find_faces(photo_of(picture))] for picture in pictures]
    together = [[], [], []]

    def work(at):
        together[at] = [
            [face.box for face in find_faces(photo_of(pictures[at]))] for _ in range(15)
        ]

    threads = [threading.Thread(target=work, args=(at,)) for at in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [[boxes] * 15 for boxes in alone]


def test_each_real_photo_has_a_face(real_data):
    photos = sorted((real_data / "photos").glob("*.jpg"))
    assert len(photos) == 7
    for photo in photos:
        assert find_faces(open_photo(photo.read_bytes())), photo.name


def test_small_face_beside_a_large_one_is_found_where_small_ones_are_asked_for():
    large, _ = draw_group(np.random.default_rng(1), ("Happiness",), size=(700, 900))
    small, _ = draw_group(np.random.default_rng(2), ("Neutral",), size=(110, 130))
    image = np.full((900, 1000, 3), 120, np.uint8)
    image[:, :700] = large
    image[300:352, 800:844] = cv2.resize(small, (44, 52), interpolation=cv2.INTER_AREA)
    photo = photo_of(image)
    assert len(find_faces(photo, small=False)) == 1
    found = find_faces(photo)
    assert len(found) == 2
    assert [face.score for face in found] == sorted((one.score for one in found), reverse=True)
