"""The eleven expression codes, their names and aliases.

The only module that knows which number means which expression, of AffectNet (the codes that
everything else speaks) and of the other data sets; `fer-pipeline labels` prints it.
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

AFFECTNET: Mapping[str, str] = {str(code): name for code, name in enumerate(NAMES)}
"""What AffectNet's lists write, first release and later ones (Mollahosseini et al., 2017)."""

FER2013: Mapping[str, str] = {
    "0": "Anger",
    "1": "Disgust",
    "2": "Fear",
    "3": "Happiness",
    "4": "Sadness",
    "5": "Surprise",
    "6": "Neutral",
}
"""What FER2013 (Goodfellow et al., 2013) and ExpW (Zhang et al., 2018) write."""

RAF_DB: Mapping[str, str] = {
    "1": "Surprise",
    "2": "Fear",
    "3": "Disgust",
    "4": "Happiness",
    "5": "Sadness",
    "6": "Anger",
    "7": "Neutral",
}
"""What RAF-DB's basic list writes (Li et al., 2017)."""

CK_PLUS: Mapping[str, str] = {
    "0": "Neutral",
    "1": "Anger",
    "2": "Contempt",
    "3": "Disgust",
    "4": "Fear",
    "5": "Happiness",
    "6": "Sadness",
    "7": "Surprise",
}
"""What CK+'s emotion files write (Lucey et al., 2010)."""

FEI: Mapping[str, str] = {"a": "Neutral", "b": "Happiness"}
"""What the letter in a frontal FEI picture's name says (Thomaz and Giraldi, 2010)."""

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


def vote_place(text: str) -> int | None:
    """The place in VOTE_NAMES of what a column of votes is named, or None."""
    name = "Unknown" if _key(text) == "unknown" else expression_name(text)
    return VOTE_NAMES.index(name) if name in VOTE_NAMES else None


def known_aliases() -> str:
    """Every spelling that `expression_name` accepts, for error messages."""
    return ", ".join(sorted(_BY_KEY))


def spellings(name: str) -> tuple[str, ...]:
    """The words that `expression_name` takes for an expression, its own name first.

    Case, blanks, dashes and underscores don't matter.
    """
    return (name.casefold(), *(alias for alias, meant in _ALIASES.items() if meant == name))


def known_labels(written: Mapping[str, str]) -> str:
    """What lists may write, for error messages: the numbers of a format's table, and names."""
    numbers = ", ".join(f"{label} {name}" for label, name in written.items())
    return f"{numbers}; or a name: {known_aliases()}" if numbers else f"names: {known_aliases()}"
