"""The labelling page: password, choice of study and name, one picture after another, thanks.

What an annotator sees and sends is decided in `labelling`; how a picture is shown, in `panel`.
"""

import logging
import math
import secrets
from collections.abc import Callable
from functools import partial

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from fer_pipeline.app.gate import Gate
from fer_pipeline.app.keys import keys_for
from fer_pipeline.app.labelling import Labelling, Showing
from fer_pipeline.app.panel import pressed, show_panel
from fer_pipeline.app.pictures import Pictures
from fer_pipeline.app.words import NO_STUDY, NOT_STORED, pace_words, place_words, plain, study_words
from fer_pipeline.core.answers import ANNOTATOR_LENGTH, AnswerStore, checked_annotator
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.study import NOT_A_FACE, UNSURE, Study, studies_in
from fer_pipeline.settings import Settings

_log = logging.getLogger(__name__)

_VIEWS = {"whole": "The whole photo, the face framed", "crop": "Only the face"}
PROXY_HEADER = "X-Fer-Review-Password"
_AHEAD = 2
"""Pictures that the browser has before they are wanted."""
_READ_AHEAD = 8
_STYLE = """<style>
.stMainBlockContainer { padding: 1.2rem 1rem 1rem; max-width: 52rem; }
.stAppHeader { height: 0; min-height: 0; }
</style>"""


def show() -> None:
    """Make the page for what this visitor has done so far."""
    st.set_page_config(page_title="Label faces", layout="centered")
    st.html(_STYLE)
    try:
        if _is_in():
            labelling = st.session_state.get("labelling") or _from_address()
            if labelling is None:
                _choose()
            else:
                _label(labelling)
    except InputError as error:
        st.error(plain(str(error)))


def _is_in() -> bool:
    """Whether the visitor needs no password, or has given it; else ask for it."""
    wanted = _settings().review_password
    if not wanted or st.session_state.get("in"):
        return True
    gate = _gate(wanted.get_secret_value())
    # A proxy that has asked who comes sends the password for them.
    sent = st.context.headers.get(PROXY_HEADER)
    if sent and gate.admits(_written(sent)):
        st.session_state["in"] = True
        return True
    with st.form("password"):
        given = st.text_input("Password", type="password", autocomplete="current-password")
        if st.form_submit_button("Open") and given:
            if gate.admits(given):
                st.session_state["in"] = True
                st.rerun()
            wait = math.ceil(gate.seconds_closed)
            st.error(f"That is not the password, or it came too soon: try again in {wait} s.")
    return False


def _written(header: str) -> str:
    """What a header says whose bytes, which the proxy writes in UTF-8, came as Latin-1."""
    return header.encode("latin-1", "replace").decode(errors="replace")


def _from_address() -> Labelling | None:
    """Go on where the page's address says: after a reload, or when the server was started anew."""
    wanted = st.query_params
    if not {"stream", "study", "name", "view"} <= set(wanted):
        return None
    key = f"{wanted['stream']}/{wanted['study']}"
    for study in studies_in(_settings().studies_folder):
        if study.key == key:
            return _begin(study, checked_annotator(wanted["name"]), wanted["view"] == "whole")
    return None


def _choose() -> None:
    """Ask for stream, study, name and view."""
    st.title("What do these faces show?")
    studies = studies_in(_settings().studies_folder)
    if not studies:
        st.info(NO_STUDY)
        return
    streams = list(dict.fromkeys(study.stream for study in studies))
    stream = st.selectbox("Stream", streams)
    study = st.selectbox(
        "Study",
        [study for study in studies if study.stream == stream],
        format_func=study_words,
        key=f"study-{stream}",
    )
    with st.form("who"):
        st.text_input("Your name", max_chars=ANNOTATOR_LENGTH, autocomplete="nickname", key="name")
        st.radio("Show", list(_VIEWS), format_func=lambda kind: _VIEWS[kind], key="view")
        st.form_submit_button("Start", type="primary", on_click=_start, args=(study,))
    if wrong := st.session_state.pop("wrong", None):
        st.error(plain(wrong))
    _explain(study)


def _explain(study: Study) -> None:
    keys = keys_for(study.classes)
    st.markdown(
        "Say what each face shows at first sight. Each answer is stored before the next picture "
        "comes, so stop when you like: the same name goes on where it stopped. Keys: "
        + ", ".join(f"`{key}` {plain(name)}" for name, key in keys.items())
        + ", `z` or `Backspace` undo, `Esc` pause."
    )


