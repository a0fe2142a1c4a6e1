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
from platformdirs import user_state_path
from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
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
    TomlConfigSettingsSource,
)

from fer_pipeline.core.answers_database import sqlite_address
from fer_pipeline.core.bounds import MAX_DECODED_BYTES, MAX_FILE_BYTES, MAX_PIXELS
from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.datasets import FORMATS, faces_are_cropped, open_dataset
from fer_pipeline.core.datasets.base import DataSet
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import publish_bytes, text_digest
from fer_pipeline.core.labels import NAMES, NOT_EXPRESSIONS
from fer_pipeline.core.presets import PRESETS, Preset
from fer_pipeline.core.storage import Location, as_location
from fer_pipeline.core.study import checked_study_name
from fer_pipeline.streams import DEFAULT_STREAMS, STREAMS

_FILE = "settings.toml"
_GROUPS = ("index", "manifest", "faces")
"""Groups of assets that belong to no stream."""
DEFAULT_HOME = Path("fer-home")

RUN_OPTIONS = (
    "dataset",
    "root",
    "streams",
    "preset",
    "minutes",
    "seed",
    "label_source",
    "detect",
    "unknown_labels",
)
"""The settings a run is made of: given as options of `run`, remembered in settings.toml."""


Address = Annotated[Location, BeforeValidator(as_location), PlainSerializer(str)]
"""A folder, or an address of an object store."""


