"""The page of recognition in a browser: camera, photos and videos show what the library reads."""

import base64
import csv
import io
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from playwright.sync_api import Browser, Page, expect

from fer_pipeline.core.recogniser import Face, Recogniser
from fer_pipeline.core.starter import starter_card_file
from fer_pipeline.core.video import open_video
from fer_pipeline.service.app import create_app
from fer_pipeline.service.limits import Limits
from fer_pipeline_tests.browser import DESKTOP, PHONE, Traffic, chromium
from fer_pipeline_tests.core.small_release import encoded
from fer_pipeline_tests.service.moving import drawn, write_camera, write_film
from fer_pipeline_tests.service.running import Client, running
from fer_pipeline_tests.service.tab import SLOW, Tab, opened

TOKEN = "s3kr\u00e9t"  # noqa: S105 - of a service that lives for a test
SCENES = ("Happiness", "Surprise", "nobody", "Anger")
OTHER_NAME = "faces.example"
HOSTILE_NAME = "<img src=x onerror=alert(1)>.png"
NOTHING = "\u2013"
GIVE = """async ([event, data]) => {
    const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
    const carried = new DataTransfer();
    carried.items.add(new File([bytes], "face.jpg", { type: "image/jpeg" }));
    const all = { bubbles: true, cancelable: true };
    const given = event === "drop"
        ? new DragEvent("drop", { ...all, dataTransfer: carried })
        : new ClipboardEvent("paste", { ...all, clipboardData: carried });
    document.querySelector("#photo .stage").dispatchEvent(given);
}"""
WATCH = """() => {
    const { send } = WebSocket.prototype;
    window.order = [];
    WebSocket.prototype.send = function (data) {
        if (!order.length) this.addEventListener("message", () => order.push("answer"));
        order.push("frame");
        send.call(this, data);
    };
}"""
# The video is there before the first reading is drawn, as on a busy machine.
EARLY = """() => {
    const usual = window.requestAnimationFrame;
    const video = document.querySelector("#video video");
    window.requestAnimationFrame = (draw) => {
        queueMicrotask(() => video.dispatchEvent(new Event("loadeddata")));
        return usual(draw);
    };
}"""
HAS_NAME = """element => [
    element.labels?.[0]?.textContent, element.getAttribute("aria-label"), element.textContent,
].some((name) => name?.trim())"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def film(folder: Path) -> Path:
    return write_film(folder / "A film.webm", SCENES)


@pytest.fixture(scope="module")
def camera(folder: Path) -> Path:
    """What the browser's camera shows; read anew whenever it is started."""
    return write_camera(folder / "camera.mjpeg", [drawn("Happiness")])


@pytest.fixture(scope="module")
def browser(camera: Path) -> Iterator[Browser]:
    with chromium(
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
        f"--host-resolver-rules=MAP {OTHER_NAME} 127.0.0.1",
    ) as started:
        yield started


def best(face: Face) -> str:
    assert face.label is not None
    return face.label


