"""The labelling page in a browser: nothing lost, nothing told, fit for keys, mouse and phone."""

import re
import signal
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from fer_pipeline.app.keys import keys_for
from fer_pipeline.assets.people import people_assets
from fer_pipeline.core.study import Study, order_for, read_study, study_path
from fer_pipeline.reports import read_people_figures
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.browser import DESKTOP, PHONE, Traffic, chromium
from fer_pipeline_tests.drawn_study import publish_drawn
from fer_pipeline_tests.graph import Ended
from fer_pipeline_tests.review_page import Annotator, Server, given, serving
from fer_pipeline_tests.review_speed import Listener, answer_many

PER_CLASS = 7
EVERYWHERE = "0.0.0.0"  # noqa: S104 - the page is to ask for a password there
PASSWORD = "open sesame"  # noqa: S105 - of a page that lives for a test
HAS_FOCUS = "button => button.getRootNode().activeElement === button"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("review")
    publish_drawn(home, per_class=PER_CLASS)
    publish_drawn(home, "eight_class", "in-doubt", kind="suspects", per_class=1)
    with serving(home) as started:
        yield started


@pytest.fixture
def study(server: Server) -> Study:
    return read_study(study_path(server.home / "studies", "five_class", "people"))


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context(viewport=DESKTOP)
    opened.set_default_timeout(20_000)
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def label_all_with_a_kill_on_the_way(server: Server, study: Study, page: Page) -> None:
    """Thirty answers by keyboard, SIGKILL, the thirty-first, one taken back, the rest."""
    ann = Annotator(page, server, study, "Ann")
    keys = keys_for(study.classes)
    total = len(study)
    pressed = ("nhspaux" * total)[: total - 1]
    ann.choose()
    for place in range(1, 31):
        ann.answer(pressed[place - 1], place)

    assert server.kill() == 1
    server.start()

    assert given(ann.stored(), keys) == pressed[:30]
    # The page finds the server again by itself, and says so until then.
    page.get_by_role("dialog").wait_for(state="detached", timeout=60_000)
    ann.answer("x", 31)
    page.keyboard.press("z")
    ann.sees(31)
    for place in range(31, total):
        ann.answer(pressed[place - 1], place)
    ann.answer("h", total)
    assert page.get_by_text(f"all {total} pictures").count() == 1

    answers = ann.stored()
    assert given(answers, keys) == pressed + "h"
    assert [answer.item for answer in answers] == order_for(study, "Ann")
    assert [answer.shown_order for answer in answers] == list(range(total))
    repeats = study.items["repeat_of"].to_pylist()
    assert all(answer.repeat == (repeats[answer.item] is not None) for answer in answers)


def test_answers_survive_a_kill_and_the_study_goes_on_where_it_stopped(
    server: Server, study: Study, page: Page
) -> None:
    label_all_with_a_kill_on_the_way(server, study, page)


@pytest.mark.usefixtures("own_environment")
def test_answers_on_real_photos_survive_a_kill(
    real_data: Path, tmp_path: Path, page: Page, here: Callable[..., Ended]
) -> None:
    """The five-class sample that the command line draws from a real data set, to its report."""
    home = tmp_path / "home"
    made = graph.small_settings(real_data / "affectnet-layout", home, streams=("five_class",))
    made.remember()
    with graph.instance_of(home) as instance:
        assert graph.materialize(made, graph.EARLY_ASSETS[:4], instance).success
    assert here("study", "new", "--home", home, "--per-class", PER_CLASS).code == 0
    study = read_study(study_path(home / "studies", "five_class", "people"))
    with serving(home) as server:
        label_all_with_a_kill_on_the_way(server, study, page)
    settings = Settings.load(home=home, resamples=100)
    human_error_report = people_assets(settings, "five_class")[1]
    human_error_report(dg.build_asset_context(), settings=settings)
    found = read_people_figures(settings, "five_class")["people"]
    assert found["answers"] + found["repeats"] == len(study)
    assert [one["annotator"] for one in found["by_annotator"]] == ["Ann"]


def test_two_people_at_once_see_other_orders_and_keep_their_own_answers(
    server: Server, study: Study, browser: Browser
) -> None:
    contexts = [browser.new_context(viewport=DESKTOP) for _ in range(2)]
    names = ("Berta", "<i>Carl</i> | *x* [y](http://z)")
    people = [
        Annotator(context.new_page(), server, study, name)
        for context, name in zip(contexts, names, strict=True)
    ]
    for person in people:
        person.open()
    for place in range(1, 11):
        for person, key in zip(people, "hs", strict=True):
            person.sees(place)
            person.page.keyboard.press(key)
    for person, answer in zip(people, ("Happiness", "Sadness"), strict=True):
        person.sees(11)
        stored = person.stored()
        assert [one.answer for one in stored] == [answer] * 10
        assert [one.item for one in stored] == order_for(study, person.name)[:10]
        assert person.page.get_by_text(f"{study.key}, {person.name}", exact=True).count() == 1
    for context in contexts:
        context.close()


