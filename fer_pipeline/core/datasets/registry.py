"""The formats that `--dataset` names: those of this package, and those that other packages bring.

A package registers a class with the protocol `base.Format` under the entry-point group
`fer_pipeline.datasets`; docs/add-a-format.md has an example. Which formats a folder looks like is
told here too, since the order in which they are asked is the registry's.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from fer_pipeline.core.datasets.affectnet import AffectNet
from fer_pipeline.core.datasets.affectnet_2021 import AffectNet2021
from fer_pipeline.core.datasets.affectnet_plus import AffectNetPlus
from fer_pipeline.core.datasets.base import Format
from fer_pipeline.core.datasets.ck_plus import CkPlus
from fer_pipeline.core.datasets.expw import Expw
from fer_pipeline.core.datasets.fei import Fei
from fer_pipeline.core.datasets.fer2013 import Fer2013
from fer_pipeline.core.datasets.ferplus import FerPlus
from fer_pipeline.core.datasets.folders import Folders
from fer_pipeline.core.datasets.hf_parquet import HfParquet
from fer_pipeline.core.datasets.plain_csv import PlainCsv
from fer_pipeline.core.datasets.raf_db import RafDb
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.storage import Location

GROUP = "fer_pipeline.datasets"
"""The entry-point group of formats that other packages bring."""

_OF_A_FORMAT = (
    *("name", "faces_are_cropped", "picture_side", "options", "labels", "layout"),
    *("recognise", "lists", "roles", "batches", "count_rows", "photo_key", "photo_group"),
    *("photo_sizes", "stored_sizes", "read_photos"),
)
_BUILT_IN: Mapping[str, Format] = {
    one.name: cast(Format, one)
    for one in (
        *(AffectNet, AffectNet2021, AffectNetPlus, CkPlus, PlainCsv, Expw, Fei),
        *(Fer2013, FerPlus, Folders, HfParquet, RafDb),
    )
}
_GENERAL = ("fer2013", "affectnet-2021", "folders", "csv")
"""Formats whose layout a more particular one also has, the more particular ones first: FER+ is
FER2013's file with another beside it, and any table of faces is a CSV file."""


def format_names() -> tuple[str, ...]:
    """The names that `--dataset` takes: the package's own, then those of other packages."""
    return (*_BUILT_IN, *_registered())


def find_format(name: str) -> Format:
    """The class of a format.

    Raises InputError when none has the name, or the package that brings it is broken.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    if name not in _registered():
        raise InputError(
            f"unknown data set format {name!r}: choose one of {', '.join(format_names())}"
        )
    return _loaded(name)


def chosen_options(name: str, options: Mapping[str, str]) -> dict[str, str]:
    """Those of `options` (`format.option` to a value) that are for format `name`, by option.

    Raises InputError for an option that the format doesn't have.
    """
    known = find_format(name).options
    chosen = {}
    for key, value in options.items():
        owner, _, option = key.rpartition(".")
        if owner != name:
            continue
        if option not in known:
            has = ", ".join(known) or "none"
            raise InputError(f"{name} has no option {option!r}: its options are {has}")
        chosen[option] = value
    return chosen


def check_options(options: Iterable[str]) -> None:
    """Raise InputError for a name that is no `format.option` of a known format."""
    for key in options:
        owner, dot, _ = key.rpartition(".")
        if not dot:
            raise InputError(
                f"{key!r} names no option of a format: write FORMAT.OPTION=VALUE, "
                "such as csv.label=emotion"
            )
        chosen_options(owner, {key: ""})


def recognised(root: Location) -> dict[str, str]:
    """The formats that a folder looks like and why, the most particular one first.

    Particular formats of this package come before those of other packages, and general ones
    (`_GENERAL`) last. Formats that can't be loaded recognise nothing.
    """
    found = {}
    for name in sorted(usable_formats(), key=_generality):
        why = find_format(name).recognise(root)
        if why is not None:
            found[name] = why
    return found


def is_general(name: str) -> bool:
    """Whether folders of more particular formats also look like this one."""
    return name in _GENERAL


def usable_formats() -> tuple[str, ...]:
    """The names of `format_names` but for those of broken packages."""
    return tuple(name for name in format_names() if _problem(name) is None)


def problems() -> list[str]:
    """A sentence for each format of another package that can't be used."""
    taken = [
        f"the package {_package(point)} brings a format {point.name}, which this package has "
        "itself: rename or remove that format"
        for point in entry_points(group=GROUP)
        if point.name in _BUILT_IN
    ]
    return taken + [found for name in _registered() if (found := _problem(name)) is not None]


def _problem(name: str) -> str | None:
    try:
        find_format(name)
    except InputError as error:
        return str(error)
    return None


def _generality(name: str) -> int:
    """0 for particular formats; `sorted` keeps their order, this package's own first."""
    return 1 + _GENERAL.index(name) if name in _GENERAL else 0


@cache
def _registered() -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in _BUILT_IN}


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


@cache
def _loaded(name: str) -> Format:
    point = _registered()[name]
    brought = _package(point)
    try:
        found = point.load()
    except Exception as error:
        # Whatever another package raises while it is imported.
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(
            f"format {name} of the package {brought} can't be loaded ({said}): "
            "mend or remove that package"
        ) from error
    lacking = [part for part in _OF_A_FORMAT if not hasattr(found, part)]
    if lacking or found.name != name:
        raise InputError(
            f"format {name} of the package {brought} is none: "
            + (f"it lacks {', '.join(lacking)}" if lacking else f"it calls itself {found.name!r}")
            + "; mend or remove that package"
        )
    return cast(Format, found)
