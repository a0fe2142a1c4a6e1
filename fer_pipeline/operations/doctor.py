"""`fer-pipeline doctor`: one look at everything a run needs, before it needs it.

What is looked at stands in the modules beside this one; here is the order, and what is printed.
"""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

from rich.console import Console

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.storage import as_location
from fer_pipeline.operations import doctor_databases, doctor_home, doctor_machine
from fer_pipeline.operations.findings import Finding, asked, ok, problem
from fer_pipeline.settings import DEFAULT_HOME, Settings
from fer_pipeline.terminal import print_json, say

_STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}


def doctor(home: str | None, *, as_json: bool, console: Console) -> int:
    """Look at everything and say what was found; give the exit code.

    0 when nothing is worse than a warning, 1 with a problem. Raises InputError for an address of
    a home that can't be one.
    """
    if home is not None:
        as_location(home)
    found = []
    for finding in examine(home):
        found.append(finding)
        said = finding.said + (f" ({finding.remedy})" if finding.remedy else "")
        say(console, f"{finding.subject}: {said}", head=finding.state, style=_STYLES[finding.state])
    worst = "problem" if any(one.state == "problem" for one in found) else "ok"
    if as_json:
        counts = {state: sum(one.state == state for one in found) for state in _STYLES}
        print_json({"findings": [asdict(one) for one in found], **counts})
    return int(worst == "problem")


def examine(home: str | None) -> Iterator[Finding]:
    """Everything that is found, in the order in which a run would need it."""
    settings = None
    try:
        settings = Settings.load(home=home)
    except InputError as error:
        yield from asked("settings", partial(_unreadable, str(error)), None)
    else:
        yield ok("settings", f"read, for the home {settings.home}")
    yield from asked("versions", doctor_machine.versions, settings)
    yield from asked("limits", partial(doctor_machine.limits, settings), settings)
    if settings is None:
        return
    yield from asked("home", partial(doctor_home.home, settings), settings)
    yield from asked("disk", partial(doctor_home.disk, settings), settings)
    yield from asked("data", partial(doctor_home.data, settings), settings)
    for subject, look in doctor_databases.LOOKS.items():
        yield from asked(subject, partial(look, settings), settings)
    yield from asked("clock", partial(doctor_home.clock, settings), settings)
    yield from asked("leftovers", partial(doctor_home.leftovers, settings), settings)


def _unreadable(said: str) -> Iterator[Finding]:
    yield problem(
        "settings", said, f"home, data and databases of {DEFAULT_HOME} or --home weren't looked at"
    )