def test_two_pages_of_one_annotator_give_one_answer_a_picture(
    server: Server, study: Study, context: BrowserContext
) -> None:
    first, second = (Annotator(context.new_page(), server, study, "Dora") for _ in range(2))
    for one in (first, second):
        one.open()
        one.sees(1)
    first.answer("h", 1)
    second.page.keyboard.press("s")  # to the same picture, which has its answer
    second.sees(2)
    second.answer("n", 2)
    assert given(second.stored(), keys_for(study.classes)) == "hn"


def test_an_answer_that_cannot_be_stored_keeps_its_picture(
    server: Server, study: Study, page: Page
) -> None:
    eva = Annotator(page, server, study, "Eva")
    eva.open()
    eva.answer("h", 1)
    with sqlite3.connect(server.home / "studies.db") as database:
        database.execute("ALTER TABLE answers RENAME TO away")
    try:
        eva.sees(2)
        page.keyboard.press("a")
        page.get_by_role("alert").get_by_text("not stored").wait_for()
        eva.sees(2)
    finally:
        with sqlite3.connect(server.home / "studies.db") as database:
            database.execute("ALTER TABLE away RENAME TO answers")
    eva.answer("a", 2)
    assert page.get_by_role("alert").count() == 0
    assert given(eva.stored(), keys_for(study.classes)) == "ha"


def test_a_pause_hides_the_picture_and_stops_the_clock(
    server: Server, study: Study, page: Page
) -> None:
    fritz = Annotator(page, server, study, "Fritz")
    fritz.open()
    fritz.sees(1)
    began = time.monotonic()
    page.keyboard.press("Escape")
    assert not page.get_by_role("img").is_visible()
    page.keyboard.press("h")
    page.wait_for_timeout(1500)
    page.keyboard.press("Escape")
    assert page.get_by_role("img").is_visible()
    fritz.answer("n", 1)
    lasted = 1000 * (time.monotonic() - began)
    (answer,) = fritz.stored()
    assert answer.answer == "Neutral"
    assert answer.milliseconds < lasted - 1500


def test_a_mouse_or_a_tab_key_does_as_well_and_the_focus_stays(
    server: Server, study: Study, page: Page
) -> None:
    greta = Annotator(page, server, study, "Greta")
    greta.choose(whole=False)
    greta.sees(1)
    assert page.evaluate("new URL(location).searchParams.get('view')") == "crop"
    page.get_by_role("button", name="Surprise").click()
    greta.sees(2)
    page.keyboard.press("Tab")
    assert page.get_by_role("button", name="Anger").evaluate(HAS_FOCUS)
    page.keyboard.press("Enter")
    greta.sees(3)
    page.keyboard.press("Space")
    greta.sees(4)
    page.get_by_role("button", name="Undo").click()
    greta.sees(3)
    stored = greta.stored()
    assert [answer.answer for answer in stored] == ["Surprise", "Anger"]
    greta.hears("Taken back. Face 3")
    bar = page.get_by_role("progressbar", name="Pictures answered")
    assert bar.get_attribute("aria-valuenow") == "2"
    assert bar.get_attribute("aria-valuemax") == str(len(study))
    assert page.get_by_role("img", name=greta.alt(3)).count() == 1
    for name in (*study.classes, "Unsure", "Not a face"):
        button = page.get_by_role("group", name="What does the face show?").get_by_role(
            "button", name=name
        )
        assert button.get_attribute("aria-keyshortcuts")
    page.get_by_role("button", name="Another name or study").click()
    page.get_by_label("Your name").wait_for()
    assert page.evaluate("location.search") == ""
    page.get_by_label("Your name").fill("Greta")
    page.get_by_role("button", name="Start").click()
    greta.hears(re.compile(r"^Face 1 of"))


def test_a_key_that_is_held_down_answers_one_picture_and_a_reload_goes_on_after_it(
    server: Server, study: Study, page: Page
) -> None:
    hans = Annotator(page, server, study, "Hans")
    hans.open()
    hans.sees(1)
    for _ in range(10):
        page.keyboard.down("h")
    page.keyboard.up("h")
    hans.sees(2)
    page.wait_for_timeout(300)
    assert len(hans.stored()) == 1
    page.reload()
    hans.sees(2)


