"""What the doctor finds of databases and servers: do they answer, does their schema fit?"""

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version

from fer_pipeline.core.answers_database import database_address, is_missing_file
from fer_pipeline.core.errors import InputError
from fer_pipeline.operations import databases
from fer_pipeline.operations.databases import Answer, ask, ask_mlflow_server, shown, wanted_schema
from fer_pipeline.operations.findings import Finding, ok, problem, warning
from fer_pipeline.settings import Settings

_SKEW_SECONDS = 60.0
"""How far two clocks may be apart before order of events is told wrongly."""


def dagster_history(settings: Settings) -> Iterator[Finding]:
    """Dagster's runs, events and schedules."""
    known = databases.dagster_databases(settings)
    if not known:
        yield ok("Dagster", "no history yet: the first run makes it")
    wanted = wanted_schema("dagster")
    for name, url in known.items():
        try:
            answer = ask(url)
        except InputError as error:
            yield problem(
                "Dagster",
                f"{name}: {error}",
                "see that it is there, running and whole, and the name and password right",
            )
            continue
        yield from _schema("Dagster", name, answer, wanted, "dagster instance migrate")
        yield from _clock(name, answer)


def mlflow_registry(settings: Settings) -> Iterator[Finding]:
    """MLflow's server, or the file in the home, and the server's database where it is named."""
    server = settings.mlflow_tracking_uri
    if server is not None and server.startswith(("http://", "https://")):
        try:
            answer = ask_mlflow_server(server)
        except InputError as error:
            yield problem(
                "MLflow", str(error), "start it, or give FER_MLFLOW_TRACKING_URI its address"
            )
        else:
            mine = version("mlflow")
            words = f"its server answers, version {answer.version}"
            if _minor(answer.version) == _minor(mine):
                yield ok("MLflow", words)
            else:
                yield warning(
                    "MLflow", f"{words}, and {mine} is installed here", "install the same version"
                )
            yield from _clock("MLflow's server", answer)
    url = databases.mlflow_database(settings)
    if url is None:
        return
    if is_missing_file(url):
        yield ok("MLflow", "no database yet: the first training makes it")
        return
    try:
        answer = ask(url)
    except InputError as error:
        yield problem("MLflow", f"its database: {error}", "see that it is there, running and whole")
        return
    remedy = "after a backup: mlflow db upgrade ADDRESS"
    yield from _schema("MLflow", shown(url), answer, wanted_schema("mlflow"), remedy)


def answers(settings: Settings) -> Iterator[Finding]:
    """The database of people's answers."""
    url = settings.answers_address
    if is_missing_file(url):
        yield ok("answers", "no database yet: the first answer makes it")
        return
    try:
        answer = ask(database_address(url))
        count = databases.count_rows(database_address(url), "answers")
    except InputError as error:
        yield problem(
            "answers",
            str(error),
            "see that it is there, running and whole, and FER_ANSWERS_URL right",
        )
        return
    yield ok("answers", f"{count:,} answers in {shown(url)}")
    yield from _clock("the answers' database", answer)


def _schema(
    subject: str, name: str, answer: Answer, wanted: str | None, remedy: str
) -> Iterator[Finding]:
    if answer.schema is None:
        yield problem(subject, f"{name} answers and has no tables", f"start {subject} once")
    elif wanted is None or answer.schema == wanted:
        yield ok(subject, f"{name} answers, schema {answer.schema}")
    else:
        yield problem(
            subject,
            f"{name} has the schema {answer.schema}, and the installed package wants {wanted}",
            remedy,
        )


def _clock(name: str, answer: Answer) -> Iterator[Finding]:
    if answer.clock is None:
        return
    apart = databases.now() - answer.clock
    if abs(apart) > _SKEW_SECONDS:
        where = "ahead of" if apart > 0 else "behind"
        yield problem(
            "clock",
            f"this machine's clock is {abs(apart):,.0f} s {where} that of {name}",
            "let both follow a time server (chrony, systemd-timesyncd)",
        )
    else:
        yield ok("clock", f"within {_SKEW_SECONDS:.0f} s of {name}")


def _minor(text: str | None) -> tuple[str, ...]:
    return tuple((text or "").split(".")[:2])


LOOKS: Mapping[str, Callable[[Settings], Iterator[Finding]]] = {
    "Dagster": dagster_history,
    "MLflow": mlflow_registry,
    "answers": answers,
}
"""What is looked at, by subject."""
