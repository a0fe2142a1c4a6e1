"""The formats that `--dataset` names: those of this package, and those that other packages bring.

A package registers a class with the protocol `base.Format` under the entry-point group
`fer_pipeline.datasets`; docs/datasets.md has an example.
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

GROUP = "fer_pipeline.datasets"
"""The entry-point group of formats that other packages bring."""

_OF_A_FORMAT = ("name", "faces_are_cropped", "picture_side", "options", "labels", "recognise")
_BUILT_IN: Mapping[str, Format] = {
    one.name: cast(Format, one)
    for one in (
        *(AffectNet, AffectNet2021, AffectNetPlus, CkPlus, PlainCsv, Expw, Fei),
        *(Fer2013, FerPlus, Folders, HfParquet, RafDb),
    )
}


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


@cache
def _registered() -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in _BUILT_IN}


@cache
def _loaded(name: str) -> Format:
    point = _registered()[name]
    brought = point.dist.name if point.dist else point.value
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"format {name} of the package {brought} can't be loaded ({error}): "
            "mend or remove that package"
        ) from error
    lacking = [part for part in _OF_A_FORMAT if not hasattr(found, part)]
    if lacking or found.name != name:
        raise InputError(
            f"format {name} of the package {brought} is none: "
            + (f"it lacks {', '.join(lacking)}" if lacking else f"it calls itself {found.name!r}")
        )
    return cast(Format, found)
