"""What `recognise` is given, as a list of pictures and videos: files, and folders with all below.

Nothing is decoded here. What counts as a picture in a folder is told by its name or, where that
says nothing, by its first bytes.
"""

import os
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
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"GIF8")


@dataclass(frozen=True)
class Input:
    """One file: `path` as it is told, `place` where it stands below a folder of copies."""

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
    What stands below the folder `without` is left out. Raises InputError for a path where
    nothing is, and where there is nothing to read in all of it.
    """
    files: dict[str, Input] = {}
    skipped = 0
    several = len(given) > 1
    left_out = None if without is None else without.resolve()
    for word in given:
        path = Path(word).expanduser()
        if word == STDIN:
            files.setdefault(word, Input(word, Path("stdin"), video=False))
        elif path.is_dir():
            head = Path(path.resolve().name) if several else Path()
            for file in _files_below(path, left_out):
                if not _is_readable(file):
                    skipped += 1
                    continue
                place = head / file.relative_to(path)
                files.setdefault(str(file), Input(str(file), place, is_video(file)))
        elif path.exists():
            files.setdefault(str(path), Input(str(path), Path(path.name), is_video(path)))
        else:
            raise InputError(
                f"{word} isn't there: give pictures, videos, folders of them, or - for a picture "
                "on standard input"
            )
    if not files:
        where = ", ".join(given)
        raise InputError(
            f"{where} holds no picture and no video ({skipped:,} other files): give another folder"
        )
    return Inputs(tuple(_each_in_its_place(files.values())), skipped)


def _files_below(folder: Path, left_out: Path | None) -> Iterator[Path]:
    for here, folders, names in os.walk(folder):
        folders.sort()
        if left_out is not None:
            folders[:] = [name for name in folders if Path(here, name).resolve() != left_out]
        for name in sorted(names):
            yield Path(here, name)


def _is_readable(file: Path) -> bool:
    suffix = file.suffix.lower()
    if suffix in PICTURES or is_video(file):
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
    taken: dict[Path, int] = {}
    for one in files:
        count = taken[one.place] = taken.get(one.place, 0) + 1
        place = one.place
        if count > 1:
            place = place.with_name(f"{place.stem}-{count}{place.suffix}")
            taken[place] = 1
        yield Input(one.path, place, one.video)
