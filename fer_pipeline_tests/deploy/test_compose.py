"""The compose file as a document: what it asks for, mounts and publishes."""

import fnmatch
import importlib.resources
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fer_pipeline_tests.deploy.native import ROOT, up_native, variables_asked_for
from fer_pipeline_tests.system import require_program

SECRETS = {
    "POSTGRES_PASSWORD": "a pass:w/rd@1",
    "FER_SERVE_TOKEN": "a #token: with 'all' of it",
    "FER_REVIEW_PASSWORD": "another {one}",
}
VARIABLES = {
    **SECRETS,
    "FER_USERS_FILE": "/secrets/users",
    "DATA_DIR": "/faces",
    "FER_DATASET": "affectnet",
}
DAGSTER_SERVICES = ("code", "webserver", "daemon")
OWN_IMAGES = ("mlflow", *DAGSTER_SERVICES, "labelling", "recognition")
RAY_SERVICES = ("ray-head", "ray-worker", "gpu-worker")


@pytest.fixture
def compose() -> dict[str, Any]:
    return up_native.load_compose(VARIABLES)


def test_compose_file_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    vendored = importlib.resources.files("check_jsonschema.builtin_schemas.vendor")
    schema = json.loads((vendored / "compose-spec.json").read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)

    assert not list(validator.iter_errors(compose))
    broken = compose | {"services": {"postgres": {"image": "postgres:17", "port": []}}}
    assert list(validator.iter_errors(broken))


def test_docker_compose_understands_the_file_as_it_is_meant(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    ended = subprocess.run(
        [require_program("docker-compose"), "--file", ROOT / "docker-compose.yml", "config"],
        env={**VARIABLES, "PATH": os.defpath, "HOME": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    understood = yaml.safe_load(ended.stdout)["services"]
    assert understood.keys() == compose["services"].keys()
    for name, service in compose["services"].items():
        for part in ("command", "environment", "profiles", "mem_limit"):
            assert understood[name].get(part) == service.get(part), (name, part)


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_every_variable_has_no_default_and_is_in_the_example(name: str) -> None:
    with pytest.raises(up_native.MissingVariableError, match=name):
        up_native.load_compose({key: value for key, value in VARIABLES.items() if key != name})
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert re.search(rf"^{name}=", example, re.MULTILINE)


def test_no_other_variable_is_asked_for() -> None:
    assert variables_asked_for() == set(VARIABLES)


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_example_holds_no_secret(name: str) -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert re.search(rf"^{name}=$", example, re.MULTILINE)


def test_nothing_but_the_proxy_is_published(compose: dict[str, Any]) -> None:
    published = {
        name: service["ports"]
        for name, service in compose["services"].items()
        if "ports" in service or "network_mode" in service
    }
    assert published == {"proxy": ["80:80", "443:443"]}


def test_no_secret_stands_in_a_command_line(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        words = [*service.get("command", []), *service["healthcheck"]["test"]]
        assert not [word for word in words for secret in SECRETS.values() if secret in str(word)]


def test_no_service_can_write_its_image_or_gain_rights(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"]
        # PostgreSQL's image makes its folders as root before it becomes another user.
        assert name == "postgres" or service["cap_drop"] == ["ALL"]


def test_ray_and_gpu_run_only_when_asked_for(compose: dict[str, Any]) -> None:
    profiles = {
        name: service["profiles"]
        for name, service in compose["services"].items()
        if "profiles" in service
    }
    assert profiles == {
        "ray-head": ["ray", "gpu"],
        "ray-worker": ["ray"],
        "gpu-worker": ["gpu"],
    }
    (device,) = compose["services"]["gpu-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


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
        assert awaited or name in ("postgres", "ray-head")
        assert all(wait == {"condition": "service_healthy"} for wait in awaited.values())


def test_every_mount_has_its_source(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
            else:
                given = (VARIABLES["DATA_DIR"], VARIABLES["FER_USERS_FILE"])
                assert source in compose["volumes"] or source in given


def test_image_holds_everything_the_services_name(compose: dict[str, Any]) -> None:
    built = {name: one for name, one in compose["services"].items() if "build" in one}
    assert set(built) == {*OWN_IMAGES, *RAY_SERVICES}
    dockerfile = ROOT / built["code"]["build"]["dockerfile"]
    lines = [line.split() for line in dockerfile.read_text(encoding="utf-8").splitlines()]
    copied = [line[1:] for line in lines if line[:1] == ["COPY"] and "--from" not in line[1]]
    sources = [source for line in copied for source in line[:-1]]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, rule[1:]) for rule in ignored if rule[:1] == "!"), source
    workspace = built["daemon"]["command"][-1]
    assert ["deploy/workspace.yaml", workspace] in copied


def test_code_server_of_the_workspace_is_a_service(compose: dict[str, Any]) -> None:
    workspace = yaml.safe_load((ROOT / "deploy" / "workspace.yaml").read_text(encoding="utf-8"))
    (origin,) = workspace["load_from"]
    server = origin["grpc_server"]
    command = compose["services"][server["host"]]["command"]
    assert command[command.index("-p") + 1] == str(server["port"])
