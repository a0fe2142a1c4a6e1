"""One key of the keyboard for each thing that can be answered.

`panel.js` listens for them; here is only who gets which.
"""

from collections.abc import Mapping, Sequence

from fer_pipeline.core.study import NOT_A_FACE, UNSURE

UNDO = "z"
"""Takes the last answer back; so does Backspace."""
PAUSE = "Escape"
"""Hides the picture and stops the clock; again shows it and goes on."""

_FIXED: Mapping[str, str] = {UNSURE: "u", NOT_A_FACE: "x"}
_STREAMLIT = "cr"
"""Streamlit's own pages listen for these."""
_SPARE = "1234567890"


def keys_for(classes: Sequence[str]) -> Mapping[str, str]:
    """The key of each class, of "unsure" and of "not a face", in that order; no two are the same.

    A class gets the first letter of its name that is free, or a digit when none is. Raises
    ValueError for more classes than there are keys.
    """
    taken = {*_FIXED.values(), UNDO, *_STREAMLIT}
    keys: dict[str, str] = {}
    for name in classes:
        letters = (char for char in name.casefold() if char.isascii() and char.isalpha())
        free = next((char for char in (*letters, *_SPARE) if char not in taken), None)
        if free is None:
            raise ValueError(f"no key is left for {name!r}")
        taken.add(free)
        keys[name] = free
    return {**keys, **_FIXED}
