"""Who is told of failures and new champions, what of, and that nobody hears a secret."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fer_pipeline import champion, tracking
from fer_pipeline.automation.failures import failure_sensors
from fer_pipeline.core.challenge import Verdict
from fer_pipeline.core.errors import InputError
from fer_pipeline.failures import first_problem
from fer_pipeline.operations.alerts import alert
from fer_pipeline.registry import Registry
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.automation.ticks import STREAM, schedule_tick
from fer_pipeline_tests.operations.listeners import Mailbox, Webhook, mailbox, webhook
from fer_pipeline_tests.system import free_ports


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as found:
        yield found


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as found:
        yield found


def _settings(home: Path, **options: Any) -> Settings:
    return Settings.fresh(home=home, streams=(STREAM,), **options)


def test_webhook_and_mail_get_one_line_of_text(tmp_path: Path, hook: Webhook, box: Mailbox) -> None:
    mail = f"smtp://ann:p%40ss@127.0.0.1:{box.port}/?to=a@b.org&to=c@d.org&from=fer@b.org"
    settings = _settings(tmp_path, alert_url=hook.address, alert_mail=mail)
    assert alert(settings, "one\nline  of text") == 2
    assert hook.texts == ["one line of text"]
    (message,) = box.messages
    assert "To: a@b.org, c@d.org\r\n" in message
    assert "From: fer@b.org\r\n" in message
    assert "Subject: one line of text\r\n" in message
    assert message.endswith("one line of text\r\n")
    assert any(words.startswith("AUTH PLAIN ") for words in box.commands)


def test_nobody_is_told_where_nobody_is_named(tmp_path: Path) -> None:
    assert alert(_settings(tmp_path), "text") == 0


def test_alert_that_fails_is_logged_without_the_address_and_stops_nothing(
    tmp_path: Path, hook: Webhook, box: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    hook.status, box.login = 500, b"535 no p@ss here"
    mail = f"smtp://ann:p%40ss@127.0.0.1:{box.port}/?to=a@b.org"
    with caplog.at_level(logging.WARNING):
        assert alert(_settings(tmp_path, alert_url=hook.address, alert_mail=mail), "text") == 0
        (port,) = free_ports(1)
        gone = f"http://127.0.0.1:{port}/secret-path"
        assert alert(_settings(tmp_path, alert_url=gone), "text") == 0
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "an alert didn't reach the webhook: it answered 500",
        "an alert didn't reach the mail server: it answered 535",
        "an alert didn't reach the webhook: Connection refused",
    ]


def test_password_is_not_sent_in_clear_to_another_machine(
    tmp_path: Path, box: Mailbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fer_pipeline.operations.alerts.is_loopback", lambda _: False)
    mail = f"smtp://ann:p%40ss@127.0.0.1:{box.port}/?to=a@b.org"
    assert alert(_settings(tmp_path, alert_mail=mail), "text") == 0
    assert "offers no encryption" in caplog.text
    assert box.messages == []


def test_addresses_show_in_no_print_of_the_settings(tmp_path: Path) -> None:
    settings = _settings(
        tmp_path,
        alert_url="https://hooks.example/very-secret",
        alert_mail="smtp://ann:very-secret@mail.example/?to=a@b.org",
        mlflow_database="postgresql://fer:very-secret@db/mlflow",
        mlflow_files=tmp_path,
    )
    assert "very-secret" not in f"{settings!r} {settings} {settings.model_dump(mode='json')}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alert_url", "ftp://very-secret/x"),
        ("alert_url", "https://host:very-secret/x"),
        ("alert_mail", "smtp://ann:very-secret@mail.example"),
        ("alert_mail", "https://very-secret/?to=a@b.org"),
    ],
)
def test_address_that_is_none_is_refused_without_repeating_it(
    tmp_path: Path, name: str, value: str
) -> None:
    with pytest.raises(InputError, match=f"setting {name}: ") as raised:
        _settings(tmp_path, **{name: value})
    assert "very-secret" not in str(raised.value)


def _failed(settings: Settings, job: dg.JobDefinition, **tags: str) -> tuple[dg.DagsterRun, Any]:
    """A run that failed in a home, and what the sensor on such runs says of it."""
    (found,) = [one for one in failure_sensors() if one.name == "failed_run"]
    with graph.instance_of(settings.state_folder) as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False, tags=tags)
        run = instance.get_run_by_id(result.run_id)
        assert run is not None
        events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        event = events[0].dagster_event
        assert event is not None
        context = dg.build_run_status_sensor_context(
            sensor_name="failed_run",
            dagster_event=event,
            dagster_instance=instance,
            dagster_run=run,
            resources={"settings": settings},
        )
        return run, found(context)


@dg.job
def broken() -> None:
    @dg.op
    def read_lists() -> None:
        raise dg.Failure("the lists are gone: bring them back")

    read_lists()


def test_failed_run_is_told_with_job_schedule_first_sentence_and_link(
    tmp_path: Path, hook: Webhook
) -> None:
    settings = _settings(
        tmp_path, alert_url=hook.address, dagster_ui_url="https://dagster.example/"
    )
    run, said = _failed(settings, broken, **{"dagster/schedule_name": "nightly"})
    assert hook.texts == [
        f"fer_pipeline: run {run.run_id} of job broken, started by nightly failed: the lists are "
        f"gone: bring them back https://dagster.example/runs/{run.run_id}"
    ]
    assert said is not None


def test_sensor_goes_on_when_the_alert_fails(tmp_path: Path, hook: Webhook) -> None:
    hook.status = 404
    _, said = _failed(_settings(tmp_path, alert_url=hook.address), broken)
    assert "trained nothing" in said.skip_message
    assert len(hook.texts) == 1


def test_run_without_a_failed_step_is_told_by_what_ended_it(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    with graph.instance_of(settings.state_folder) as instance:
        run = instance.create_run_for_job(broken)
        instance.report_run_failed(run, "The process of this run ended without a word.")
        assert first_problem(instance, run.run_id) == (
            "The process of this run ended without a word."
        )
        assert first_problem(instance, "unknown") == "its log doesn't say why"


def test_schedule_that_starts_no_run_is_told(tmp_path: Path, hook: Webhook) -> None:
    settings = _settings(
        tmp_path / "home", alert_url=hook.address, dataset="affectnet", root=tmp_path / "gone"
    )
    settings.remember()
    data = schedule_tick(settings, f"retrain_{STREAM}_schedule")
    assert data.run_requests in (None, [])
    (text,) = hook.texts
    assert text.startswith(f"fer_pipeline: retrain_{STREAM}_schedule started no run: ")
    assert str(tmp_path / "gone") in text


def test_champion_that_changes_is_told_and_one_that_stays_is_not(
    tmp_path: Path, hook: Webhook, empty_registry: Path
) -> None:
    settings = _settings(tmp_path, alert_url=hook.address, mlflow_ui_url="https://mlflow.example")
    settings.mlflow_folder.mkdir()
    shutil.copy(empty_registry, settings.mlflow_folder)
    registry = Registry(settings, STREAM)
    client = tracking.connect(settings)
    client.create_registered_model(registry.name)
    client.create_model_version(registry.name, "file:///nowhere")
    first = registry.decide(Verdict.FIRST, "1", before=None, by="run a", why="none was before")
    champion.tell_of(registry, first)
    kept = registry.decide(Verdict.KEPT, "1", before="1", by="run b", why="it is already")
    champion.tell_of(registry, kept)
    assert hook.texts == [
        f"fer_pipeline: version 1 of {registry.name} is the champion, no version was, by run a: "
        f"none was before https://mlflow.example/#/models/{registry.name}"
    ]
