"""Where the files of a home stand: part of the settings, which know the home."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_state_path

from fer_pipeline.core.answers_database import sqlite_address
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import text_digest
from fer_pipeline.core.storage import Location, expanded

if TYPE_CHECKING:
    from fer_pipeline.core.crop import CropSettings


class Places:
    """The folders, files and addresses of a home."""

    if TYPE_CHECKING:
        # Settings have them; an annotation that is there at run time would be a field.
        home: Location
        state: Path | None
        answers_url: str | None

        @property
        def crop_settings(self) -> CropSettings:
            """See `Settings.crop_settings`."""

    @property
    def state_folder(self) -> Path:
        """Where databases, lock, log and settings.toml of this home stand: always on this machine.

        The home itself if it is local; else a folder of its own under `state` (default: the
        user's folder for the state of programs).
        """
        return state_folder_of(self.home, self.state)

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


def check_addressable(folder: Path) -> None:
    """Raise InputError for a folder in which Dagster and MLflow would miss their databases.

    They write its path into addresses unquoted, where `?` begins a query, and `%` with two
    hexadecimal digits is another character.
    """
    found = re.search(r"\?|%[0-9a-fA-F]{2}", str(folder))
    if found:
        raise InputError(
            f"{folder} can't be a home: Dagster and MLflow take {found[0]!r} in a path for "
            "something else; give --home another folder, or rename it"
        )


def state_folder_of(home: Location, state: str | os.PathLike[str] | None) -> Path:
    """The state folder of a home: itself if it is local, see `Places.state_folder`."""
    if isinstance(home, Path):
        return home
    folder = expanded(state) if state else user_state_path("fer_pipeline")
    return folder.resolve() / text_digest(home)
