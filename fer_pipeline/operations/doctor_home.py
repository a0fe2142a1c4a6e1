"""What the doctor finds of a home, its disk, its data set and what killed processes left there."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from dagster import DagsterInstance

from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.datasets.base import Photo
from fer_pipeline.core.files import TEMPORARY_SUFFIX
from fer_pipeline.core.manifest import MANIFEST_FILE, photos_of, read_manifest
from fer_pipeline.core.room import free_bytes, in_words
from fer_pipeline.core.storage import check_writable, is_file
from fer_pipeline.instance import lock_holder, lost_runs
from fer_pipeline.operations import databases
from fer_pipeline.operations.findings import Finding, ok, problem, warning
from fer_pipeline.operations.room import needs_of
from fer_pipeline.places import check_addressable
from fer_pipeline.settings import Settings
from fer_pipeline.tracking_server import database_file

_PHOTOS = 5
_LITTLE = 500 * 10**6
"""Free bytes under which databases, logs and temporary files may find no room."""
_AHEAD_SECONDS = 60.0


def home(settings: Settings) -> Iterator[Finding]:
    """Whether the home is there and may be written, and who works on it."""
    folder = settings.state_folder
    check_addressable(folder)
    if not folder.is_dir():
        parent = _above(folder)
        if os.access(parent, os.W_OK | os.X_OK):
            yield ok("home", f"{settings.home} is not there yet: the first run makes it")
        else:
            yield problem(
                "home",
                f"{settings.home} can't be made: {parent} isn't this user's to write",
                "give --home another folder, or this user the right to it",
            )
        return
    check_writable(settings.home)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor.", suffix=TEMPORARY_SUFFIX):
        pass
    yield ok("home", f"{folder} can be written")
    holder = lock_holder(folder)
    if holder is not None:
        yield ok("home", f"a run works on it (process {holder})")


def disk(settings: Settings) -> Iterator[Finding]:
    """What is free where the home stands, against what the next run may need."""
    folder = settings.state_folder
    free = free_bytes(folder)
    wanted = ["face_crops", *(f"{stream}/trained_model" for stream in settings.streams)]
    needs = needs_of(settings, wanted)
    total = sum(need.bytes for need in needs)
    words = f"{in_words(free)} are free in {folder}, the next run needs about {in_words(total)}"
    remedy = "free some: `fer-pipeline prune` says what can go"
    if total > free:
        yield problem("disk", words, remedy)
    elif free - total < _LITTLE:
        yield warning("disk", words, remedy)
    else:
        yield ok("disk", words)
    temporary = Path(tempfile.gettempdir())
    left = shutil.disk_usage(temporary).free
    if left < _LITTLE:
        yield warning(
            "disk",
            f"{in_words(left)} are free in {temporary}, where temporary files go",
            "free some, or set TMPDIR to another folder",
        )


def data(settings: Settings) -> Iterator[Finding]:
    """Whether the data set's lists open, and whether some of its photos do."""
    from fer_pipeline.core.decode import decode

    if not settings.sources:
        yield warning("data", "no data set is named yet", "give `run` a --dataset and a --root")
        return
    for name, root in settings.sources:
        if isinstance(root, Path) and not os.access(root, os.R_OK | os.X_OK):
            yield problem(
                "data",
                f"{root}, which holds {name}, isn't there or may not be read by this user",
                "give --root the folder that holds it now, or this user the right to it",
            )
            return
    dataset = settings.open_dataset()
    lists = dataset.lists()
    yield ok("data", f"{dataset.name} at {dataset.address} opens, with {len(lists)} lists")
    photos = _some_photos(settings)
    opened, failed = 0, ""
    bounds = settings.bounds
    read = dataset.read_photos(photos, settings.max_file_bytes)
    for (_, path), stored in zip(photos, read, strict=True):
        if not isinstance(stored, bytes):
            failed = f"{path}: {stored or 'missing'}"
            continue
        try:
            decode(stored, bounds)
        except UnreadableError as error:
            failed = f"{path}: {error}"
        else:
            opened += 1
    words = f"{opened} of {len(photos)} photos picked by chance open"
    if not photos:
        yield problem("data", "its lists hold no photo", "see that they are the right files")
    elif not opened:
        yield problem("data", f"{words} ({failed})", "see that the photos stand beside the lists")
    elif failed:
        yield warning("data", f"{words} ({failed})", "a run counts and names those that don't")
    else:
        yield ok("data", words)