def test_camera_shows_labels_bars_and_how_fast_it_is(
    browser: Browser, client: Client, recogniser: Recogniser
) -> None:
    (face,) = recogniser.read(encoded(drawn("Happiness"), "JPEG", quality=95), small=False)
    with opened(browser, client, "camera") as tab:
        traffic = Traffic.of(tab.page)
        tab.page.evaluate(WATCH)
        tab.part(".start").click()
        expect(tab.part(".verdict b")).to_have_text("Happiness", timeout=SLOW)
        expect(tab.part(".fps")).to_have_text(re.compile(r"^\d+$"))
        expect(tab.part(".latency")).to_have_text(re.compile(r"^\d+$"))
        expect(tab.page.locator(".said")).to_have_text(re.compile(r"^Happiness \d+%$"))
        shares = tab.shares(tab.part(".bars"))
        assert face.probabilities is not None
        # The picture is encoded again in the browser.
        assert shares == pytest.approx(face.probabilities, abs=0.1)
        tab.part(".stop").click()
        expect(tab.part(".start")).to_be_focused()
        expect(tab.part(".verdict b")).to_have_text(NOTHING)
        order = tab.page.evaluate("order")
        tab.page.wait_for_timeout(300)
        assert len(tab.page.evaluate("order")) <= len(order) + 1
    # A frame goes out only when there is an answer to the last one.
    assert len(order) > 10
    assert order == ["frame", "answer"] * (len(order) // 2) + ["frame"] * (len(order) % 2)
    own = (f"http://localhost:{client.port}/", f"ws://localhost:{client.port}/")
    assert [address for address in traffic.asked if not address.startswith(own)] == []


def test_real_faces_before_the_camera_get_a_label(
    real_data: Path, browser: Browser, client: Client, camera: Path
) -> None:
    usual = camera.read_bytes()
    with Image.open(real_data / "photos" / "happy.jpg") as picture:
        write_camera(camera, [np.asarray(ImageOps.pad(picture.convert("RGB"), (640, 480)))])
    try:
        with opened(browser, client, "camera") as tab:
            tab.part(".start").click()
            expect(tab.part(".verdict b")).to_have_text("Happiness", timeout=SLOW)
            expect(tab.part(".fps")).to_be_visible()
    finally:
        camera.write_bytes(usual)


def test_photo_shows_the_probabilities_of_the_library_for_each_face(
    browser: Browser, client: Client, recogniser: Recogniser, group: bytes
) -> None:
    faces = recogniser.read(group)
    assert len(faces) == 3
    with opened(browser, client, "photo") as tab:
        tab.choose({"name": "group.png", "mimeType": "image/png", "buffer": group})
        expect(tab.part(".count")).to_have_text("3 faces")
        for card, face in zip(tab.part(".face").all(), faces, strict=True):
            assert card.locator(".verdict b").inner_text() == face.label
            assert tab.shares(card.locator(".bars")) == pytest.approx(face.probabilities, abs=1e-3)
        expect(tab.page.locator(".said")).to_have_text(re.compile(rf"^3 faces\. {best(faces[0])}"))
        ratio = tab.part(".stage").evaluate("stage => stage.clientWidth / stage.clientHeight")
        assert ratio == pytest.approx(840 / 320, abs=0.02)


def test_a_picture_can_be_one_face_and_can_be_dropped_and_pasted(
    browser: Browser, client: Client, recogniser: Recogniser
) -> None:
    data = encoded(drawn("Surprise"), "JPEG", quality=95)
    whole = recogniser.read(data, whole=True)[0]
    with opened(browser, client, "photo") as tab:
        for event in ("drop", "paste"):
            with tab.page.expect_response("**/recognise"):
                tab.page.evaluate(GIVE, [event, base64.b64encode(data).decode()])
            expect(tab.part(".count")).to_have_text("1 face")
            expect(tab.part(".verdict b")).to_have_text("Surprise")
        tab.part(".whole").check()
        # The box is the whole picture then, and others are the probabilities.
        share = f"{100 * max((whole.probabilities or {}).values()):.1f}%"
        expect(tab.part(".verdict span")).to_have_text(share)
        assert tab.shares(tab.part(".bars")) == pytest.approx(whole.probabilities, abs=1e-3)


def test_a_picture_without_a_face_and_a_file_that_is_none_are_told(
    browser: Browser, client: Client
) -> None:
    with opened(browser, client, "photo") as tab:
        nobody = encoded(drawn("nobody"))
        tab.choose({"name": HOSTILE_NAME, "mimeType": "image/png", "buffer": nobody})
        expect(tab.part(".empty")).to_contain_text("No face was found.")
        tab.choose({"name": "note.jpg", "mimeType": "image/jpeg", "buffer": b"a note"})
        expect(tab.problem).to_contain_text("The picture can't be read")
        expect(tab.part(".curtain")).to_be_visible()
        tab.choose({"name": HOSTILE_NAME, "mimeType": "image/png", "buffer": nobody})
        expect(tab.problem).to_be_hidden()
    with opened(browser, client, "video") as tab:
        tab.choose({"name": "film.mp4", "mimeType": "video/mp4", "buffer": bytes(range(256)) * 9})
        expect(tab.problem).to_contain_text("The file can't be read as a video")


def test_no_boxes_stand_elsewhere_where_the_browser_turns_a_picture_otherwise(
    browser: Browser, client: Client, group: bytes
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(io.BytesIO(group)) as picture:
        lying = np.ascontiguousarray(np.rot90(np.asarray(picture)))
    with opened(browser, client, "photo") as tab:
        for kind, seen in (("JPEG", True), ("WEBP", False)):
            data = encoded(lying, kind, exif=exif)
            tab.choose({"name": f"lying.{kind}", "mimeType": "", "buffer": data})
            expect(tab.part(".pace")).to_contain_text(re.compile(r"^840 . 320 "))
            expect(tab.part(".face")).to_have_count(3)
            assert tab.part(".view").is_visible() == seen
            assert tab.part(".curtain").is_hidden() == seen


def test_a_file_beyond_the_limit_is_told_its_limit(
    browser: Browser, recogniser: Recogniser, group: bytes
) -> None:
    limits = Limits(body_bytes=10_000, video_bytes=10_000)
    with running(create_app(recogniser, limits)) as small:
        for tab, kind in (("photo", "image/png"), ("video", "video/mp4")):
            with opened(browser, small, tab) as given:
                given.choose({"name": "large", "mimeType": kind, "buffer": group})
                expect(given.problem).to_contain_text("more than 10,000 bytes")


def test_video_is_drawn_over_time_and_its_table_holds_every_reading(
    browser: Browser, client: Client, recogniser: Recogniser, film: Path
) -> None:
    with open_video(film) as video:
        frames = list(video)[::5]
    read = [recogniser.read(frame.pixels, order="bgr", small=False) for frame in frames]
    with opened(browser, client, "video") as tab:
        tab.page.evaluate(EARLY)
        tab.choose(film)
        tab.part(".csv:enabled").wait_for()
        expect(tab.part(".pace")).to_have_text(f"{len(frames)} readings")
        slider = tab.page.get_by_role("slider", name="Moment of the video")
        assert slider.get_attribute("aria-valuemax") == str(len(frames) - 1)
        slider.focus()
        tab.page.keyboard.press("Home")
        for faces in read:
            expect(slider).to_have_attribute(
                "aria-valuetext", re.compile(best(faces[0]) if faces else "no face")
            )
            tab.page.keyboard.press("ArrowRight")
        expect(tab.part(".verdict b")).to_have_text(best(read[-1][0]))
        assert tab.part("video").evaluate("video => video.currentTime") == pytest.approx(
            frames[-1].seconds, abs=0.01
        )
        expect(tab.part(".area")).to_have_count(len(recogniser.classes))
        box = slider.bounding_box()
        assert box is not None
        tab.page.mouse.move(box["x"] + 60, box["y"] + 60)
        expect(tab.part(".verdict b")).to_have_text(best(read[0][0]))
        with tab.page.expect_download() as download:
            tab.part(".csv").click()
        assert download.value.suggested_filename == "A film-expressions.csv"
        rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert [float(row["time"]) for row in rows] == pytest.approx([f.seconds for f in frames])
    assert [row["label"] for row in rows] == [best(one[0]) if one else "" for one in read]
    assert {row["status"] for row in rows} == {"ok", "no_face"}
    for row, faces in zip(rows, read, strict=True):
        for name, share in (faces[0].probabilities or {}).items() if faces else ():
            assert float(row[f"p_{name.lower()}"]) == pytest.approx(share, abs=1e-5)


def test_a_token_is_asked_for_kept_for_the_tab_and_opens_all_of_it(
    browser: Browser, recogniser: Recogniser, group: bytes, film: Path
) -> None:
    with running(create_app(recogniser, token=TOKEN)) as guarded:
        context = browser.new_context(viewport=DESKTOP, permissions=["camera"])
        page = context.new_page()
        page.set_default_timeout(SLOW)
        traffic = Traffic.of(page)
        page.goto(f"http://localhost:{guarded.port}/")
        expect(page.get_by_role("dialog")).to_be_visible()
        for _ in range(3):
            page.keyboard.press("Escape")
        for token in ("guess", TOKEN):
            page.get_by_role("textbox", name="Token").fill(token)
            page.get_by_role("button", name="Go on").click()
            if token != TOKEN:
                expect(page.locator("#token [role=alert]")).to_contain_text("token")
        expect(page.get_by_role("dialog")).to_be_hidden()
        page.locator("#camera .start").click()
        expect(page.locator("#camera .verdict b")).to_have_text("Happiness")
        page.reload()
        page.get_by_role("tab", name="Photo").click()
        photo, video = Tab(page, "photo"), Tab(page, "video")
        photo.choose({"name": "group.png", "mimeType": "image/png", "buffer": group})
        expect(photo.part(".face")).to_have_count(3)
        page.get_by_role("tab", name="Video").click()
        video.choose(film)
        video.part(".csv:enabled").wait_for()
        assert not [address for address in traffic.asked if "s3kr" in address]
        context.close()


def test_page_says_how_often_the_model_is_wrong(browser: Browser, client: Client) -> None:
    card = " ".join(starter_card_file().read_text(encoding="utf-8").split())
    told = re.search(r"Accuracy (0\.\d+) \(.*? on ([\d,]+) test faces", card)
    assert told is not None
    wrong = round(100 - 100 * float(told[1]))
    with opened(browser, client, "photo") as tab:
        expect(tab.page.locator("#accuracy")).to_have_text(
            f"On {told[2]} test faces it named another expression than the label in {wrong} of 100."
        )
        expect(tab.page.locator("#facts")).to_contain_text("faces of FER2013")


def test_without_a_camera_the_page_says_why(browser: Browser, client: Client) -> None:
    with opened(browser, client, "camera", permissions=[]) as tab:
        tab.part(".start").click()
        expect(tab.problem).to_contain_text("allow it in the address bar")
        expect(tab.part(".start")).to_be_visible()
    # A browser takes another name for another machine, and wants HTTPS there.
    with opened(browser, client, "camera", host=OTHER_NAME, permissions=[]) as tab:
        tab.part(".start").click()
        expect(tab.problem).to_contain_text("HTTPS")


def test_a_server_that_ends_is_told(browser: Browser, recogniser: Recogniser) -> None:
    with ExitStack() as service:
        client = service.enter_context(running(create_app(recogniser)))
        with opened(browser, client, "camera") as tab:
            tab.part(".start").click()
            tab.part(".fps").wait_for()
            service.close()
            expect(tab.problem).to_contain_text("broke off")
            expect(tab.part(".start")).to_be_visible()
            tab.page.get_by_role("tab", name="Photo").click()
            photo = Tab(tab.page, "photo")
            photo.choose({"name": "a.png", "mimeType": "image/png", "buffer": b"picture"})
            expect(photo.problem).to_contain_text("can't be reached")


def test_a_camera_that_rested_goes_on_over_another_connection(
    browser: Browser, recogniser: Recogniser
) -> None:
    with (
        running(create_app(recogniser, Limits(silence=0.5))) as client,
        opened(browser, client, "camera") as tab,
    ):
        with tab.page.expect_websocket() as first:
            tab.part(".start").click()
        tab.part(".fps").wait_for()
        # As in a page in the background, no frames come.
        tab.part(".view").evaluate("video => video.pause()")
        first.value.wait_for_event("close")
        with tab.page.expect_websocket() as second:
            tab.part(".view").evaluate("video => video.play()")
        second.value.wait_for_event("framereceived")
        expect(tab.part(".stop")).to_be_visible()
        expect(tab.problem).to_be_hidden()


def test_keys_reach_all_of_it(browser: Browser, client: Client) -> None:
    with opened(browser, client, "camera") as tab:
        page = tab.page
        page.get_by_role("tab", name="Camera").focus()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tab", name="Photo", selected=True)).to_be_focused()
        page.keyboard.press("End")
        expect(page.get_by_role("tabpanel", name="Video")).to_be_visible()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Tab")
        expect(tab.part(".start")).to_be_focused()
        page.keyboard.press("Enter")
        expect(tab.part(".stop")).to_be_focused()
        for element in page.locator("button, select, input").all():
            assert element.evaluate(HAS_NAME), element.evaluate("element => element.outerHTML")


def test_on_a_phone_nothing_is_cut_off(
    browser: Browser, client: Client, group: bytes, film: Path
) -> None:
    settings = {"viewport": PHONE, "is_mobile": True, "has_touch": True}
    with opened(browser, client, "camera", **settings) as camera:
        page = camera.page
        camera.part(".start").tap()
        camera.part(".fps").wait_for()
        fits(page)
        page.get_by_role("tab", name="Photo").tap()
        photo, video = Tab(page, "photo"), Tab(page, "video")
        photo.choose({"name": "group.png", "mimeType": "image/png", "buffer": group})
        expect(photo.part(".face")).to_have_count(3)
        fits(page)
        page.get_by_role("tab", name="Video").tap()
        video.choose(film)
        video.part(".csv:enabled").wait_for()
        fits(page)


def fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for button in page.locator("button:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
