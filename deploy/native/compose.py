"""The compose file as a document: its variables filled in, its services in order, their ports."""

import contextlib
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

ROOT = Path(__file__).resolve().parents[2]
_VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")


class MissingVariableError(KeyError):
    """A variable that docker-compose.yml asks for has no value."""


def load_compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """docker-compose.yml with its variables filled in, see `filled`."""
    loaded: dict[str, Any] = filled(unfilled_compose(), variables)
    return loaded


def unfilled_compose() -> dict[str, Any]:
    """docker-compose.yml as it is written."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def filled(
    part: Any, variables: Mapping[str, str], own: Callable[[str], str] = lambda text: text
) -> Any:
    """A part of the document with `${NAME:?message}` and `${NAME:-default}` replaced.

    What the file itself says, defaults included, goes through `own`; what `variables` say doesn't.
    As docker compose does it, the document was read before: a value may hold what YAML would take
    for its own. Raises MissingVariableError.
    """
    if isinstance(part, list):
        return [filled(one, variables, own) for one in part]
    if isinstance(part, dict):
        return {name: filled(one, variables, own) for name, one in part.items()}
    if not isinstance(part, str):
        return part
    done, at = "", 0
    for match in _VARIABLE.finditer(part):
        done += own(part[at : match.start()])
        found = variables.get(match[1], "")
        if not found and match[2] == "?":
            raise MissingVariableError(match[3] or match[1])
        done += found or (own(match[3]) if match[2] == "-" else "")
        at = match.end()
    return done + own(part[at:])


def read_env(path: Path) -> dict[str, str]:
    """The variables of an .env file, without its comments and quotes."""
    found = dotenv_values(path, interpolate=False, encoding="utf-8")
    return {name: value or "" for name, value in found.items()}


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address on which nothing listens, all different."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in held]


def services_in_order(compose: Mapping[str, Any]) -> list[str]:
    """The services without a profile, each after those it waits for."""
    wanted = {
        name: one.get("depends_on", {})
        for name, one in compose["services"].items()
        if not one.get("profiles")
    }
    order: list[str] = []
    while len(order) < len(wanted):
        order += [
            name
            for name, awaited in wanted.items()
            if name not in order and all(one in order for one in awaited)
        ]
    return order


def ports_of(compose: Mapping[str, Any]) -> set[int]:
    """The ports that services listen on, as their health checks ask there; the proxy's apart."""
    found = {2019}
    for service in compose["services"].values():
        words = " ".join(map(str, service["healthcheck"]["test"]))
        found |= {int(port) for port in re.findall(r"(?<=127\.0\.0\.1:)\d+|(?<=-p )\d+", words)}
    return found
