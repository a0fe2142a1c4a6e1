"""The eleven expression codes, their names and aliases.

The only module that knows which number means which expression; everything else speaks names
or the AffectNet codes defined here. Code tables of other data sets live beside their reader,
as tables of names.
"""

from collections.abc import Mapping

NAMES: tuple[str, ...] = (
    "Neutral",
    "Happiness",
    "Sadness",
    "Surprise",
    "Fear",
    "Disgust",
    "Anger",
    "Contempt",
    "None",
    "Uncertain",
    "No-Face",
)
"""Expression names; the position is the AffectNet code (0 to 10)."""

CODES: Mapping[str, int] = {name: code for code, name in enumerate(NAMES)}

NOT_EXPRESSIONS: tuple[str, ...] = ("None", "Uncertain", "No-Face")
"""Codes a list may hold that name no expression: listed and counted, never trained on."""

VOTE_NAMES: tuple[str, ...] = (*NAMES[:8], "Unknown", "No-Face")
"""Order of the ten vote counts in the `votes` column (FER+ has ten annotators a picture)."""

_ALIASES: Mapping[str, str] = {
    "neutrality": "Neutral",
    "calm": "Neutral",
    "happy": "Happiness",
    "joy": "Happiness",
    "smile": "Happiness",
    "smiling": "Happiness",
    "sad": "Sadness",
    "surprised": "Surprise",
    "fearful": "Fear",
    "afraid": "Fear",
    "scared": "Fear",
    "disgusted": "Disgust",
    "angry": "Anger",
    "contemptuous": "Contempt",
    "noface": "No-Face",
    "nf": "No-Face",
    "unknown": "Uncertain",
}


def _key(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())


_BY_KEY: Mapping[str, str] = {_key(name): name for name in NAMES} | {
    _key(alias): name for alias, name in _ALIASES.items()
}


def expression_name(text: str) -> str | None:
    """The expression that `text` means (case, blanks, dashes and known aliases apart), or None."""
    return _BY_KEY.get(_key(text))


def known_aliases() -> str:
    """Every spelling that `expression_name` accepts, for error messages."""
    return ", ".join(sorted(_BY_KEY))
