"""The compose file as processes of one machine: what becomes of its values, what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fer_pipeline_tests.deploy.native import ROOT, up_native
from fer_pipeline_tests.system import require_program

GIVEN = {
    "POSTGRES_PASSWORD": "abc-80_mlflow:5000",
    "FER_SERVE_TOKEN": "8600 in it",
    "FER_REVIEW_PASSWORD": "/data",
    "FER_DATASET": "affectnet",
    "FER_MODEL": "models:/fer-seven_class/80",
    "FER_ALERT_URL": "https://alerts.example.org:5000/hook?at=0.0.0.0",
    "FER_HTTPS_PORT": "9443",
}


@pytest.fixture
def given(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "users").write_text("ada $2a$14$443\n")
    (tmp_path / "data").mkdir()
    return {
        **GIVEN,
        "FER_USERS_FILE": str(tmp_path / "users"),
        "DATA_DIR": str(tmp_path / "data"),
    }


def test_values_of_the_users_stay_and_the_files_own_become_this_machines(
    given: dict[str, str], tmp_path: Path
) -> None:
    require_program("initdb")
    machine = up_native.Machine(given, tmp_path / "server")
    code, proxy = machine.environment("code"), machine.environment("proxy")
    assert code["DAGSTER_POSTGRES_PASSWORD"] == GIVEN["POSTGRES_PASSWORD"]
    assert code["FER_ALERT_URL"] == GIVEN["FER_ALERT_URL"]
    assert code["FER_MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{machine.ports[5000]}/mlflow"
    assert code["FER_ROOT"] == given["DATA_DIR"]
    assert code["FER_DAGSTER_UI_URL"] == "https://localhost:9443/dagster"
    assert (proxy["FER_REVIEW_PASSWORD"], proxy["FER_SERVE_TOKEN"]) == ("/data", "8600 in it")
    assert (proxy["FER_HTTPS_PORT"], proxy["FER_HTTP_PORT"]) == ("9443", str(machine.ports[80]))
    assert machine.paths["/run/secrets/users"] == tmp_path / "users"
    assert (tmp_path / "users").read_text() == "ada $2a$14$443\n"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("FER_HOST=example.org # our name", "example.org"),
        ("FER_HOST='a #b' # our name", "a #b"),
        ('FER_HOST="a b"', "a b"),
        ("FER_HOST=a#b$c", "a#b$c"),
        ("FER_HOST=", ""),
        ("export FER_HOST=a=b", "a=b"),
    ],
)
def test_env_file_is_read_as_docker_compose_reads_it(tmp_path: Path, line: str, value: str) -> None:
    (tmp_path / ".env").write_text(f"# FER_HOST=other\n{line}\nFER_TLS=internal\n")
    found = up_native.read_env(tmp_path / ".env")
    assert found == {"FER_HOST": value, "FER_TLS": "internal"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"FER_HTTPS_PORT": "x"}, "FER_HTTPS_PORT=x is no port"),
        ({"FER_USERS_FILE": "/nowhere/users"}, "/nowhere/users isn't there: make it"),
        ({"POSTGRES_PASSWORD": ""}, "set POSTGRES_PASSWORD in .env"),
    ],
    ids=["port", "users", "password"],
)
def test_what_env_says_wrongly_is_one_sentence_and_exit_code_2(
    given: dict[str, str], tmp_path: Path, change: dict[str, str], said: str
) -> None:
    require_program("initdb")
    require_program("caddy")
    env = tmp_path / "env"
    env.write_text("".join(f"{name}='{value}'\n" for name, value in (given | change).items()))
    ended = subprocess.run(
        [
            *(sys.executable, ROOT / "deploy" / "up_native.py"),
            *("--folder", tmp_path / "server", "--env", env),
        ],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert said in ended.stderr
    assert str(env) in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_note_of_running_processes_that_was_cut_off_stops_nothing(tmp_path: Path) -> None:
    note = tmp_path / "processes.json"
    note.write_text('{"code": [12')
    up_native.end_leftovers(tmp_path)
    assert not note.exists()


_HEEDS = """
import signal, sys
from pathlib import Path
from fer_pipeline_tests.deploy.native import up_native

signal.signal(signal.SIGINT, signal.SIG_IGN)
program = "import signal, sys; sys.exit(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
folder = Path(sys.argv[1])
service = up_native.started([sys.executable, "-c", program], {}, folder, folder / "log", None)
sys.exit(service.process.wait(30))
"""


def test_services_heed_interrupts_also_where_a_background_shell_told_them_not_to(
    tmp_path: Path,
) -> None:
    ended = subprocess.run([sys.executable, "-c", _HEEDS, tmp_path], cwd=ROOT, check=False)
    assert ended.returncode == 0