@pytest.mark.parametrize("stream", ["five_class", "eight_class"])
def test_on_a_phone_picture_and_buttons_fit_the_screen(
    server: Server, browser: Browser, stream: str
) -> None:
    name = {"five_class": "people", "eight_class": "in-doubt"}[stream]
    study = read_study(study_path(server.home / "studies", stream, name))
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = context.new_page()
    ida = Annotator(page, server, study, "Ida")
    ida.open()
    ida.sees(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    picture = ida.part("stage").bounding_box()
    assert picture is not None
    assert picture["height"] >= 250
    for button in page.locator(".choices button, .tools button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
        assert box["y"] + box["height"] <= PHONE["height"]
    page.get_by_role("button", name="Happiness").tap()
    ida.sees(2)
    context.close()


def test_nothing_that_is_sent_tells_the_label_of_a_picture(
    server: Server, study: Study, page: Page
) -> None:
    traffic = Traffic.of(page)
    jan = Annotator(page, server, study, "Jan")
    jan.open()
    for place in range(1, 21):
        jan.answer("u", place)
    page.wait_for_timeout(300)
    traffic.fetch_bodies()

    items = study.items.to_pylist()
    shown = [items[item] for item in order_for(study, "Jan")[:21]]
    assert {item["expression"] for item in shown} == set(study.classes)
    secrets = {
        item[name].encode()
        for item in items
        for name in ("face_id", "group_id", "image_path", "list")
    } | {study.sample.encode(), study.manifest_hash.encode(), b"hidden-", b"secret"}
    here = (server.address, server.address.replace("http", "ws"), f"blob:{server.address}")
    assert [address for address in traffic.asked if not address.startswith(here)] == []
    addresses = [address.encode() for address in traffic.asked]
    headers = [header.encode() for header in traffic.headers]
    own = [body for address, body in traffic.bodies.items() if "/static/" not in address]
    for sent in (*addresses, *headers, *own, *traffic.messages):
        assert not [secret for secret in secrets if secret in sent]
    for sent in (*addresses, *headers, *own):
        text = sent.decode("latin-1").lower()
        assert not [name for name in study.classes if name.lower() in text]

    # Messages name the classes on the buttons, all of them equally often, and differ from one
    # picture to the next only in addresses, tokens and numbers.
    panels = [message for message in traffic.messages if b'"token"' in message]
    assert len(panels) >= 20
    kinds = set()
    for message in traffic.messages:
        assert len({message.count(name.encode()) for name in study.classes}) == 1
    for message in panels:
        (facts,) = re.findall(rb'\{"token".*\}', message)
        kinds.add(re.sub(rb"[0-9a-f]{16,64}|\d+|under a minute|about", b"#", facts))
    assert len(kinds) <= 5  # without a pace, with one and two pictures ahead, ...

    media = f"{server.address}/media/"
    pictures = [address for address in traffic.bodies if address.startswith(media)]
    assert len(pictures) >= 20
    odd = [one for one in pictures if not re.search(r"/media/[0-9a-f]{32,}\.jpg$", one)]
    assert odd == []
    assert not [one for one in pictures if b"Exif" in traffic.bodies[one]]


def test_the_next_picture_is_there_in_a_tenth_of_a_second(
    server: Server, study: Study, page: Page
) -> None:
    """Twice as long is let pass: other work of the machine only adds, least to the fastest."""
    listener = Listener(page)
    kate = Annotator(page, server, study, "Kate")
    kate.open()
    times = answer_many(kate, listener, 25)
    assert statistics.quantiles(times.server, n=4)[0] < 0.2


def test_pages_for_others_ask_for_the_password_first(
    server: Server, study: Study, context: BrowserContext
) -> None:
    page = context.new_page()
    with serving(server.home, EVERYWHERE, FER_REVIEW_PASSWORD=PASSWORD) as guarded:
        ludwig = Annotator(page, guarded, study, "Ludwig")
        ludwig.open()
        page.get_by_label("Password", exact=True).fill("guess")
        page.get_by_role("button", name="Open").click()
        page.get_by_text("not the password").wait_for()
        assert page.locator(".panel").count() == 0
        assert page.get_by_label("Your name").count() == 0
        page.wait_for_timeout(1000)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Open").click()
        ludwig.sees(1)

        started = guarded.children()
        guarded.process.send_signal(signal.SIGTERM)
        assert guarded.process.wait(timeout=30) == 0
        _, alive = psutil.wait_procs(started, timeout=20)
        assert alive == []


@pytest.mark.usefixtures("own_environment")
def test_wrong_input_is_one_sentence(
    server: Server,
    tmp_path: Path,
    here: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for words, password, expected in (
        (("--home", server.home, "--host", EVERYWHERE), "", "FER_REVIEW_PASSWORD"),
        (("--home", tmp_path), "", "fer-pipeline study new"),
        (("--home", server.home, "--port", server.port), "", "--port"),
        (("--home", server.home, "--port", 0), "", "--port"),
        (("--home", server.home, "--port", 70000, "--host", EVERYWHERE), PASSWORD, "--port"),
    ):
        monkeypatch.setenv("FER_REVIEW_PASSWORD", password)
        ended = here("review", *words)
        assert ended.code == 2
        assert expected in ended.words
        assert "Traceback" not in ended.err