class Settings(BaseSettings):
    """The settings of one home folder."""

    model_config = SettingsConfigDict(env_prefix="FER_", extra="ignore", frozen=True)

    home: Address = Field(DEFAULT_HOME, description="Folder or address of what a run leaves.")
    state: Path | None = Field(
        None, description="Folder for the state of homes that are addresses, see state_folder."
    )
    dataset: str | None = Field(None, description="Format of the data set.")
    root: Address | None = Field(None, description="Folder or address that holds the data set.")
    streams: tuple[str, ...] = Field(DEFAULT_STREAMS, description="Streams to train.")
    stream_classes: Mapping[str, tuple[str, ...]] = Field(
        {}, description="Streams of your own: name to classes."
    )
    preset: Literal["smoke", "cpu", "gpu"] = Field("cpu", description="Size of network and recipe.")
    minutes: float | None = Field(None, gt=0, description="Training time of each stream.")
    seed: int = Field(0, ge=0, description="Seed of splits, samples, weights and batches.")
    label_source: Literal["listed", "votes"] = Field(
        "listed", description="Train and score on the listed label or on FER+ votes."
    )
    detect: Literal["missing", "always"] = Field(
        "missing", description="Ask the face detector for faces without a box, or for all."
    )
    unknown_labels: Literal["stop", "reject"] = Field(
        "stop", description="Stop at a label in no table, or go on without its row."
    )
    dev_share: float = Field(0.1, gt=0, lt=1, description="Share of train groups carved as dev.")
    crop_margin: float = Field(0.12, ge=0, le=1, description="Margin around the box, each side.")
    min_face: int = Field(16, ge=1, description="Boxes under this many pixels are too small.")
    align: bool = Field(
        False,
        description="Turn detected faces so that their eyes are level; needs detect 'always', "
        "since a listed box has no eyes.",
    )
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="Photos with more pixels are refused.")
    max_decoded_bytes: int = Field(
        MAX_DECODED_BYTES, ge=1, description="Photos of more bytes, decoded, are refused."
    )
    max_file_bytes: int = Field(
        MAX_FILE_BYTES, ge=1, description="Photos of more bytes, as stored, are refused."
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
    study: str = Field("people", description="Name of the study that relabel_sample draws.")
    relabel_per_class: int = Field(200, ge=1, description="Faces of each class in that study.")
    relabel_repeats: float = Field(
        0.05, ge=0, le=1, description="Share of a study's faces that are shown twice."
    )
    answers_url: str | None = Field(
        None, description="Database of people's answers; default is a file in state_folder."
    )
    review_password: SecretStr | None = Field(
        None, description="Password of the labelling page, where others than this machine see it."
    )
    corrections_on_test: bool = Field(
        False, description="Apply corrected labels to the locked test split too."
    )
    label_issue_folds: int = Field(
        3, ge=2, description="Folds whose models look for wrong labels in each other's faces."
    )
    suspects: int = Field(200, ge=1, description="Suspected labels that a study of them shows.")
    mlflow_tracking_uri: str | None = Field(
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
        remembered = TomlConfigSettingsSource(settings_cls, cls._file(init_settings()))
        return init_settings, env_settings, remembered

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, value: str | None) -> str | None:
        if value is not None and value not in FORMATS:
            raise ValueError(f"{value!r} is no known format: choose one of {', '.join(FORMATS)}")
        return value

    @field_validator("study")
    @classmethod
    def _nameable_study(cls, value: str) -> str:
        try:
            return checked_study_name(value)
        except InputError as error:
            raise ValueError(str(error)) from error

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
        if not self.streams:
            raise ValueError("streams is empty: name at least one stream")
        if self.detect == "always" and self.dataset and faces_are_cropped(self.dataset):
            raise ValueError(
                f"detect can't be 'always': pictures of {self.dataset} are faces already"
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
        return _state_folder(home, given.get("state") or os.environ.get("FER_STATE")) / _FILE

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
        """What the preset stands for: crop size, network and training recipe."""
        return PRESETS[self.preset]

    @property
    def crop_settings(self) -> CropSettings:
        """How faces are cropped for this data set and preset."""
        whole = self.dataset is not None and faces_are_cropped(self.dataset)
        return CropSettings(
            side=self.recipe.side,
            colour=self.recipe.colour,
            margin=self.crop_margin,
            detect="whole" if whole else self.detect,
            min_face=self.min_face,
            max_pixels=self.max_pixels,
            max_decoded_bytes=self.max_decoded_bytes,
            max_file_bytes=self.max_file_bytes,
            align=self.align,
        )

    def open_dataset(self) -> DataSet:
        """The data set these settings name; raises InputError when there is none."""
        if self.dataset is None or self.root is None:
            raise InputError(
                "no data set is chosen: run `fer-pipeline run --dataset NAME --root DIR` once, "
                "or set FER_DATASET and FER_ROOT"
            )
        return open_dataset(self.dataset, self.root)

    @property
    def state_folder(self) -> Path:
        """Where databases, lock, log and settings.toml of this home stand: always on this machine.

        The home itself if it is local; else a folder of its own under `state` (default: the
        user's folder for the state of programs).
        """
        return _state_folder(self.home, self.state)

    @property
    def index_folder(self) -> Location:
        """Where the file-list index stands."""
        return self.home / "index"

    @property
    def manifest_folder(self) -> Location:
        """Where the class manifest stands."""
        return self.home / "manifest"

    @property
    def crops_folder(self) -> Location:
        """Where the crops of these crop settings stand."""
        return self.home / "crops" / self.crop_settings.hash

    def report_folder(self, stream: str) -> Location:
        """Where a stream's report stands."""
        return self.home / "reports" / stream

    @property
    def studies_folder(self) -> Location:
        """Where the studies stand, in a folder for each stream."""
        return self.home / "studies"

    @property
    def answers_address(self) -> str:
        """The database of people's answers, as an address that SQLAlchemy knows."""
        if self.answers_url is not None:
            return self.answers_url
        return sqlite_address(self.state_folder / "studies.db")

    @property
    def corrections_file(self) -> Location:
        """Where corrected labels stand."""
        return self.home / "corrections.csv"

    @property
    def dagster_home(self) -> Path:
        """DAGSTER_HOME of this home."""
        return self.state_folder / "dagster"

    @property
    def mlflow_folder(self) -> Path:
        """Where MLflow's database stands, unless a server is named."""
        return self.state_folder / "mlflow"

    @property
    def mlflow_artifacts(self) -> Location:
        """Where the files of MLflow's runs and models stand, unless a server is named."""
        return self.home / "mlflow" / "artifacts"

    def digest(self, *names: str) -> str:
        """8 hex digits that change with any of the named settings."""
        return text_digest(*(f"{name}={getattr(self, name)}" for name in names))[:8]

    def remember(self) -> None:
        """Write the run options to settings.toml, so that the next run and the UI use them.

        What a user wrote there beside them stays.
        """
        path = self.state_folder / _FILE
        known = tomllib.loads(path.read_text()) if path.is_file() else {}
        values = self.model_dump(mode="json", include={*RUN_OPTIONS, "stream_classes"})
        kept = {name: value for name, value in (known | values).items() if value not in (None, {})}
        publish_bytes(path, tomli_w.dumps(kept).encode())


def _state_folder(home: Location, state: str | os.PathLike[str] | None) -> Path:
    if isinstance(home, Path):
        return home
    folder = Path(state).expanduser() if state else user_state_path("fer_pipeline")
    return folder.resolve() / text_digest(home)
