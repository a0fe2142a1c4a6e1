"""The panel of the page: one picture, its buttons and keys, as a component of Streamlit.

`panel.js` holds what happens in the browser. All that it is told of a picture is an address made of
the picture's own bytes, and where the annotator is.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import streamlit as st
from streamlit.runtime import get_instance

from fer_pipeline.app.keys import PAUSE, UNDO, keys_for

KEY = "panel"
"""Where the panel's answers stand in the session's state."""


def show_panel(
    facts: Mapping[str, Any],
    classes: Sequence[str],
    pictures: Sequence[bytes],
    *,
    on_answer: Callable[[], None],
    on_undo: Callable[[], None],
) -> None:
    """Show the first of these pictures, and let the browser fetch the others before it needs them.

    `facts` goes to `panel.js` as it is. The callbacks are called before the page is made again;
    `pressed` then says what was pressed.
    """
    address, *following = [_address(data, f"{KEY}.{place}") for place, data in enumerate(pictures)]
    data = {
        **facts,
        "picture": address,
        "next": following,
        "choices": [(name[:1].upper() + name[1:], key) for name, key in keys_for(classes).items()],
        "undo_keys": [UNDO, "Backspace"],
        "pause_key": PAUSE,
    }
    _component()(key=KEY, data=data, on_answer_change=on_answer, on_undo_change=on_undo)


def pressed(name: str) -> Mapping[str, Any]:
    """What `panel.js` sent under this name; empty when it isn't what it sends."""
    value = getattr(st.session_state.get(KEY), name, None)
    return value if isinstance(value, Mapping) else {}


@st.cache_resource(show_spinner=False)
def _component() -> Callable[..., Any]:
    folder = files("fer_pipeline.app")
    html, css, js = (
        (folder / f"panel.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    return st.components.v2.component("fer_panel", html=html, css=css, js=js)


def _address(data: bytes, slot: str) -> str:
    """Serve a picture as `st.image` does, which would leave no say in its alternative text.

    The address is a hash of the bytes; it goes when the session shows something else.
    """
    return get_instance().media_file_mgr.add(data, "image/jpeg", slot)