def _start(study: Study) -> None:
    state = st.session_state
    try:
        _begin(study, checked_annotator(state["name"]), state["view"] == "whole")
    except InputError as error:
        state["wrong"] = str(error)


def _begin(study: Study, annotator: str, whole: bool) -> Labelling:
    labelling = Labelling(study, annotator, _store(_settings().answers_address))
    st.session_state.update(labelling=labelling, whole=whole, said="", problem="", problem_number=0)
    st.query_params.from_dict(
        {
            "stream": study.stream,
            "study": study.name,
            "name": annotator,
            "view": "whole" if whole else "crop",
        }
    )
    return labelling


def _label(labelling: Labelling) -> None:
    showing = labelling.showing
    if showing is None:
        labelling.refresh()  # another page of the same name may have taken an answer back
        showing = labelling.showing
    if showing is None:
        _thank(labelling)
    else:
        _show_picture(labelling, showing)
    _say_who(labelling)


def _show_picture(labelling: Labelling, showing: Showing) -> None:
    study, whole = labelling.study, bool(st.session_state["whole"])
    pictures = _pictures()
    coming = labelling.upcoming(_READ_AHEAD)
    pictures.prepare(study, (showing.item, *coming), whole=whole)
    shown = [pictures.get(study, item, whole=whole) for item in (showing.item, *coming[:_AHEAD])]
    place = place_words(showing.place, labelling.total)
    show_panel(
        {
            "token": showing.token,
            "alt": f"face {place}",
            "place": place,
            "pace": pace_words(labelling.pace()),
            "total": labelling.total,
            "answered": labelling.answered,
            "said": f"{st.session_state['said']} Face {place}".strip(),
            "problem": st.session_state["problem"],
            "problem_number": st.session_state["problem_number"],
        },
        study.classes,
        shown,
        on_answer=_answered,
        on_undo=_undone,
    )


def _answered() -> None:
    sent = pressed("answer")
    choice, milliseconds = sent.get("choice"), sent.get("milliseconds")
    spent = milliseconds if isinstance(milliseconds, int) else None

    def store(labelling: Labelling) -> bool:
        choices = labelling.study.choices
        if not isinstance(choice, int) or not 0 <= choice < len(choices):
            return False
        return labelling.answer(str(sent.get("token")), choices[choice], spent)

    _try(store, "Stored.")


def _undone() -> None:
    token = str(pressed("undo").get("token"))
    _try(lambda labelling: labelling.undo(token), "Taken back.")


def _try(change: Callable[[Labelling], bool], said: str) -> None:
    """Change what is stored; when that fails, say so and keep the picture."""
    state = st.session_state
    labelling = state.get("labelling")
    if labelling is None:
        return  # what was pressed came after the annotator had left
    state["problem"] = state["said"] = ""
    try:
        state["said"] = said if change(labelling) else ""
    except (InputError, SQLAlchemyError):
        _log.exception("an answer of %s was not stored", labelling.annotator)
        state["problem"] = NOT_STORED
        state["problem_number"] = secrets.randbits(31)


def _thank(labelling: Labelling) -> None:
    st.success(f"Thank you: all {labelling.total:,} pictures of this study have your answer.")
    # How often each class was chosen would tell something of the labels to who knows the sample.
    given = labelling.given()
    st.text(f"Unsure: {given[UNSURE]:,}. Not a face: {given[NOT_A_FACE]:,}.")
    undo = partial(_try, lambda shown: shown.undo(""), "Taken back.")
    st.button("Undo the last answer", shortcut="z", on_click=undo)
    if st.session_state["problem"]:
        st.error(plain(st.session_state["problem"]))


def _say_who(labelling: Labelling) -> None:
    who, leave = st.columns([3, 2], vertical_alignment="center")
    who.text(f"{labelling.study.key}, {labelling.annotator}")
    leave.button("Another name or study", width="stretch", on_click=_leave)


def _leave() -> None:
    st.session_state.pop("labelling")
    st.query_params.clear()


@st.cache_resource(show_spinner=False)
def _settings() -> Settings:
    return Settings.load()


@st.cache_resource(show_spinner=False)
def _store(address: str) -> AnswerStore:
    return AnswerStore(address)


@st.cache_resource(show_spinner=False)
def _pictures() -> Pictures:
    return Pictures()


@st.cache_resource(show_spinner=False)
def _gate(password: str) -> Gate:
    return Gate(password)
