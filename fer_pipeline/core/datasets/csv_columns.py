"""Which column of a CSV list is what: by the options that name them, else by their usual names."""

from collections.abc import Mapping, Sequence

from fer_pipeline.core.datasets.csv_rows import first_fields
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import AFFECTNET, CK_PLUS, FER2013, RAF_DB
from fer_pipeline.core.storage import Location, files_in, is_file

USUAL: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "image", "image_path"),
    "label": ("label", "emotion", "expression"),
    "split": ("split",),
}
"""Names of columns that are taken where no option names one; the first that is there."""
BOX = ("x", "y", "width", "height")
_COLUMNS = ("path", "label", "split", *BOX, "person")
NUMBERS: Mapping[str, Mapping[str, str]] = {
    "affectnet": AFFECTNET,
    "ckplus": CK_PLUS,
    "fer2013": FER2013,
    "rafdb": RAF_DB,
}
"""Whose numbers labels may be."""


def list_file(root: Location, chosen: str | None) -> Location:
    """The list: `chosen` under `root`, else the only .csv file there; raises InputError."""
    if chosen:
        if not is_file(root / chosen):
            raise InputError(
                f"{root} holds no {chosen}: give --root the folder that holds the list, and its "
                "path there as csv.file"
            )
        return root / chosen
    found = files_in(root, "*.csv")
    if not found:
        raise InputError(
            f"{root} holds no .csv file: give --root the folder that holds the list, or the list's "
            "path under it as csv.file"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:5])
        raise InputError(f"{root} holds {len(found)} lists ({names}): name one of them as csv.file")
    return found[0]


def header_of(path: Location) -> list[str]:
    """The names of a list's columns, none of an empty file."""
    return [field.strip() for field in first_fields(path) or ()]


def usual_column(kind: str, header: Sequence[str]) -> str | None:
    """The column that has one of the usual names of its kind, or None."""
    there = {field.casefold(): field for field in reversed(header)}
    return next((there[name] for name in USUAL.get(kind, ()) if name in there), None)


def columns_of(path: Location, header: Sequence[str], options: Mapping[str, str]) -> dict[str, str]:
    """For each kind of column that there is its place in the header, as text.

    `options` name columns by kind; an empty name says that there is none. Raises InputError where
    one that is named isn't in the header once, or what every list needs isn't found.
    """
    found = {}
    for kind in _COLUMNS:
        named = options.get(kind)
        name = usual_column(kind, header) if named is None else named.strip()
        if not name and kind not in ("path", "label"):
            continue
        places = [place for place, field in enumerate(header) if field == name]
        places = places or [
            place
            for place, field in enumerate(header)
            if field.casefold() == (name or "").casefold()
        ]
        if not name or not places:
            what = f"no column {name!r}" if name else f"no column of a usual name for the {kind}"
            has = ", ".join(" ".join(field.split())[:40] for field in header[:30]) or "none"
            raise InputError(f"{path} has {what}: its columns are {has}; name one as csv.{kind}")
        if len(places) > 1:
            raise InputError(f"{path} has {len(places)} columns {name!r}: rename one of them")
        found[kind] = str(places[0])
    lacking = [side for side in BOX if side not in found]
    if 0 < len(lacking) < len(BOX):
        given = ", ".join(f"csv.{side}" for side in BOX if side in found)
        lacks = ", ".join(f"csv.{side}" for side in lacking)
        raise InputError(f"a box needs four columns: {given} is given, {lacks} is not")
    return found


def numbers_of(table: str | None) -> Mapping[str, str]:
    """The table of label numbers of that name, empty without one; raises InputError."""
    if not table:
        return {}
    if table not in NUMBERS:
        raise InputError(f"csv.numbers takes one of {', '.join(NUMBERS)}, not {table!r}")
    return NUMBERS[table]
