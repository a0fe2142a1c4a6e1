"""What browsers say of where a request comes from."""

import pytest

from fer_pipeline.origins import is_foreign

HOST = "faces.example:8443"
OWN = f"https://{HOST}"


@pytest.mark.parametrize(
    ("said", "foreign"),
    [
        ({}, False),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": ""}, True),
        ({"sec-fetch-site": "cross-site", "origin": OWN}, True),
        ({"sec-fetch-site": "same-origin", "origin": "https://outside.example"}, False),
        ({"origin": OWN}, False),
        ({"origin": OWN.upper()}, False),
        ({"origin": "https://faces.example"}, True),
        ({"origin": "https://faces.example", "x-forwarded-host": "faces.example"}, False),
        ({"origin": "https://faces.example", "x-forwarded-host": "faces.example, inner"}, False),
        ({"origin": "https://evil.example", "x-forwarded-host": "faces.example"}, True),
        ({"origin": "null"}, True),
        ({"origin": ""}, True),
        ({"origin": "https://"}, True),
        ({"origin": f"https://evil.example/@{HOST}"}, True),
    ],
)
def test_pages_of_other_origins_are_told_apart(said: dict[str, str], foreign: bool) -> None:
    assert is_foreign({"host": HOST, **said}) == foreign
