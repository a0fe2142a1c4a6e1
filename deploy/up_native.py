"""Runs the services of docker-compose.yml as processes of this machine, without Docker.

    python deploy/up_native.py [--folder fer-server] [--env .env]

Commands, variables, health checks, mounts and restarts are those of the compose file; only what
containers isolate is replaced: service names by 127.0.0.1, ports by free ones (the proxy's stay),
volumes by folders under --folder. PostgreSQL and Caddy have to be installed. Without an --env file
one is made, with secrets of its own and one user, whose password is told once. Ctrl-C ends all.
"""

import argparse
import fcntl
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

from native.compose import MissingVariableError, load_compose, read_env
from native.machine import Machine
from native.processes import end_leftovers, postgresql, program, started, write_secret

__all__ = [
    "Machine",
    "MissingVariableError",
    "end_leftovers",
    "load_compose",
    "make_env",
    "read_env",
    "started",
]


def make_env(path: Path, folder: Path) -> tuple[str, str]:
    """Write an .env file with secrets of its own beside a file of one user: name and password."""
    name, password = "fer", secrets.token_urlsafe(12)
    done = subprocess.run(
        [program("caddy", os.environ), "hash-password"],
        input=f"{password}\n{password}\n".encode(),
        check=True,
        capture_output=True,
    )
    users = folder / "users"
    write_secret(users, f"{name} {done.stdout.decode().split()[-1]}\n")
    names = ("POSTGRES_PASSWORD", "FER_SERVE_TOKEN", "FER_REVIEW_PASSWORD")
    lines = [f"{one}={secrets.token_urlsafe(24)}" for one in names]
    data = folder / "data"
    data.mkdir(exist_ok=True)
    lines += [f"FER_USERS_FILE={users}", f"DATA_DIR={data}", "FER_DATASET=affectnet"]
    write_secret(path, "\n".join(lines) + "\n")
    return name, password


def main() -> int:
    """Start everything and keep it running until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path("fer-server"))
    parser.add_argument("--env", type=Path, default=Path(".env"))
    given = parser.parse_args()
    folder = given.folder.resolve()
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    folder.mkdir(parents=True, exist_ok=True)
    # PostgreSQL runs as another user where root starts it, and has to get to its folder.
    folder.chmod(0o755)
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"busy: the services of {folder} run already", file=sys.stderr)
        return 1
    try:
        program("caddy", os.environ)
        postgresql()
    except FileNotFoundError as error:
        print(f"wrong input: {error}", file=sys.stderr)
        return 2
    env = given.env if given.env.exists() else folder / ".env"
    try:
        if not env.exists():
            name, password = make_env(env, folder)
            print(f"Made {env}; user {name}, password {password} (not told again)", flush=True)
        machine = Machine(read_env(env), folder)
    except MissingVariableError as error:
        print(f"wrong input: {env}: {error.args[0]}", file=sys.stderr)
        return 2
    except (FileNotFoundError, ValueError) as error:
        print(f"wrong input: {env}: {error}", file=sys.stderr)
        return 2
    try:
        end_leftovers(folder)
        machine.up()
        machine.watch()
        host = machine.variables.get("FER_HOST") or "localhost"
        base = f"https://{host}:{machine.ports[443]}"
        for what, path in (
            ("Recognition", "/"),
            ("Dagster", "/dagster"),
            ("MLflow", "/mlflow/"),
            ("Labelling", "/label/"),
        ):
            print(f"{what:<12} {base}{path}")
        print(f"Logs in {folder / 'logs'}. Ctrl-C ends all.", flush=True)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print("ending", flush=True)
        return 0
    except RuntimeError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    finally:
        machine.stop()


if __name__ == "__main__":
    sys.exit(main())
