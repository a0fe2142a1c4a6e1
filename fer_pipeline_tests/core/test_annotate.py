"""Boxes, labels and bars in a picture, as pixels."""

import time
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_pipeline.core.annotate import COLOURS, annotated, colour_of
from fer_pipeline.core.crop import Status
from fer_pipeline.core.detect import Box
from fer_pipeline.core.recogniser import Face

MOODS = {"Neutral": 0.15, "Happiness": 0.6, "Sadness": 0.25}


def _face(box: Box, probabilities: Mapping[str, float] | None = MOODS) -> Face:
    if probabilities is None:
        return Face(box, None, None, Status.TOO_SMALL, None, None)
    label = max(probabilities, key=probabilities.__getitem__)
    return Face(box, None, 0.9, Status.OK, label, probabilities)


def _black(width: int = 640, height: int = 480) -> NDArray[np.uint8]:
    return np.zeros((height, width, 3), np.uint8)


def _is(image: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (image == colour).all(axis=2)
    return found


def _label(image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """The pixels of the label, which stands alone above a box on black ground."""
    above = image[: int(box[1])]
    rows, columns = above.any(axis=2).nonzero()
    return above[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def test_picture_is_copied_and_its_face_framed_in_the_colour_of_the_label() -> None:
    image = np.full((480, 640, 3), 90, np.uint8)
    drawn = annotated(image, [_face((200, 150, 120, 140))])
    assert (image == 90).all()
    assert drawn.dtype == np.uint8
    assert drawn.shape == image.shape
    assert drawn.flags.writeable
    framed = _is(drawn, COLOURS["Happiness"])
    for row, column in ((200, 201), (200, 318), (288, 260)):
        assert framed[row, column - 2 : column + 3].any() or framed[row - 2 : row + 3, column].any()
    assert (drawn[190:280, 220:300] == 90).all()
    assert (annotated(image, []) == image).all()


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (330, 90), (1000, 750)])
def test_label_is_whole_wherever_the_face_is(size: tuple[int, int]) -> None:
    import cv2

    width, height = size
    side = height // 3
    middle = ((width - side) // 2, (height - side) // 2, side, side)
    label = _label(annotated(_black(*size), [_face(middle)]), middle)
    assert _is(label, COLOURS["Happiness"]).mean() > 0.4
    for x in (0, width - side):
        for y in (0, height - side):
            drawn = annotated(_black(*size), [_face((x, y, side, side))])
            apart = cv2.matchTemplate(drawn, label, cv2.TM_SQDIFF).min()
            assert apart == pytest.approx(0, abs=1), (x, y)


def test_bars_are_as_long_as_the_probabilities() -> None:
    drawn = annotated(_black(), [_face((100, 150, 120, 140))])
    beside = drawn[155:, 230:]
    lengths = {name: int(_is(beside, COLOURS[name]).sum(axis=1).max()) for name in MOODS}
    for name, share in MOODS.items():
        assert lengths[name] / lengths["Happiness"] == pytest.approx(share / 0.6, abs=0.04)
    tops = [int(_is(beside, COLOURS[name]).any(axis=1).argmax()) for name in MOODS]
    assert tops == sorted(tops)


def test_faces_side_by_side_are_hidden_by_no_bars_and_no_label() -> None:
    image = np.full((480, 640, 3), 90, np.uint8)
    boxes = [(20.0 + 110 * place, 180.0, 90.0, 110.0) for place in range(5)]
    drawn = annotated(image, [_face(box) for box in boxes])
    for x, y, width, height in boxes:
        inner = drawn[int(y) + 12 : int(y + height) - 30, int(x) + 8 : int(x + width) - 8]
        assert (inner == 90).all()


def test_face_that_was_not_read_is_grey_and_says_why() -> None:
    read = annotated(_black(), [_face((200, 150, 120, 140))])
    unread = annotated(_black(), [_face((200, 150, 120, 140), None)])
    assert not any(_is(unread, colour).any() for colour in COLOURS.values())
    assert unread[:, 330:].any() < read[:, 330:].any()
    red, green, blue = unread[220, 196:206].max(axis=0).tolist()
    assert max(red, green, blue) - min(red, green, blue) < 20
    assert (_label(unread, (200, 150, 120, 140)).shape) != (
        _label(read, (200, 150, 120, 140)).shape
    )


def test_small_picture_is_enlarged_by_a_whole_number_so_that_letters_can_be_read() -> None:
    drawn = annotated(_black(48, 48), [_face((0, 0, 48, 48))])
    assert drawn.shape == (336, 336, 3)
    assert annotated(_black(320, 20), []).shape == (20, 320, 3)


def test_letters_grow_with_the_picture_and_shrink_with_the_face() -> None:
    heights = [
        len(_label(annotated(_black(*size), [_face(box)]), box))
        for size, box in (
            ((640, 480), (200, 150, 40, 50)),
            ((640, 480), (200, 150, 200, 250)),
            ((2560, 1920), (800, 600, 800, 1000)),
        )
    ]
    assert heights[0] < heights[1]
    assert heights[2] == pytest.approx(4 * heights[1], rel=0.15)


def test_boxes_of_any_shape_and_place_are_drawn() -> None:
    boxes: list[Box] = [
        (-50, -60, 100, 100), (600, 440, 300, 300), (-900, 0, 10, 10), (10, 10, 0, 0),
        (300, 200, 1.4, 200), (0, 0, 640, 480), (-10, -10, 5000, 5000), (320.5, 240.5, 3, 3),
    ]  # fmt: skip
    for size in ((640, 480), (64, 48), (1, 1), (700, 3), (3, 700)):
        for faces in ([_face(box) for box in boxes], [_face(box, None) for box in boxes]):
            drawn = annotated(_black(*size), faces)
            assert drawn.shape[0] % size[1] == 0
            assert drawn.shape[1] % size[0] == 0


def test_classes_of_ones_own_have_colours_that_differ() -> None:
    names = ["calm", "Neutral", "Überrascht", "tired"]
    assert len({colour_of(name, names) for name in names}) == 4
    share = dict.fromkeys(names, 0.25)
    assert annotated(_black(), [_face((200, 150, 120, 140), share)]).any()


def test_frame_with_a_face_takes_less_than_two_milliseconds_of_computing() -> None:
    image, faces = _black(), [_face((200, 150, 120, 140), dict.fromkeys(COLOURS, 0.125))]
    took = []
    for _ in range(30):
        before = time.process_time()
        annotated(image, faces)
        took.append(time.process_time() - before)
    assert min(took) < 0.002
