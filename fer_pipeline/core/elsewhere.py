"""Training a bundle on any machine that has Keras: `python -m fer_pipeline.core.train FILE`.

Needs Keras with a backend, NumPy, SciPy, PyArrow and OpenCV, and nothing else of what the
pipeline needs at home. What a bundle holds is in `bundle.py`, what is written in
`result_file.py`.
"""

import argparse
import contextlib
import errno
import fcntl
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NoReturn

from fer_pipeline.core.bundle import Task, read_task, unpack_bundle
from fer_pipeline.core.checkpoint import SECONDS_BETWEEN_STATES, Checkpoint
from fer_pipeline.core.disk import disk_problem
from fer_pipeline.core.errors import BusyError, InputError
from fer_pipeline.core.files import file_digest
from fer_pipeline.core.train import EpochResult, prepare_process

_PROGRAM = "python -m fer_pipeline.core.train"
_BACKENDS = ("tensorflow", "jax", "torch")
_NEEDED = {"cv2": "opencv-python-headless", "scipy": "scipy"}
"""Modules that training needs beside those that its own imports name, and their packages."""
_CHECKPOINT = "checkpoint.npz"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


def main(words: Sequence[str] | None = None) -> NoReturn:
    """The program; ends the process with exit code 0, 1 (failed or stopped) or 2 (wrong input)."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    given = _parser().parse_args(words)
    out = given.out or given.file.with_suffix(".result")
    try:
        if out.resolve() == given.file.resolve():
            raise InputError(f"--out {out} is the bundle itself: give another file")
        _choose_backend()
        train_bundle(given.file, out, given.minutes, given.threads, fresh=given.fresh)
    except InputError as error:
        _end(f"wrong input: {error}", 2)
    except (BusyError, FloatingPointError) as error:
        _end(f"failed: {error}", 1)
    except KeyboardInterrupt:
        _end("stopped: the same command goes on from the last state that was saved", 1)
    except OSError as error:
        problem = disk_problem(error, out.parent)
        if problem is None:
            raise
        _end(f"failed: {problem}", 1)
    sys.exit(0)


def train_bundle(
    file: Path, out: Path, minutes: float | None, threads: int | None, *, fresh: bool = False
) -> None:
    """Train the bundle in `file` and write the result to `out`.

    The state after an epoch, saved once a minute, stands in a folder beside `out` until the result
    does, and is gone on from. `minutes` replaces the bundle's own limit; with `fresh` nothing is
    gone on from, and a result that is there is replaced. Raises InputError for a file that is no
    bundle or a result of something else in the way, BusyError while another process trains into
    `out`.
    """
    import keras

    from fer_pipeline.core.result_file import write_result
    from fer_pipeline.core.trained import train_task
    from fer_pipeline.core.transfer import open_source

    task = read_task(file)
    if minutes is not None:
        task = task.within(minutes)
    digest = file_digest(file)
    work = out.with_name(f".{out.name}.work")
    with _locked(work):
        if not fresh and _is_there(out, task, digest):
            _say(f"{out} is there already: --fresh trains it anew")
            shutil.rmtree(work, ignore_errors=True)
            return
        if fresh:
            _check_replaceable(out)
            (work / _CHECKPOINT).unlink(missing_ok=True)
        bundle = unpack_bundle(file, work)
        checkpoint = Checkpoint(
            work / _CHECKPOINT,
            {
                "bundle": digest,
                "minutes": task.minutes,
                "backend": keras.backend.backend(),
                "keras": keras.__version__,
            },
            SECONDS_BETWEEN_STATES,
        )
        prepare_process(task.seed, threads)
        limit = "" if task.minutes is None else f", {task.minutes:g} minutes"
        _say(
            f"{task.card.stream}: {len(bundle.training):,} faces to train on, {len(bundle.dev):,} "
            f"of dev, preset {task.preset.name}, seed {task.seed}{limit}, on "
            f"{keras.backend.backend()}"
        )
        saved = checkpoint.load()
        if saved is not None:
            _say(f"going on after epoch {len(saved[1].history)}")
        name = str(task.card.trained_on["init"])
        source = None if bundle.init is None else open_source(bundle.init, name)
        trained = train_task(
            task,
            bundle.training,
            bundle.dev,
            init=source,
            on_epoch=_tell,
            checkpoint=checkpoint,
        )
        write_result(out, task, digest, trained, bundle.dev)
        shutil.rmtree(work, ignore_errors=True)
    figures = trained.served
    _say(
        f"dev accuracy {figures.accuracy:.4f}, macro-F1 {figures.macro_f1:.4f}, NLL "
        f"{figures.nll:.4f}, of epoch {trained.best_epoch} of {len(trained.history)}, "
        f"{trained.seconds:.0f} s on {trained.environment['device']}"
    )
    _say(f"{out} ({out.stat().st_size / 2**20:.1f} MiB): bring it home with `fer-pipeline adopt`")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        _PROGRAM,
        description="Train what `fer-pipeline bundle` packed. Stopped or killed, the same command "
        "goes on from the last state that was saved, once a minute.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the bundle")
    parser.add_argument(
        "--out", type=Path, metavar="RESULT", help="where to (FILE with the ending .result)"
    )
    parser.add_argument(
        "--minutes", type=_minutes, metavar="N", help="time limit instead of the bundle's own"
    )
    parser.add_argument(
        "--threads", type=_threads, metavar="N", help="threads of TensorFlow (all cores)"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="train from the start, whatever is there"
    )
    return parser


def _minutes(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def _threads(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


# argparse names the type in its message.
_minutes.__name__ = "number of minutes"
_threads.__name__ = "number of threads"


def _choose_backend() -> None:
    """Make Keras use a backend that is installed, where nobody chose one.

    Raises InputError when it can't be loaded, or something else is missing.
    """
    # As Keras does it, also for a user without a home folder, which containers may have.
    configured = os.path.expanduser(os.environ.get("KERAS_HOME", "~/.keras"))  # noqa: PTH111
    if "KERAS_BACKEND" not in os.environ and not (Path(configured) / "keras.json").is_file():
        there = [name for name in _BACKENDS if importlib.util.find_spec(name) is not None]
        os.environ["KERAS_BACKEND"] = (there or _BACKENDS)[0]
    for module, package in _NEEDED.items():
        if importlib.util.find_spec(module) is None:
            raise InputError(f"{package} isn't installed: install it (pip install {package})")
    try:
        import keras  # noqa: F401
    except (ImportError, ValueError) as error:
        raise InputError(
            f"Keras can't be loaded ({error}): install keras and one of {', '.join(_BACKENDS)}, "
            "and name that one in KERAS_BACKEND"
        ) from error


def _is_there(out: Path, task: Task, digest: str) -> bool:
    """Whether `out` is the result of this bundle; raises InputError when it is something else."""
    from fer_pipeline.core.result_file import read_result

    if not out.exists():
        return False
    found = read_result(out)
    if (found.bundle, found.task) != (digest, task):
        raise InputError(
            f"{out} is the result of another bundle or of another number of minutes: give --out "
            "another file, or --fresh to replace it"
        )
    return True


def _check_replaceable(out: Path) -> None:
    """Raises InputError for a file that isn't a result and so not to be replaced."""
    from fer_pipeline.core.result_file import read_result

    if out.exists():
        read_result(out)


@contextlib.contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Hold the folder of a training; raises BusyError while another process does."""
    lock = None
    while lock is None:
        lock = _lock(work)
    with lock:
        yield


def _lock(work: Path) -> IO[str] | None:
    """The locked file, None where it was removed meanwhile by the process that held it."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / "lock"
    try:
        lock = path.open("a")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise BusyError(
            f"another process trains this bundle (it holds {work}): wait for it, or give --out "
            "another file"
        ) from error
    except OSError as error:
        # Drives of notebook services know no locks, and are one notebook's own.
        if error.errno not in _NO_LOCKS:
            raise
        return lock
    if path.exists() and path.stat().st_ino == os.fstat(lock.fileno()).st_ino:
        return lock
    lock.close()
    return None


def _tell(epoch: EpochResult) -> None:
    _say(
        f"epoch {epoch.epoch}: loss {epoch.loss:.3f}, dev accuracy {epoch.dev_accuracy:.3f}, "
        f"dev macro-F1 {epoch.dev_macro_f1:.3f}, {epoch.images_per_second:.0f} faces/s, "
        f"{epoch.seconds_left:.0f} s left"
    )


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def _end(words: str, code: int) -> NoReturn:
    sys.stderr.write(words + "\n")
    sys.exit(code)
