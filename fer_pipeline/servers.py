"""The servers of one home as child processes: the Dagster UI with its daemon, and MLflow.

The labelling page is in `review_server`, how servers are run in `server_processes`.
"""

import sys
from collections.abc import Collection, Sequence

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
    commands = {f"http://{host}:{port}": _dagster(host, port)}
    # Runs launched in the pages link to MLflow where it stands now.
    variables = environment(settings)
    # By what names others know this machine can't be told from here.
    usual = LOOPBACK_NAMES | {host} if is_loopback(host) else {"*"}
    listed = [name.strip() for name in variables.get("FER_WEB_HOSTS", "").split(",")]
    names = set(filter(None, listed)) or usual
    variables["FER_WEB_HOSTS"] = ",".join(sorted(names))
    if settings.mlflow_tracking_uri is None:
        settings.mlflow_folder.mkdir(parents=True, exist_ok=True)
        follow_home(settings)
        commands[f"http://{host}:{mlflow_port}"] = _mlflow(settings, host, mlflow_port, names)
        variables["FER_MLFLOW_UI_URL"] = f"http://{host}:{mlflow_port}"
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


def _mlflow(settings: Settings, host: str, port: int, names: Collection[str]) -> list[str]:
    """MLflow's server, which answers to these names, and to pages that stand under them.

    By default it does to those of this machine's loopback, of which nothing has to be said.
    """
    told = () if LOOPBACK_NAMES.issuperset(names) else _told(sorted({host, *names}), port)
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)),
        *(
            "--backend-store-uri",
            tracking_uri(settings),
            "--default-artifact-root",
            artifact_root(settings),
        ),
        *("--workers", "1"),
        *told,
    ]


def _told(names: Sequence[str], port: int) -> tuple[str, ...]:
    hosts = "*" if "*" in names else ",".join(f"{name}:{port}" for name in names)
    origins = ",".join(f"http://{name}:{port}" for name in names if name != "*")
    return "--allowed-hosts", hosts, "--cors-allowed-origins", origins
