"""What `recognise` is given, as a list of pictures and videos: files, and folders with all below.

Nothing is decoded here. What counts as a picture in a folder is told by its name or, where that
says nothing, by its first bytes.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.video import is_video

STDIN = "-"

PICTURES = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
        *(".gif", ".avif", ".jp2", ".ppm", ".pgm", ".pnm"),
    ]
)
"""Suffixes by which a file in a folder is taken for a picture, whatever it turns out to hold."""
KEPT_FORMATS = frozenset([".jpg", ".jpeg", ".png"])
"""Suffixes of pictures whose copies are of the same format; copies of all others are PNG."""
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"GIF8")


@dataclass(frozen=True)
class Input:
    """One file: `path` as it is told, and the `place` of its copy below a folder of copies.

    The place of a video is a folder, for copies of its frames.
    """

    path: str
    place: Path
    video: bool


@dataclass(frozen=True)
class Inputs:
    """The files in the order in which they are read, and how many others folders held."""

    files: tuple[Input, ...]
    skipped: int


def find_inputs(given: Sequence[str], *, without: Path | None = None) -> Inputs:
    """The pictures and videos of files, folders (with all below, sorted) and `-`, each once.

    A file that is named is always one of them; in a folder others are passed over and counted.
    Links are followed, and a folder that can't be listed is one of the files. What stands below
    the folder `without` is left out. Raises InputError for a path where nothing is, and where
    there is nothing to read in all of it.
    """
    files: dict[str, Input] = {}
    skipped = 0
    several = len(given) > 1
    left_out = None if without is None else without.resolve()
    for word in given:
        path = Path(word)
        if word == STDIN:
            files.setdefault(word, Input(word, Path("stdin.png"), video=False))
        elif not word:
            raise InputError("an input has no name: give pictures, videos, or folders of them")
        elif not _exists(path):
            raise InputError(
                f"{word} isn't there: give pictures, videos, folders of them, or - for a picture "
                "on standard input"
            )
        elif path.is_dir():
            head = Path(path.resolve().name) if several else Path()
            for file in _files_below(path, left_out):
                if not _is_readable(file):
                    skipped += 1
                    continue
                one = _input(file, head / file.relative_to(path))
                files.setdefault(one.path, one)
        else:
            one = _input(path, Path(path.name))
            files.setdefault(one.path, one)
    if not files:
        where = ", ".join(given)
        raise InputError(
            f"{where} holds no picture and no video ({skipped:,} other files): give another folder"
        )
    return Inputs(tuple(_each_in_its_place(files.values())), skipped)


def as_png(place: Path) -> Path:
    """Where the copy stands that would stand at `place`, if it is a PNG."""
    return place if place.suffix.lower() == ".png" else place.with_name(f"{place.name}.png")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}): give another path") from error


def _input(file: Path, place: Path) -> Input:
    # A file that is called "-" isn't standard input.
    path = f"./{STDIN}" if str(file) == STDIN else str(file)
    if is_video(file):
        return Input(path, place, video=True)
    if file.suffix.lower() not in KEPT_FORMATS:
        place = as_png(place)
    return Input(path, place, video=False)


def _files_below(folder: Path, left_out: Path | None) -> Iterator[Path]:
    """All files, through links too, each folder once; at last the folders that can't be listed."""
    seen = {folder.resolve(), left_out}
    refused: list[OSError] = []
    for here, folders, names in os.walk(folder, onerror=refused.append, followlinks=True):
        unseen = {name: Path(here, name).resolve() for name in sorted(folders)}
        folders.clear()
        for name, real in unseen.items():
            if real not in seen:
                seen.add(real)
                folders.append(name)
        for name in sorted(names):
            yield Path(here, name)
    for error in refused:
        if Path(error.filename) == folder:
            raise InputError(f"{folder} can't be listed ({error.strerror}): give another folder")
        yield Path(error.filename)


def _is_readable(file: Path) -> bool:
    suffix = file.suffix.lower()
    if suffix in PICTURES or is_video(file) or file.is_dir():
        return True
    try:
        if not file.is_file():
            return False
        with file.open("rb") as opened:
            start = opened.read(12)
    except OSError:
        return False
    return start.startswith(_SIGNATURES) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


def _each_in_its_place(files: Iterable[Input]) -> Iterator[Input]:
    """The files, those whose place is taken already with a number in their name."""
    taken: set[Path] = set()
    counts: Counter[Path] = Counter()
    for one in files:
        place = one.place
        while place in taken:
            counts[one.place] += 1
            number = counts[one.place] + 1
            place = one.place.with_name(f"{one.place.stem}-{number}{one.place.suffix}")
        taken.add(place)
        yield Input(one.path, place, one.video)
