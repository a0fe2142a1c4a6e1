"""The servers of one home as child processes: the Dagster UI with its daemon, and MLflow.

The labelling page is in `review_server`, how servers are run in `server_processes`.
"""

import sys

from rich.console import Console

from fer_pipeline.instance import close_runs_of_the_home, environment, prepare_home
from fer_pipeline.moved_home import artifact_root, follow_home
from fer_pipeline.origins import LOOPBACK_NAMES, is_loopback
from fer_pipeline.server_processes import check_free, run_servers
from fer_pipeline.settings import Settings
from fer_pipeline.terminal import say
from fer_pipeline.tracking_server import shown_tracking_uri, tracking_uri

_OPEN_TO_ALL = (
    "no password is asked for: whoever reaches {host} can start programs here, as you, and delete "
    "what this home holds; leave --host out where not all of them may"
)


def serve_ui(settings: Settings, host: str, port: int, mlflow_port: int, console: Console) -> None:
    """Run both servers until Ctrl-C or a signal ends them, or one of them ends by itself.

    Raises InputError when a port is taken.
    """
    for wanted in (port, mlflow_port):
        check_free(host, wanted, "--port and --mlflow-port others")
    if not is_loopback(host):
        say(console, _OPEN_TO_ALL.format(host=host), head="Warning", style="bold red")
    prepare_home(settings)
    close_runs_of_the_home(settings)
    commands = {
        f"http://{host}:{port}": _dagster(host, port),
    }
    if settings.mlflow_tracking_uri is None:
        settings.mlflow_folder.mkdir(parents=True, exist_ok=True)
        follow_home(settings)
        commands[f"http://{host}:{mlflow_port}"] = _mlflow(settings, host, mlflow_port)
    # Runs launched in the pages link to MLflow where it stands now.
    variables = environment(settings)
    if settings.mlflow_tracking_uri is None:
        variables["FER_MLFLOW_UI_URL"] = f"http://{host}:{mlflow_port}"
    if not variables.get("FER_WEB_HOSTS"):
        # By what names others know this machine can't be told from here.
        names = LOOPBACK_NAMES | {host} if is_loopback(host) else {"*"}
        variables["FER_WEB_HOSTS"] = ",".join(sorted(names))
    served = settings.mlflow_tracking_uri is None
    mlflow = f"http://{host}:{mlflow_port}" if served else shown_tracking_uri(settings)
    addresses = {"Dagster": f"http://{host}:{port}", "MLflow ": mlflow}
    run_servers(commands, variables, addresses, "Ctrl-C ends both.", console)


def _dagster(host: str, port: int) -> list[str]:
    return [
        *(
            sys.executable,
            "-m",
            "fer_pipeline.dagster_dev",
            "dev",
            "-m",
            "fer_pipeline.definitions",
        ),
        *("-h", host, "-p", str(port)),
    ]


def _mlflow(settings: Settings, host: str, port: int) -> list[str]:
    own = f"{host}:{port}"
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)),
        *(
            "--backend-store-uri",
            tracking_uri(settings),
            "--default-artifact-root",
            artifact_root(settings),
        ),
        *("--workers", "1"),
        # MLflow answers only to names it was told; by default those of this machine.
        *(() if host in LOOPBACK_NAMES else ("--allowed-hosts", own if is_loopback(host) else "*")),
    ]
