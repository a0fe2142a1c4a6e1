"""What is of one place only: taken out of a backup, and put in again where it is restored.

Paths tell names of people and machines, and are wrong elsewhere; settings may hold passwords.
"""

import json
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import tomli_w

from fer_pipeline.core.storage import Location
from fer_pipeline.settings import Settings

OF_THIS_PLACE = frozenset(
    {
        *("home", "state", "root", "datasets", "init", "workers", "threads", "executor"),
        *("answers_url", "mlflow_tracking_uri", "mlflow_ui_url", "dagster_ui_url"),
        *("mlflow_database", "mlflow_files", "alert_url", "alert_mail"),
        *("review_password", "serve_token"),
    }
)
"""Settings that a backup leaves out: secrets, addresses, and what suits one machine."""
ARTIFACTS = "${FER_ARTIFACTS}"
"""Stands for where MLflow keeps files."""
_BEFORE = r"(?:(?<![\w.%~/-])|(?<=\w://)|(?<=\\[nrt]))"
"""What may stand before a place: no part of a longer path, but the protocol of an address, or a
line break as JSON writes it."""
_HOME = "${FER_HOME}"
_ROOT = "${FER_ROOT}"


@dataclass(frozen=True)
class Tokens:
    """Words that stand for the places of one home in text, the longest place first."""

    places: Mapping[str, str]
    """A place as it is written, and the token that stands for it."""

    def packed(self, text: str) -> str:
        """The text with tokens in place of the places, where these stand as whole folders."""
        if not self.places:
            return text
        places = "|".join(map(re.escape, sorted(self.places, key=len, reverse=True)))
        # A home at /data isn't meant by model/data/x, nor by /data-2.
        whole = rf"{_BEFORE}({places})(?![\w%-]|\.\w)"
        return re.sub(whole, lambda found: self.places[found[1]], text)

    def unpacked(self, text: str) -> str:
        """The text with places in place of tokens; a token without a place stays."""
        for place, token in self.places.items():
            text = text.replace(token, place)
        return text


def tokens_to_pack(
    settings: Settings, artifacts: str | None, former: Collection[str] = ()
) -> Tokens:
    """The tokens of the home that is backed up.

    `artifacts` is MLflow's address of files, `former` are folders in which the home stood before,
    as addresses spell them.
    """
    places = {} if artifacts is None else {artifacts: ARTIFACTS}
    for folder in former:
        places |= {folder: _HOME, unquote(folder): _HOME}
    for number, (_, root) in enumerate(settings.sources):
        places |= _spellings(root, _root_token(number))
    return Tokens({**places, **_spellings(settings.home, _HOME)})


def tokens_to_unpack(settings: Settings, artifacts: str | None) -> Tokens:
    """The tokens of the home that is restored, each with one place."""
    places = {} if artifacts is None else {artifacts: ARTIFACTS}
    places[str(settings.home)] = _HOME
    places |= {str(root): _root_token(at) for at, (_, root) in enumerate(settings.sources)}
    return Tokens(places)


def portable_settings(text: str) -> tuple[str, list[str]]:
    """A settings.toml without what is of this place, and the names of what was left out.

    What is no setting is left out too: it changes nothing, and nobody knows what it is.
    """
    known = tomllib.loads(text)
    portable = Settings.model_fields.keys() - OF_THIS_PLACE
    kept = {name: value for name, value in known.items() if name in portable}
    return tomli_w.dumps(kept), sorted(known.keys() - portable)


def base_name(text: str) -> str:
    """The last part of a path or address."""
    return urlsplit(text).path.rstrip("/").rpartition("/")[2]


def _root_token(number: int) -> str:
    return _ROOT if number == 0 else f"${{FER_ROOT_{number + 1}}}"


def _spellings(place: Location, token: str) -> dict[str, str]:
    """A place as paths, JSON and addresses spell it."""
    if not isinstance(place, Path):
        return {str(place): token}
    written = str(place)
    return {
        written: token,
        json.dumps(written)[1:-1]: token,
        place.as_uri().removeprefix("file://"): token,
    }
