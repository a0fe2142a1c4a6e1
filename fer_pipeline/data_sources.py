"""Which data sets a run takes, as settings and options name them: one, or several to be mixed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    field_validator,
)
from pydantic_settings import TomlConfigSettingsSource

from fer_pipeline.core.datasets import (
    faces_are_cropped,
    find_format,
    format_names,
    open_datasets,
)
from fer_pipeline.core.datasets.base import DataSet
from fer_pipeline.core.datasets.mixed import mixed_name, source_names
from fer_pipeline.core.datasets.registry import check_options
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.storage import Location, as_location

Address = Annotated[Location, BeforeValidator(as_location), PlainSerializer(str)]
"""A folder, or an address of an object store."""

Text = Annotated[
    str, BeforeValidator(lambda one: str(one) if isinstance(one, float | int) else one)
]
"""JSON and TOML have numbers and truths of their own, which may be written there as such."""


Optionally = Annotated[str | None, AfterValidator(lambda one: one or None)]
"""Text or nothing; an empty word, as a line `FER_...=` of an environment file gives it, is none."""


def _checked_options(value: Mapping[str, str]) -> Mapping[str, str]:
    try:
        check_options(value)
    except InputError as error:
        raise ValueError(str(error)) from error
    return value


DatasetOptions = Annotated[Mapping[str, Text], AfterValidator(_checked_options)]
"""What is chosen of how formats are read: `format.option` to a value."""


class DataSource(BaseModel):
    """One of several data sets."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    dataset: str
    root: Address

    @field_validator("dataset")
    @classmethod
    def _known(cls, value: str) -> str:
        return checked_format(value)


class DataSets:
    """What settings say of their data sets, however many these are."""

    if TYPE_CHECKING:
        # Settings have them; an annotation that is there at run time would be a field.
        dataset: str | None
        root: Location | None
        datasets: tuple[DataSource, ...]
        dataset_options: Mapping[str, str]
        copies_across: bool

    def open_dataset(self) -> DataSet:
        """The data set these settings name; raises InputError when there is none."""
        if not self.sources:
            raise InputError(
                "no data set is chosen: run `fer-pipeline run --dataset NAME --root DIR` once, "
                "or set FER_DATASET and FER_ROOT"
            )
        return open_datasets(self.sources, self.dataset_options)

    @property
    def sources(self) -> list[tuple[str, Location]]:
        """Format and root of each data set; none where none is chosen."""
        if self.datasets:
            return [(one.dataset, one.root) for one in self.datasets]
        return [] if self.dataset is None or self.root is None else [(self.dataset, self.root)]

    @property
    def data_set(self) -> str | None:
        """The name of the data set, or of the mixture; None where none is chosen."""
        return mixed_name(source_names(self.formats)) if self.formats else None

    @property
    def compares_across(self) -> bool:
        """Whether pictures of two data sets are compared: there are two, and that isn't off."""
        return self.copies_across and len(self.sources) > 1

    @property
    def all_cropped(self) -> bool:
        """Whether the pictures of every data set are faces already."""
        options = self.dataset_options
        return bool(self.formats) and all(faces_are_cropped(one, options) for one in self.formats)

    @property
    def cropped_by_option(self) -> Mapping[str, bool]:
        """The formats whose pictures are faces already, or aren't, since an option says so."""
        told = {name: faces_are_cropped(name, self.dataset_options) for name in self.formats}
        return {name: one for name, one in told.items() if one != faces_are_cropped(name)}

    @property
    def formats(self) -> list[str]:
        """The format of each data set, in their order."""
        several = [one.dataset for one in self.datasets]
        return several or ([] if self.dataset is None else [self.dataset])


class Remembered(TomlConfigSettingsSource):
    """settings.toml, of which some settings are taken as a whole or not at all.

    Data sets are one subject: one that an option or variable names replaces all that the file
    names, what was chosen about them too. Values that replace those of a preset are another
    subject: sources of settings mix mappings.
    """

    def __call__(self) -> dict[str, Any]:
        """What the file says, less what an option or variable replaces."""
        before, found = self.current_state, super().__call__()
        replaced = {"recipe_overrides", "dataset_options"} & before.keys()
        named = before.get("dataset")
        if before.get("datasets"):
            replaced |= {"dataset", "root", "dataset_options"}
        elif named or before.get("root"):
            replaced.add("datasets")
            # Of data that only stand elsewhere what was chosen still holds.
            if named and (found.get("datasets") or found.get("dataset") not in (None, named)):
                replaced.add("dataset_options")
        return {name: value for name, value in found.items() if name not in replaced}


def checked_format(value: str) -> str:
    """A known format; raises ValueError with the known ones for another, or of a broken package."""
    if value not in format_names():
        raise ValueError(f"{value!r} is no known format: choose one of {', '.join(format_names())}")
    try:
        find_format(value)
    except InputError as error:
        raise ValueError(str(error)) from error
    return value


def one_or_several(given: Any) -> Any:
    """Settings in which several data sets are at least two, and stand there alone.

    Raises ValueError where there are one and several at once.
    """
    if not isinstance(given, Mapping) or not given.get("datasets"):
        return given
    if given.get("dataset") or given.get("root"):
        raise ValueError("name the data sets either in datasets, or one in dataset and root")
    several = given["datasets"]
    if isinstance(several, Sequence) and len(several) == 1:
        only = DataSource.model_validate(several[0])
        return {**given, "dataset": only.dataset, "root": only.root, "datasets": ()}
    return given


def data_set_options(datasets: Sequence[str], roots: Sequence[str]) -> dict[str, Any]:
    """The settings of the options --dataset and --root, which may be given again, in turn.

    Raises InputError where several of one don't go with as many of the other.
    """
    if len(datasets) <= 1 and len(roots) <= 1:
        return {
            "dataset": datasets[0] if datasets else None,
            "root": roots[0] if roots else None,
        }
    if len(datasets) != len(roots):
        raise InputError(
            f"--dataset is given {_times(len(datasets))} and --root {_times(len(roots))}: "
            "give each data set its own --root, in the same order"
        )
    pairs = zip(datasets, roots, strict=True)
    return {"datasets": tuple({"dataset": name, "root": root} for name, root in pairs)}


def read_dataset_options(words: Sequence[str]) -> dict[str, str]:
    """The options `--dataset-option FORMAT.OPTION=VALUE` as a mapping; the last of one counts.

    Raises InputError for another shape.
    """
    options = {}
    for word in words:
        name, mark, value = word.partition("=")
        if not mark or "." not in name:
            raise InputError(
                f"--dataset-option takes FORMAT.OPTION=VALUE, such as csv.label=emotion, "
                f"not {word!r}"
            )
        options[name.strip()] = value
    return options


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count} times")
