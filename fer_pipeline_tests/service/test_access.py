"""Who may ask: those with the token, and browsers that ask this machine by its name."""

from collections.abc import Iterator

import pytest

from fer_pipeline.core.recogniser import Recogniser
from fer_pipeline.origins import LOOPBACK_NAMES, is_loopback
from fer_pipeline.service.app import create_app
from fer_pipeline_tests.service.running import Client, running

TOKEN = "s3kr\u00e9t"  # noqa: S105 - of a service that lives for a test


@pytest.fixture(scope="module")
def guarded(recogniser: Recogniser) -> Iterator[Client]:
    with running(create_app(recogniser, token=TOKEN, hosts=LOOPBACK_NAMES)) as started:
        yield started


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token.encode().decode('latin-1')}"}


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/recognise"), ("GET", "/model"), ("GET", "/metrics")],
)
def test_nothing_is_told_without_the_token(guarded: Client, method: str, path: str) -> None:
    wrong: tuple[dict[str, str], ...] = (
        {},
        bearer(""),
        bearer("s3kret"),
        bearer(TOKEN + "x"),
        {"authorization": "Basic czNrcmV0"},
        {"authorization": TOKEN.encode().decode("latin-1")},
    )
    for headers in wrong:
        answer = guarded.ask(method, path, b"", headers=headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), headers
        assert "Authorization: Bearer TOKEN" in answer.detail


def test_token_opens_and_health_needs_none(guarded: Client, group: bytes) -> None:
    assert guarded.get("/model", **bearer(TOKEN)).status == 200
    assert guarded.ask("POST", "/recognise", group, "image/png", bearer(TOKEN)).status == 200
    assert guarded.get("/health").status == 200
    described = guarded.get("/openapi.json").json
    for path, open_to_all in (("/recognise", False), ("/model", False), ("/health", True)):
        (operation,) = described["paths"][path].values()
        assert ("security" not in operation) == open_to_all
        assert ("401" not in operation["responses"]) == open_to_all


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8600", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8600", 200),
        ("evil.example", 400),
        ("evil.example:8600", 400),
        ("localhost.evil.example", 400),
        ("localhost@evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("[::1", 400),
        ("", 400),
    ],
)
def test_page_of_another_name_is_refused(guarded: Client, host: str, status: int) -> None:
    answer = guarded.get("/health", Host=host)
    assert answer.status == status
    assert status == 200 or "unknown host" in answer.detail


def test_pages_of_other_sites_may_lead_here_and_post_nothing(guarded: Client) -> None:
    def asked(method: str, path: str, site: str) -> int:
        headers = {"Sec-Fetch-Site": site, "Content-Type": "text/plain", **bearer(TOKEN)}
        return guarded.ask(method, path, b"x", headers=headers).status

    assert asked("GET", "/", "cross-site") == 200
    for path in ("/recognise", "/video"):
        assert asked("POST", path, "same-origin") == 415
        for site in ("cross-site", "same-site"):
            assert asked("POST", path, site) == 400


def test_service_with_a_token_takes_nothing_from_pages_of_other_sites(
    recogniser: Recogniser,
) -> None:
    """A proxy sends its token with whatever a browser asks that has the proxy's password."""
    headers = {**bearer(TOKEN), "Host": "recognition:8600", "Content-Type": "text/plain"}
    own = {"X-Forwarded-Host": "faces.example", "Origin": "https://faces.example"}
    with running(create_app(recogniser, token=TOKEN)) as client:
        for said, status in (
            ({}, 415),
            (own, 415),
            ({"Sec-Fetch-Site": "same-origin", "Origin": "https://faces.example"}, 415),
            ({**own, "Origin": "https://evil.example"}, 400),
            ({**own, "Sec-Fetch-Site": "cross-site"}, 400),
        ):
            answer = client.ask("POST", "/video", b"x", headers={**headers, **said})
            assert answer.status == status, said


def test_service_for_all_names_answers_to_all_names(client: Client) -> None:
    assert client.get("/health", Host="faces.example").status == 200


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - what must not count as this machine
        ("::", False),
        ("192.168.1.5", False),
        ("faces.example", False),
    ],
)
def test_addresses_that_others_reach_are_told_apart(host: str, local: bool) -> None:
    assert is_loopback(host) == local
