"""Every knob and its default, in one class.

Where a value comes from, first wins: an option given in code or on the command line, the
environment (FER_...), `settings.toml` in the home folder (what the last run used), the default.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from fer_pipeline.core.bounds import Bounds
from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.datasets import picture_side
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import publish_bytes, text_digest
from fer_pipeline.core.labels import NAMES, NOT_EXPRESSIONS
from fer_pipeline.core.overrides import with_overrides
from fer_pipeline.core.presets import Preset, preset_for
from fer_pipeline.core.starter import STARTER
from fer_pipeline.core.storage import as_location, expanded
from fer_pipeline.core.study import checked_study_name
from fer_pipeline.data_sources import (
    Address,
    DatasetOptions,
    DataSets,
    DataSource,
    Optionally,
    Remembered,
    Text,
    checked_format,
    one_or_several,
)
from fer_pipeline.label_settings import LabelSettings
from fer_pipeline.manifest_settings import ManifestSettings
from fer_pipeline.operations_settings import OperationsSettings
from fer_pipeline.photo_settings import PhotoSettings
from fer_pipeline.places import Places, state_folder_of
from fer_pipeline.service_settings import ServiceSettings
from fer_pipeline.streams import DEFAULT_STREAMS, STREAMS

_FILE = "settings.toml"
_GROUPS = ("index", "manifest", "faces")
"""Groups of assets that belong to no stream."""
DEFAULT_HOME = Path("fer-home")

RUN_OPTIONS = (
    "dataset",
    "root",
    "datasets",
    "dataset_options",
    "streams",
    "preset",
    "minutes",
    "seed",
    "label_source",
    "vote_ties",
    "detect",
    "unknown_labels",
    "init",
    "vote_share",
    "recipe_overrides",
)
"""The settings a run is made of: given as options of `run`, remembered in settings.toml."""


class Settings(
    BaseSettings,
    LabelSettings,
    ManifestSettings,
    PhotoSettings,
    ServiceSettings,
    OperationsSettings,
    DataSets,
    Places,
):
    """The settings of one home folder."""

    model_config = SettingsConfigDict(env_prefix="FER_", extra="ignore", frozen=True)

    home: Address = Field(DEFAULT_HOME, description="Folder or address of what a run leaves.")
    state: Annotated[Path | None, BeforeValidator(lambda one: one or None)] = Field(
        None,
        description="Folder for databases, lock, log and settings.toml of a home at an address.",
    )
    dataset: str | None = Field(None, description="Format of the data set.")
    root: Address | None = Field(None, description="Folder or address that holds the data set.")
    datasets: tuple[DataSource, ...] = Field(
        (), description="Several data sets in one manifest, in place of dataset and root."
    )
    dataset_options: DatasetOptions = Field(
        {}, description="What is chosen of how formats are read, as {'csv.label': 'emotion'}."
    )
    streams: tuple[str, ...] = Field(DEFAULT_STREAMS, description="Streams to train.")
    stream_classes: Mapping[str, tuple[str, ...]] = Field(
        {}, description="Streams of your own: name to classes."
    )
    preset: Literal["smoke", "cpu", "gpu"] = Field("cpu", description="Size of network and recipe.")
    recipe_overrides: Mapping[str, Text] = Field(
        {}, description="Values of the preset to replace, by name, such as ema = '0.99'."
    )
    picture_side: int | None = Field(
        None,
        ge=1,
        description="Side in pixels of pictures that are faces already; default: the format's. "
        "Preset gpu takes 48-pixel grey crops of those of up to 64.",
    )
    init: str | None = Field(
        None, description="A .keras file, MLflow address, or `starter`, to start training from."
    )
    minutes: float | None = Field(None, gt=0, description="Training time of each stream.")
    seed: int = Field(0, ge=0, description="Seed of splits, samples, weights and batches.")
    detect: Literal["missing", "always"] = Field(
        "missing", description="Ask the face detector for faces without a box, or for all."
    )
    crop_margin: float = Field(0.12, ge=0, le=1, description="Margin around the box, each side.")
    min_face: int = Field(16, ge=1, description="Boxes under this many pixels are too small.")
    align: bool = Field(
        False,
        description="Turn detected faces so that their eyes are level; needs detect 'always', "
        "since a listed box has no eyes.",
    )
    shard_rows: int = Field(32768, ge=1, description="Faces a crop shard holds at most.")
    executor: Literal["local", "ray"] = Field(
        "local", description="Run steps on this machine or on the Ray cluster at RAY_ADDRESS."
    )
    workers: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=1, description="Steps run at once."
    )
    threads: int | None = Field(None, ge=1, description="Threads of one training process.")
    resamples: int = Field(2000, ge=100, description="Bootstrap resamples of a report.")
    least_gain: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Gain in macro-F1 on dev above which the whole interval of a challenger lies "
        "before it becomes the champion.",
    )
    study: str = Field("people", description="Name of the study that relabel_sample draws.")
    relabel_per_class: int = Field(200, ge=1, description="Faces of each class in that study.")
    relabel_repeats: float = Field(
        0.05, ge=0, le=1, description="Share of a study's faces that are shown twice."
    )
    answers_url: Optionally = Field(
        None, description="Database of people's answers; default is studies.db in the home."
    )
    review_password: SecretStr | None = Field(
        None, description="Password of the labelling page, where others than this machine see it."
    )
    label_issue_folds: int = Field(
        3, ge=2, description="Folds whose models look for wrong labels in each other's faces."
    )
    suspects: int = Field(200, ge=1, description="Suspected labels that a study of them shows.")
    schedules: bool = Field(
        False, description="Train anew on schedule, and when lists or corrections change."
    )
    schedule_cron: str = Field(
        "0 3 * * 1", description="When schedules train anew, as cron says it, in UTC."
    )
    fresh_days: int = Field(
        8, ge=1, description="Days after which the pages warn of a model's age; after twice, fail."
    )
    mlflow_tracking_uri: Optionally = Field(
        None, description="MLflow server; default is a database in the home folder."
    )
    mlflow_ui_url: str = Field(
        "http://127.0.0.1:5000", description="Where people open MLflow, for links."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options, environment, settings.toml of the home they name, defaults."""
        remembered = Remembered(settings_cls, cls._file(init_settings()))
        return init_settings, env_settings, remembered

    @model_validator(mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return one_or_several(given)

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, value: str | None) -> str | None:
        return None if value is None else checked_format(value)

    @field_validator("init")
    @classmethod
    def _kept_where_it_is(cls, value: str | None) -> str | None:
        """A file is found again from another working folder; an empty word is no model."""
        if not value or value == STARTER or not expanded(value).is_file():
            return value or None
        return str(expanded(value).resolve())

    @field_validator("study")
    @classmethod
    def _nameable_study(cls, value: str) -> str:
        try:
            return checked_study_name(value)
        except InputError as error:
            raise ValueError(str(error)) from error

    @field_validator("schedule_cron")
    @classmethod
    def _cron(cls, value: str) -> str:
        from dagster import DagsterInvalidDefinitionError, ScheduleDefinition

        try:
            # Dagster's own reading of cron is the one that counts.
            ScheduleDefinition(name="probe", cron_schedule=value, job_name="probe")
        except DagsterInvalidDefinitionError as error:
            raise ValueError(
                f"{value!r} says no time: give minute, hour, day, month and weekday, "
                "such as '0 3 * * 1' for Mondays at three"
            ) from error
        return value

    @model_validator(mode="after")
    def _known_streams(self) -> Self:
        for stream, classes in self.stream_classes.items():
            unknown = [name for name in classes if name not in NAMES or name in NOT_EXPRESSIONS]
            if unknown or len(classes) < 2 or len(set(classes)) < len(classes):
                raise ValueError(
                    f"stream_classes.{stream} needs two or more of {', '.join(NAMES[:8])}, "
                    f"each once, not {', '.join(classes)}"
                )
            if not re.fullmatch(r"\w+", stream, re.ASCII) or stream in _GROUPS:
                raise ValueError(
                    f"{stream!r} can't name a stream: use letters, digits and underscores, "
                    f"and none of {', '.join(_GROUPS)}"
                )
        for stream in self.streams:
            if stream not in self.all_streams:
                raise ValueError(
                    f"{stream!r} is no known stream: choose from {', '.join(self.all_streams)}"
                )
        try:
            _ = self.recipe
        except InputError as error:
            raise ValueError(f"recipe_overrides: {error}") from error
        if not self.streams:
            raise ValueError("streams is empty: name at least one stream")
        if self.detect == "always" and self.all_cropped:
            raise ValueError(
                f"detect can't be 'always': pictures of {self.data_set} are faces already"
            )
        if self.align and self.detect != "always":
            raise ValueError(
                "align turns faces by the eyes that the detector found: set detect to 'always' "
                "too, or leave align off"
            )
        return self

    @classmethod
    def load(cls, **options: Any) -> Self:
        """The settings with these options on top; options that are None are not given.

        Raises InputError naming the first setting that is wrong.
        """
        return cls._checked({name: value for name, value in options.items() if value is not None})

    @classmethod
    def fresh(cls, **options: Any) -> Self:
        """As `load`, but without what the last run used: options, environment, defaults."""
        given = {name: value for name, value in options.items() if value is not None}
        if given.get("datasets"):
            given |= {"dataset": None, "root": None}
        elif "dataset" in given:
            given["datasets"] = ()
        for name in RUN_OPTIONS:
            if f"FER_{name.upper()}" not in os.environ:
                given.setdefault(name, cls.model_fields[name].default)
        return cls._checked(given)

    @classmethod
    def _checked(cls, given: Mapping[str, Any]) -> Self:
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            what = str(first["msg"]).removeprefix("Value error, ")
            setting = f"setting {where}: {what}" if where else f"settings: {what}"
            variable = f"FER_{str(first['loc'][0]).upper()}" if where else "FER_..."
            raise InputError(
                f"{setting} (from an option, {variable} or {cls._file(given)})"
            ) from error
        except SettingsError as error:
            wrong = [name for name in cls.model_fields if f'"{name}"' in str(error)]
            raise InputError(
                f"FER_{(wrong or ['...'])[0].upper()} in the environment must be JSON, "
                """such as FER_STREAMS='["five_class"]'"""
            ) from error
        except ValueError as error:
            raise InputError(
                f"{cls._file(given)} can't be read: {error}; mend or delete it"
            ) from error

    @staticmethod
    def _file(given: Mapping[str, Any]) -> Path:
        """The settings.toml of the home that these options or the environment name."""
        home = as_location(given.get("home") or os.environ.get("FER_HOME") or DEFAULT_HOME)
        return state_folder_of(home, given.get("state") or os.environ.get("FER_STATE")) / _FILE

    @property
    def all_streams(self) -> Mapping[str, tuple[str, ...]]:
        """Every defined stream and its classes, the user's own included."""
        return {**STREAMS, **self.stream_classes}

    @property
    def active_streams(self) -> Mapping[str, tuple[str, ...]]:
        """The streams that are trained, and their classes."""
        return {name: self.all_streams[name] for name in self.streams}

    @property
    def wanted_classes(self) -> tuple[str, ...]:
        """The union of the active streams' classes, in the order of the label codes."""
        wanted = {name for classes in self.active_streams.values() for name in classes}
        return tuple(name for name in NAMES if name in wanted)

    @property
    def recipe(self) -> Preset:
        """What the preset stands for here: crop size, network and training recipe."""
        sides = [picture_side(name) for name in self.formats]
        # Of a mixture with photos the crops are as of photos alone.
        largest = None if None in sides else max((one for one in sides if one), default=None)
        side = self.picture_side if self.picture_side is not None else largest
        return with_overrides(preset_for(self.preset, side), self.recipe_overrides)

    @property
    def crop_settings(self) -> CropSettings:
        """How faces are cropped for this data set and preset.

        In a mixture pictures that are faces already are taken whole, whatever `detect` says.
        """
        return CropSettings(
            side=self.recipe.side,
            colour=self.recipe.colour,
            margin=self.crop_margin,
            detect="whole" if self.all_cropped else self.detect,
            min_face=self.min_face,
            max_pixels=self.max_pixels,
            max_decoded_bytes=self.max_decoded_bytes,
            max_file_bytes=self.max_file_bytes,
            align=self.align,
        )

    @property
    def bounds_across(self) -> Bounds | None:
        """Within which pictures of two data sets are compared; None for none, or the usual ones."""
        return self.bounds if self.compares_across and self.bounds != Bounds() else None

    def digest(self, *names: str) -> str:
        """8 hex digits that change with any of the named settings.

        In what order a mapping was given makes no difference.
        """
        return text_digest(*(f"{name}={_in_order(getattr(self, name))}" for name in names))[:8]

    def remember(self) -> None:
        """Write the run options to settings.toml, so that the next run and the UI use them.

        What a user wrote there beside them stays.
        """
        path = self.state_folder / _FILE
        known = tomllib.loads(path.read_text()) if path.is_file() else {}
        values = self.model_dump(mode="json", include={*RUN_OPTIONS, "stream_classes"})
        kept = {
            name: value for name, value in (known | values).items() if value not in (None, {}, [])
        }
        publish_bytes(path, tomli_w.dumps(kept).encode())


def _in_order(value: object) -> object:
    return dict(sorted(value.items())) if isinstance(value, Mapping) else value
