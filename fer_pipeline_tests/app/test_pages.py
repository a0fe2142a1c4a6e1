"""What a proxy sends for a visitor who gave it a password."""

from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from fer_pipeline.app import pages
from fer_pipeline.app.gate import Gate

PASSWORD = "öffne dich"  # noqa: S105 - of a page that lives for a test


@pytest.mark.parametrize(
    ("sent", "inside"), [(PASSWORD, True), ("offne dich", False), ("\N{SNOWMAN}", False)]
)
def test_password_of_any_letters_comes_from_the_proxy(sent, inside, monkeypatch):
    # A server's headers are Latin-1, whatever their bytes are.
    header = sent.encode().decode("latin-1")
    context = SimpleNamespace(headers={pages.PROXY_HEADER: header})
    page = SimpleNamespace(context=context, session_state={}, form=_no_form)
    settings = SimpleNamespace(review_password=SecretStr(PASSWORD))
    monkeypatch.setattr(pages, "st", page)
    monkeypatch.setattr(pages, "_settings", lambda: settings)
    monkeypatch.setattr(pages, "_gate", Gate)
    if inside:
        assert pages._is_in()
        assert page.session_state == {"in": True}
    else:
        with pytest.raises(LookupError, match="password"):
            pages._is_in()


def _no_form(name):
    raise LookupError(name)
