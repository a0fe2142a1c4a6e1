"""The files of the page as they are sent, without a browser."""

import shutil
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import pytest

from fer_pipeline.core.recogniser import Recogniser
from fer_pipeline.service import browser
from fer_pipeline.service.app import create_app
from fer_pipeline_tests.service.running import Client, running


def test_page_may_load_nothing_from_elsewhere_and_stand_in_no_other_page(client: Client) -> None:
    page = client.get("/")
    policy = page.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert not [part for part in policy if "unsafe" in part or "http" in part or "*" in part]
    assert page.headers["x-content-type-options"] == "nosniff"
    again = client.get("/", **{"If-None-Match": page.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["content-security-policy"] == page.headers["content-security-policy"]


def test_only_files_of_the_page_are_sent(
    recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = Path(str(resources.files("fer_pipeline.service") / "page"))
    shutil.copytree(page, tmp_path / "page")
    (tmp_path / "page" / "page.js~").write_text("what an editor left")
    (tmp_path / "secret.js").write_text("not of the page")
    monkeypatch.setattr(browser, "resources", SimpleNamespace(files=lambda _: tmp_path))
    with running(create_app(recogniser)) as client:
        assert client.get("/page/page.js").status == 200
        for path in ("page.js~", "../secret.js", "..%2fsecret.js", "%2e%2e/secret.js", "", "."):
            assert client.get(f"/page/{path}").status == 404, path
