"""Faces joined to tracks over frames, and the smoothing of their probabilities over seconds."""

import math
import random

import pytest

from fer_pipeline.core.crop import Status
from fer_pipeline.core.detect import Box
from fer_pipeline.core.recogniser import Face
from fer_pipeline.core.tracks import FaceTracks


def _face(box: Box, happy: float | None = 1.0) -> Face:
    """A face that is happy with this probability and else sad; None: too small to be read."""
    if happy is None:
        return Face(box, None, 0.9, Status.TOO_SMALL, None, None)
    label = "Happiness" if happy >= 0.5 else "Sadness"
    return Face(box, None, 0.9, Status.OK, label, {"Happiness": happy, "Sadness": 1 - happy})


def _at(x: float, y: float = 10.0, side: float = 40.0) -> Box:
    return (x, y, side, side)


@pytest.mark.parametrize("pace", [0.04, 0.1, 0.25])
def test_share_of_a_new_expression_follows_the_seconds_and_not_the_frames(pace: float) -> None:
    tracks = FaceTracks(smoothing=0.5)
    tracks.update([_face(_at(0), happy=1.0)], 0.0)
    for number in range(1, round(1.0 / pace) + 1):
        (tracked,) = tracks.update([_face(_at(0), happy=0.0)], number * pace)
        expected = math.exp(-number * pace / 0.5)
        assert tracked.face.probabilities is not None
        assert tracked.face.probabilities["Happiness"] == pytest.approx(expected)
        assert sum(tracked.face.probabilities.values()) == pytest.approx(1)
        assert tracked.face.label == ("Happiness" if expected > 0.5 else "Sadness")
        assert tracked.seen.label == "Sadness"


def test_one_odd_frame_does_not_change_the_label() -> None:
    tracks = FaceTracks(smoothing=0.5)
    odd = {7, 13}
    labels = [
        tracks.update([_face(_at(0), happy=0.1 if number in odd else 0.9)], number / 25)[0]
        for number in range(25)
    ]
    assert {tracked.face.label for tracked in labels} == {"Happiness"}
    assert {tracked.seen.label for tracked in labels} == {"Happiness", "Sadness"}


def test_without_smoothing_a_face_is_what_it_is_in_its_frame() -> None:
    tracks = FaceTracks(smoothing=0)
    for number, happy in enumerate((0.9, 0.2, 0.6)):
        (tracked,) = tracks.update([_face(_at(0), happy)], float(number))
        assert tracked.face == tracked.seen


def test_moving_faces_keep_their_tracks_in_whatever_order_they_come() -> None:
    tracks = FaceTracks()
    rng = random.Random(4)  # noqa: S311
    for number in range(50):
        boxes = [_at(3.0 * number, y) for y in (0.0, 60.0, 120.0)]
        order = rng.sample(range(3), 3) if number else [0, 1, 2]
        found = tracks.update([_face(boxes[place]) for place in order], number / 25)
        assert [tracked.track for tracked in found] == [place + 1 for place in order]
        assert {tracked.since for tracked in found} == {0.0}
    assert tracks.count == 3


def test_face_that_is_lost_for_a_moment_keeps_its_track_and_a_later_one_is_new() -> None:
    tracks = FaceTracks(patience=1.0)
    seen = {0.0: 1, 0.9: 1, 1.8: 1, 2.9: 2}
    for seconds, number in seen.items():
        (tracked,) = tracks.update([_face(_at(0))], seconds)
        assert tracked.track == number
        assert tracks.update([], seconds + 0.01) == []


def test_best_pairs_go_first_and_each_track_has_one_face() -> None:
    tracks = FaceTracks()
    tracks.update([_face(_at(0)), _face(_at(30))], 0.0)
    # The first overlaps both tracks, the second is the same as track 1; the third is left over.
    found = tracks.update([_face(_at(14)), _face(_at(0)), _face(_at(2))], 0.1)
    assert [tracked.track for tracked in found] == [2, 1, 3]


def test_new_track_takes_nothing_over_from_another() -> None:
    tracks = FaceTracks(smoothing=10.0)
    tracks.update([_face(_at(0), happy=1.0)], 0.0)
    (tracked,) = tracks.update([_face(_at(200), happy=0.0)], 0.1)
    assert tracked.track == 2
    assert tracked.face.probabilities == {"Happiness": 0.0, "Sadness": 1.0}


def test_face_that_can_not_be_read_keeps_its_track_and_its_status() -> None:
    tracks = FaceTracks(smoothing=0.5)
    tracks.update([_face(_at(0), happy=1.0)], 0.0)
    (unread,) = tracks.update([_face(_at(0), happy=None)], 0.1)
    assert (unread.track, unread.face.status, unread.face.label) == (1, Status.TOO_SMALL, None)
    # The time that passed since it was read counts, not that since it was seen.
    (again,) = tracks.update([_face(_at(0), happy=0.0)], 0.2)
    assert again.face.probabilities is not None
    assert again.face.probabilities["Happiness"] == pytest.approx(math.exp(-0.2 / 0.5))


def test_tracks_of_faces_that_are_gone_are_not_kept() -> None:
    tracks = FaceTracks(patience=0.5)
    for number in range(1000):
        tracks.update([_face(_at(100.0 * number))], number / 25)
    assert tracks.count == 1000
    assert len(tracks._tracks) <= 14


def test_time_that_goes_back_and_negative_seconds_are_refused() -> None:
    tracks = FaceTracks()
    tracks.update([], 1.0)
    with pytest.raises(ValueError, match=r"a frame at 0\.5 s comes after one at 1\.0 s"):
        tracks.update([], 0.5)
    with pytest.raises(ValueError, match="are seconds from 0"):
        FaceTracks(smoothing=-1)
