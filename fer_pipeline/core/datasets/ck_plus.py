"""CK+ (Extended Cohn-Kanade): sequences of frames from neutral to the peak, some with a label.

`cohn-kanade-images/S005/001/S005_001_00000011.png` are frames, the label of a sequence stands in
`Emotion/S005/001/S005_001_00000011_emotion.txt`. 327 of 593 sequences have one.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from fer_pipeline.core.datasets.people_folders import Face, PeopleFolders
from fer_pipeline.core.datasets.rows import dealt_list
from fer_pipeline.core.datasets.trees import (
    folders_in,
    in_order,
    is_picture,
    names_in,
    read_small_files,
)
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import CK_PLUS
from fer_pipeline.core.read_ahead import Stored
from fer_pipeline.core.storage import Location, files_in, is_folder, relative_name

_IMAGES = ("cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images")
_EMOTION = ("Emotion", "Emotion_labels/Emotion")
_LABEL = "_emotion.txt"
_NEUTRAL = "0"
_FRAMES: Mapping[str, tuple[int, bool]] = {
    "peak": (1, False),
    "peak+neutral": (1, True),
    "last3": (3, False),
    "last3+neutral": (3, True),
}
"""By choice: the last frames that have the label, and whether the first one is Neutral."""
_MAX_BYTES = 4096


@dataclass(frozen=True)
class _Sequence:
    place: str
    frames: Sequence[str]
    labels: Sequence[str]
    is_filmed: bool
    """Whether there is a folder of its frames."""

    @property
    def subject(self) -> str:
        return self.place.partition("/")[0]


class CkPlus(PeopleFolders):
    """CK+ under `root`; a sequence without a label is a rejected row."""

    name = "ck-plus"
    layout = "cohn-kanade-images/ and Emotion/"
    options: Mapping[str, str] = {
        "frames": "which frames of a labelled sequence are faces: peak (the last one), "
        "peak+neutral (default: the first one too, as Neutral), last3, last3+neutral"
    }
    labels = CK_PLUS

    @classmethod
    def recognise(cls, root: Location) -> str | None:
        """Both of its folders are there."""
        found = [_first_folder(root, places) for places in (_IMAGES, _EMOTION)]
        return f"it holds {found[0]} and {found[1]}" if found[0] and found[1] else None

    def __init__(
        self, root: Location, name: str | None = None, *, frames: str = "peak+neutral"
    ) -> None:
        """Find the two folders under `root`.

        Raises InputError where one isn't there, there is no sequence, or `frames` is unknown.
        """
        if frames not in _FRAMES:
            raise InputError(f"ck-plus.frames is {frames!r}: choose one of {', '.join(_FRAMES)}")
        self.root = root
        self.name = name or self.name
        self._last, self._has_neutral = _FRAMES[frames]
        images, emotion = (_first_folder(root, places) for places in (_IMAGES, _EMOTION))
        if not images or not emotion:
            raise InputError(
                f"{root} has no folder {_IMAGES[0] if not images else _EMOTION[0]}: give --root "
                f"the folder in which CK+'s {_IMAGES[0]} and {_EMOTION[0]} are unpacked"
            )
        self._images, self._emotion = images, emotion
        if not self._sequences:
            raise InputError(
                f"{root / images} holds no sequence such as S005/001: unpack the frames there"
            )

    def places(self) -> list[Location]:
        """The folder of each sequence, and each label."""
        return [
            *(self.root / self._images / one.place for one in self._sequences if one.is_filmed),
            *(
                self.root / self._emotion / one.place / label
                for one in self._sequences
                for label in one.labels
            ),
        ]

    def faces(self) -> list[Face]:
        """The chosen frames of the sequences, one row for a sequence without label or frames."""
        labelled = [one for one in self._sequences if len(one.labels) == 1]
        files = (f"{self._emotion}/{one.place}/{one.labels[0]}" for one in labelled)
        found = read_small_files(self.root, files, _MAX_BYTES)
        written = dict(zip((one.place for one in labelled), found, strict=True))
        return [face for one in self._sequences for face in self._rows(one, written.get(one.place))]

    def person(self, path: str) -> str:
        """The subject."""
        return path.split("/")[-3]

    def count_rows(self, name: str) -> int:
        """Frames and labels counted by their sequences, as the folders match a pattern."""
        images, emotion = self.root / self._images, self.root / self._emotion
        pictures = filter(is_picture, _visible(images, "*/*/*"))
        frames = Counter(path.rpartition("/")[0] for path in pictures)
        labelled = {path.rpartition("/")[0] for path in _visible(emotion, f"*/*/*{_LABEL}")}
        filmed = {path for path in _visible(images, "*/*") if is_folder(images / path)}
        count = 0
        for place in filmed | labelled:
            if dealt_list(place.partition("/")[0]) == name:
                rows = min(frames[place], self._last)
                rows += self._has_neutral and frames[place] > self._last
                count += max(1, rows) if place in labelled else 1
        return count

    def _rows(self, one: _Sequence, written: Stored) -> Iterator[Face]:
        place = f"{self._images}/{one.place}"
        reason = "no_label" if not one.labels else "no_frames" if not one.frames else ""
        if reason:
            yield Face(one.subject, place, reason=reason)
            return
        reason, label = "", ""
        if len(one.labels) > 1:
            reason = "two_labels"
        elif not isinstance(written, bytes):
            reason = "damaged_annotation"
        elif not _shows_peak(one):
            reason = "no_peak_frame"
        else:
            label = written.decode(errors="replace").strip()
            reason = "" if label else "no_label"
        if self._has_neutral and len(one.frames) > self._last:
            yield Face(one.subject, f"{place}/{one.frames[0]}", _NEUTRAL, reason)
        for frame in one.frames[-self._last :]:
            yield Face(one.subject, f"{place}/{frame}", label, reason)

    @cached_property
    def _sequences(self) -> list[_Sequence]:
        images, emotion = self.root / self._images, self.root / self._emotion
        subjects = sorted({*folders_in(images), *folders_in(emotion)})
        found = []
        for subject in subjects:
            filmed = folders_in(images / subject)
            for sequence in sorted({*filmed, *folders_in(emotion / subject)}):
                place = f"{subject}/{sequence}"
                frames = in_order(filter(is_picture, names_in(images / subject / sequence)))
                names = names_in(emotion / subject / sequence)
                labels = sorted(name for name in names if name.endswith(_LABEL))
                # Many folders for labels are empty, some without a sequence beside them.
                if labels or sequence in filmed:
                    found.append(_Sequence(place, frames, labels, sequence in filmed))
        return found


def _first_folder(root: Location, places: Sequence[str]) -> str | None:
    return next((place for place in places if is_folder(root / place)), None)


def _shows_peak(one: _Sequence) -> bool:
    """Whether the frame that the label is named after is there; else frames were lost."""
    peak = one.labels[0].removesuffix(_LABEL)
    return any(frame.rpartition(".")[0] == peak for frame in one.frames)


def _visible(folder: Location, pattern: str) -> list[str]:
    """What in a folder matches, by its path there; nothing hidden."""
    found = (relative_name(path, folder) for path in files_in(folder, pattern))
    return [path for path in found if "/." not in f"/{path}"]
