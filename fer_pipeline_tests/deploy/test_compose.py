"""The compose file as a document: what it asks for, mounts and publishes."""

import fnmatch
import importlib.resources
import json
import re
from typing import Any

import jsonschema
import pytest
import yaml

from fer_pipeline_tests.deploy.native import (
    ROOT,
    MissingVariableError,
    load_compose,
    variables_asked_for,
)

VARIABLES = {"POSTGRES_PASSWORD": "a pass:w/rd@1", "DATA_DIR": "/faces", "FER_DATASET": "affectnet"}
DAGSTER_SERVICES = ("code", "webserver", "daemon")


@pytest.fixture
def compose() -> dict[str, Any]:
    return load_compose(VARIABLES)


def test_compose_file_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    vendored = importlib.resources.files("check_jsonschema.builtin_schemas.vendor")
    schema = json.loads((vendored / "compose-spec.json").read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)

    assert not list(validator.iter_errors(compose))
    broken = compose | {"services": {"postgres": {"image": "postgres:17", "port": []}}}
    assert list(validator.iter_errors(broken))


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_every_variable_has_no_default_and_is_in_the_example(name: str) -> None:
    with pytest.raises(MissingVariableError, match=name):
        load_compose({key: value for key, value in VARIABLES.items() if key != name})
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert re.search(rf"^{name}=", example, re.MULTILINE)


def test_no_other_variable_is_asked_for() -> None:
    assert variables_asked_for() == set(VARIABLES)


def test_example_holds_no_password() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert re.search(r"^POSTGRES_PASSWORD=$", example, re.MULTILINE)


def test_only_the_two_pages_are_published_and_only_here(compose: dict[str, Any]) -> None:
    published = {
        name: service["ports"]
        for name, service in compose["services"].items()
        if "ports" in service or "network_mode" in service
    }
    assert published == {"mlflow": ["127.0.0.1:5000:5000"], "webserver": ["127.0.0.1:3000:3000"]}


def test_password_stands_in_no_command_line(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        words = [*service.get("command", []), *service["healthcheck"]["test"]]
        assert not [word for word in words if VARIABLES["POSTGRES_PASSWORD"] in word]


def test_data_can_only_be_read(compose: dict[str, Any]) -> None:
    for name in DAGSTER_SERVICES:
        assert "/faces:/data:ro" in compose["services"][name]["volumes"]


def test_runs_find_the_same_instance_wherever_they_start(compose: dict[str, Any]) -> None:
    code, webserver, daemon = (compose["services"][name] for name in DAGSTER_SERVICES)
    assert code["environment"] == webserver["environment"] == daemon["environment"]
    assert code["volumes"] == webserver["volumes"] == daemon["volumes"]


def test_every_service_is_watched_restarted_and_waits_for_health(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["restart"] == "unless-stopped"
        awaited = service.get("depends_on", {})
        assert awaited or name == "postgres"
        assert all(wait == {"condition": "service_healthy"} for wait in awaited.values())


def test_every_mount_has_its_source(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
            else:
                assert source in compose["volumes"] or source == VARIABLES["DATA_DIR"]


def test_image_holds_everything_the_services_name(compose: dict[str, Any]) -> None:
    built = [service for service in compose["services"].values() if "build" in service]
    assert len(built) == 4
    dockerfile = ROOT / built[0]["build"]["dockerfile"]
    lines = [line.split() for line in dockerfile.read_text(encoding="utf-8").splitlines()]
    copied = [line[1:] for line in lines if line[:1] == ["COPY"] and "--from" not in line[1]]
    sources = [source for line in copied for source in line[:-1]]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, rule[1:]) for rule in ignored if rule[:1] == "!"), source
    workspace = built[-1]["command"][-1]
    assert ["deploy/workspace.yaml", workspace] in copied


def test_code_server_of_the_workspace_is_a_service(compose: dict[str, Any]) -> None:
    workspace = yaml.safe_load((ROOT / "deploy" / "workspace.yaml").read_text(encoding="utf-8"))
    (origin,) = workspace["load_from"]
    server = origin["grpc_server"]
    command = compose["services"][server["host"]]["command"]
    assert command[command.index("-p") + 1] == str(server["port"])
