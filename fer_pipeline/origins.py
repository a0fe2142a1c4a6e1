"""Which site a browser says that a request comes from, and by what name it asks.

Any page of the web may have a browser send requests to this machine, with the passwords that the
browser keeps for it.
"""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_OWN = ("same-origin", "none")
"""What `Sec-Fetch-Site` says of a server's own pages and of what a person typed."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address or name that is listened on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_foreign(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a page of another origin asks; programs say nothing.

    `headers` are found by lower-case names. What the browser itself concludes counts first: it
    knows the address that it asked, also where a proxy in between asks by another one. Browsers
    that say nothing of it (older ones, and all of them where a name has no TLS) send the page's
    origin, which is compared with the address that was asked, or with what the proxy says that was.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site.strip().lower() not in _OWN
    origin = headers.get("origin")
    if origin is None:
        return False
    _, _, page = origin.lower().partition("://")
    # Of several proxies the first one adds what it was asked for first.
    asked = [headers.get(name, "").partition(",")[0] for name in ("host", "x-forwarded-host")]
    return not page or page not in [address.strip().lower() for address in asked]


def host_of(headers: Mapping[str, str]) -> str | None:
    """The name in the Host header, lower case; None where there is none that can be read."""
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:
        return None
