"""Which state of the source tree this package runs from: what is kept with each training."""

import subprocess
from importlib.metadata import version
from pathlib import Path


def git_commit() -> str:
    """The commit of the source tree this package runs from, or the package's version.

    `-dirty` is appended when the package's files differ from the commit.
    """
    here = Path(__file__).parent

    def git(*words: str) -> str:
        answer = subprocess.run(  # noqa: S603
            ["git", "-C", str(here), *words],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
        return answer.stdout.strip()

    try:
        # An installed package may lie inside another project's tree.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--", ".")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return f"fer_pipeline {version('fer_pipeline')}"
