"""Faces of successive frames joined to tracks, and their probabilities smoothed over time.

Frames may come at any pace, as those of a camera do: what is smoothed depends on seconds, not on
the number of frames. What is said of a face in one frame is the business of `recogniser.py`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fer_pipeline.core.detect import Box, iou
from fer_pipeline.core.recogniser import Face

_SAME_FACE = 0.2
"""From this IoU on, boxes of two frames may be of one face: a head moves between them."""


@dataclass(frozen=True)
class TrackedFace:
    """A face of a frame, and what is known of it from the frames before.

    `track` is the number of its track, from 1, never given twice. `face` has the probabilities
    smoothed over time and the label that follows from them; `seen` is the face as it was read in
    this frame alone. `since` is the time of the track's first frame, in seconds.
    """

    track: int
    face: Face
    seen: Face
    since: float


@dataclass
class _Track:
    """One face over time: where and when it was seen last, and its probabilities."""

    number: int
    since: float
    box: Box
    seen_at: float
    probabilities: dict[str, float] | None = None
    read_at: float = 0.0


class FaceTracks:
    """The faces of one camera or video, frame after frame; not to be shared by threads."""

    def __init__(self, *, smoothing: float = 0.5, patience: float = 1.0) -> None:
        """Smooth with a time constant of `smoothing` seconds (0: not at all).

        A face that isn't found for up to `patience` seconds keeps its track. Raises ValueError
        for negative numbers.
        """
        if smoothing < 0 or patience < 0:
            raise ValueError(f"smoothing {smoothing} and patience {patience} are seconds from 0")
        self._smoothing = smoothing
        self._patience = patience
        self._tracks: list[_Track] = []
        self._count = 0
        self._now = -math.inf

    def update(self, faces: Sequence[Face], seconds: float) -> list[TrackedFace]:
        """The faces of the frame at `seconds`, in their order, each with its track.

        Faces go to the tracks whose last boxes they overlap most, the best pair first; those
        that overlap none begin a track. Probabilities are an exponential moving average over
        time: after t seconds of another expression its share is 1 - exp(-t / smoothing). Raises
        ValueError for a frame that is earlier than the last.
        """
        if seconds < self._now:
            raise ValueError(f"a frame at {seconds} s comes after one at {self._now} s")
        self._now = seconds
        self._tracks = [
            track for track in self._tracks if seconds - track.seen_at <= self._patience
        ]
        matched = self._matched([face.box for face in faces])
        tracked = []
        for place, face in enumerate(faces):
            track = matched.get(place) or self._begun(face.box, seconds)
            track.box, track.seen_at = face.box, seconds
            tracked.append(
                TrackedFace(track.number, self._smoothed(track, face), face, track.since)
            )
        return tracked

    @property
    def count(self) -> int:
        """How many tracks there were so far."""
        return self._count

    def _matched(self, boxes: Sequence[Box]) -> dict[int, _Track]:
        """The track of each box that has one, by the place of the box."""
        pairs = sorted(
            (-overlap, track.number, place, track)
            for track in self._tracks
            for place, box in enumerate(boxes)
            if (overlap := iou(track.box, box)) >= _SAME_FACE
        )
        found: dict[int, _Track] = {}
        taken: set[int] = set()
        for _, number, place, track in pairs:
            if place not in found and number not in taken:
                found[place] = track
                taken.add(number)
        return found

    def _begun(self, box: Box, seconds: float) -> _Track:
        self._count += 1
        track = _Track(self._count, seconds, box, seconds)
        self._tracks.append(track)
        return track

    def _smoothed(self, track: _Track, face: Face) -> Face:
        """The face with its track's probabilities; as it is where its status isn't ok."""
        if face.probabilities is None:
            return face
        track.probabilities = self._mixed(track, face.probabilities)
        track.read_at = self._now
        label = max(track.probabilities, key=track.probabilities.__getitem__)
        return replace(face, label=label, probabilities=dict(track.probabilities))

    def _mixed(self, track: _Track, new: Mapping[str, float]) -> dict[str, float]:
        old = track.probabilities
        if old is None or not self._smoothing:
            return dict(new)
        share = -math.expm1((track.read_at - self._now) / self._smoothing)
        return {name: old[name] + share * (value - old[name]) for name, value in new.items()}