def _some_photos(settings: Settings) -> list[Photo]:
    """A few photos of the manifest, or of the first list where there is no manifest yet."""
    if is_file(settings.manifest_folder / MANIFEST_FILE):
        table = read_manifest(settings.manifest_folder, ["list", "image_path"])
    else:
        table = next(
            (batch.kept for batch in settings.open_dataset().batches() if batch.kept.num_rows), None
        )
    if table is None or not table.num_rows:
        return []
    # Others each time: a hole in a copied folder is found sooner or later.
    rows = np.random.default_rng().choice(
        table.num_rows, min(_PHOTOS, table.num_rows), replace=False
    )
    return photos_of(table.take(rows))


def clock(settings: Settings) -> Iterator[Finding]:
    """Whether this machine's clock stands before what the last run wrote."""
    latest = max(
        ((path.stat().st_mtime, path) for path in _dated(settings)),
        default=(0.0, settings.state_folder),
    )
    ahead = latest[0] - databases.now()
    if ahead > _AHEAD_SECONDS:
        wrote = datetime.fromtimestamp(latest[0], UTC)
        yield problem(
            "clock",
            f"this machine's clock stands {ahead:,.0f} s before the last run, which wrote "
            f"{latest[1]} at {wrote:%Y-%m-%d %H:%M} UTC",
            "set it: what is made now would count as older than that",
        )
    else:
        yield ok("clock", "not before the last run")


def _dated(settings: Settings) -> list[Path]:
    """The files that a run writes last."""
    folder = settings.state_folder
    wanted = (
        folder / "settings.toml",
        folder / "run.lock",
        database_file(settings),
        *(folder / "dagster" / "history").glob("*.db"),
        *(folder / "dagster" / "history" / "runs").glob("*.db"),
    )
    return [path for path in wanted if path.is_file()]


def leftovers(settings: Settings) -> Iterator[Finding]:
    """Runs in progress whose process is gone, and files that were never finished."""
    parts = [path for path in unfinished_files(settings) if path.exists()]
    known = databases.dagster_databases(settings)
    lost = []
    if known:
        # Where one doesn't answer that is told already, and asking would take a minute.
        for url in known.values():
            databases.ask(url)
        with DagsterInstance.from_config(str(settings.dagster_home)) as instance:
            lost = lost_runs(instance, settings)
    if lost:
        yield warning(
            "leftovers",
            f"run(s) in progress without a process: {', '.join(lost)}",
            "the next `fer-pipeline run`, or `fer-pipeline ui`, closes them",
        )
    if parts:
        yield warning(
            "leftovers",
            f"{len(parts)} unfinished file(s) of processes that ended, such as {parts[0]}",
            "the next run removes them, or `fer-pipeline prune --apply`",
        )
    if not lost and not parts:
        yield ok("leftovers", "none")


def unfinished_files(settings: Settings) -> list[Path]:
    """What in the home was never finished; nothing while another process works on it."""
    folder = settings.state_folder
    if not folder.is_dir() or lock_holder(folder) not in (None, str(os.getpid())):
        return []
    # Not below demo-data, nor in an unfinished folder.
    found = []
    for top in ("index", "manifest", "crops", "reports", "studies", "mlflow"):
        found += [
            path
            for path in (folder / top).rglob(f".*{TEMPORARY_SUFFIX}")
            if not any(parent.suffix == TEMPORARY_SUFFIX for parent in path.parents)
        ]
    return sorted({*found, *folder.glob(f".*{TEMPORARY_SUFFIX}")})


def _above(folder: Path) -> Path:
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder
