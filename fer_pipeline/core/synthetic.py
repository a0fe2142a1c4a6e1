"""A whole synthetic data set: drawn photos laid out as an AffectNet first release, traps included.

For the demo, which needs no data, and for the tests. One face and one photo are drawn in
`drawing`, the traps are laid in `synthetic_traps`; here is what the release holds and how it
comes to stand on disk.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from glob import escape
from pathlib import Path

import numpy as np

from fer_pipeline.core.datasets.base import DataSet
from fer_pipeline.core.drawing import draw_photo, listed_without_face
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import CODES, NAMES
from fer_pipeline.core.storage import Location
from fer_pipeline.core.synthetic_files import (
    AUTO,
    TRAIN,
    VALIDATION,
    PhotoFolder,
    Row,
    encoded,
    feelings,
    write_list,
)
from fer_pipeline.core.synthetic_traps import odd_photos, odd_rows

MINIMUM_PHOTOS = 60
_VERSION = 1
_DESCRIPTION = "release.json"
_DRAWN_BY = "fer_pipeline"
_WRONG_AUTO_LABELS = 0.3

_VALIDATION_SHARE, _AUTO_SHARE = 0.2, 0.25
_MANUAL_WEIGHTS: Mapping[str, float] = {
    "Neutral": 0.20, "Happiness": 0.23, "Sadness": 0.12, "Surprise": 0.11, "Fear": 0.065,
    "Disgust": 0.06, "Anger": 0.12, "Contempt": 0.06, "None": 0.02, "Uncertain": 0.015,
    "No-Face": 0.02,
}  # fmt: skip
_AUTO_WEIGHTS: Mapping[str, float] = {
    "Neutral": 0.25, "Happiness": 0.27, "Sadness": 0.13, "Surprise": 0.11, "Fear": 0.04,
    "Disgust": 0.02, "Anger": 0.13, "Contempt": 0.02, "None": 0.01, "Uncertain": 0.01,
    "No-Face": 0.02,
}  # fmt: skip
_VALIDATION_WEIGHTS: Mapping[str, float] = dict.fromkeys(NAMES[:8], 1.0)


@dataclass(frozen=True)
class Release:
    """What was written.

    `photos` counts files under the root that pose as photos, damaged ones included; `rows` and
    `rows_by_list` (manual_train, manual_val, auto) count data rows, unreadable ones included,
    headers and blank lines not; `traps` gives for each trap the path of its first photo, or
    where it is.
    """

    root: Path
    photos: int
    rows: int
    rows_by_list: Mapping[str, int]
    traps: Mapping[str, str]


def write_release(
    root: Path,
    *,
    photos: int = 1200,
    seed: int = 0,
    shuffle_labels: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Release:
    """Draw `photos` ordinary photos and the traps, and write them as a release under `root`.

    The same seed gives the same bytes. `shuffle_labels` permutes the expressions within each
    list (codes 0 to 7) and leaves the photos as they are: nothing can be learnt from it.
    `on_progress` is called with photos done and photos in all.

    The release appears under `root` as a whole or not at all. A release of the same settings
    that already stands there is returned as it is. Raises InputError for fewer than 60 photos
    and where `root` is something else.
    """
    root = root.absolute()
    if photos < MINIMUM_PHOTOS:
        raise InputError(
            f"{photos} photos cannot hold every class; ask for {MINIMUM_PHOTOS} or more."
        )
    settings = {
        "version": _VERSION,
        "photos": photos,
        "seed": seed,
        "shuffle_labels": shuffle_labels,
    }
    standing = _standing(root, settings)
    if standing is not None:
        return standing
    partial = root.with_name(f".{root.name}.partial-{os.getpid()}")
    _remove_abandoned(root)
    partial.mkdir(parents=True)
    try:
        release = _write(partial, settings, on_progress)
        # Another process may have finished the same release in the meantime.
        standing = _standing(root, settings)
        if standing is not None:
            return standing
        if root.exists():
            root.rmdir()
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return replace(release, root=root)


def is_drawn(root: Location) -> bool:
    """Whether `root` holds a release that `write_release` drew, so that scores can say so."""
    try:
        known = json.loads((root / _DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(known, dict) and known.get("drawn_by") == _DRAWN_BY


def all_drawn(dataset: DataSet) -> bool:
    """Whether every face of a data set, or of all that are mixed, was drawn."""
    return all(is_drawn(part.root) for part in dataset.parts())


def _standing(root: Path, settings: Mapping[str, int]) -> Release | None:
    """The release under `root` if it is the wanted one, None if the place is free."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    description = root / _DESCRIPTION
    if not description.is_file():
        raise InputError(f"{root} is not a drawn release; name a folder that does not exist yet.")
    try:
        known = json.loads(description.read_text(encoding="utf-8"))
        if known["settings"] == settings:
            return Release(root=root, **known["release"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{description} cannot be read; delete {root} to draw it anew.") from error
    raise InputError(
        f"{root} holds a release drawn with {known['settings']}, not {dict(settings)}; "
        "delete it or name another folder."
    )


def _remove_abandoned(root: Path) -> None:
    """Remove what a killed process left half-written; a living one keeps its folder."""
    import psutil

    for folder in root.parent.glob(f".{escape(root.name)}.partial-*"):
        owner = folder.name.rpartition("-")[2]
        if owner.isdigit() and (int(owner) == os.getpid() or not psutil.pid_exists(int(owner))):
            shutil.rmtree(folder, ignore_errors=True)


def _write(
    root: Path, settings: Mapping[str, int], on_progress: Callable[[int, int], None] | None
) -> Release:
    seed, photos = settings["seed"], settings["photos"]
    folder = PhotoFolder(root)
    rows: dict[str, list[Row]] = {TRAIN: [], VALIDATION: [], AUTO: []}
    plan = _plan(photos)
    for number, (list_name, expression) in enumerate(plan):
        # A generator of its own for each photo: one photo never changes the next.
        rows[list_name].append(
            _ordinary(np.random.default_rng([seed, 0, number]), folder, list_name, expression)
        )
        if on_progress is not None:
            on_progress(number + 1, len(plan))
    copies = max(1, photos // 400)
    odd, traps = odd_photos(np.random.default_rng([seed, 1]), folder, copies)
    lines: dict[str, list[str]] = {}
    if settings["shuffle_labels"]:
        for list_name, listed in rows.items():
            mixed = _shuffled(np.random.default_rng([seed, 2]), [*listed, *odd[list_name]])
            rows[list_name], odd[list_name] = mixed[: len(listed)], mixed[len(listed) :]
    more, row_traps = odd_rows(np.random.default_rng([seed, 3]), folder, rows, copies)
    for list_name, listed in rows.items():
        text = [*(row.line() for row in (*listed, *odd[list_name])), *more[list_name]]
        order = np.random.default_rng([seed, 4]).permutation(len(text))
        lines[list_name] = [text[i] for i in order]
        write_list(root, list_name, lines[list_name])
    counts = {list_name: len(text) for list_name, text in lines.items()}
    release = Release(root, folder.written, sum(counts.values()), counts, traps | row_traps)
    known = {name: value for name, value in asdict(release).items() if name != "root"}
    (root / _DESCRIPTION).write_text(
        json.dumps({"drawn_by": _DRAWN_BY, "settings": dict(settings), "release": known}, indent=1)
        + "\n",
        encoding="utf-8",
    )
    return release


def _plan(photos: int) -> list[tuple[str, str]]:
    """List and expression of every ordinary photo."""
    tested = max(16, round(_VALIDATION_SHARE * photos))
    auto = round(_AUTO_SHARE * photos * (1 if photos >= 120 else 0.8))
    five = ("Neutral", "Happiness", "Sadness", "Surprise", "Anger")
    least = {name: 4 if name in five else 1 for name in NAMES}
    shares = {
        TRAIN: _shares(photos - tested - auto, _MANUAL_WEIGHTS, least),
        VALIDATION: _shares(tested, _VALIDATION_WEIGHTS, dict.fromkeys(NAMES[:8], 2)),
        AUTO: _shares(auto, _AUTO_WEIGHTS, dict.fromkeys(NAMES[8:], 1)),
    }
    return [
        (list_name, name)
        for list_name, counts in shares.items()
        for name, count in counts.items()
        for _ in range(count)
    ]


def _shares(total: int, weights: Mapping[str, float], least: Mapping[str, int]) -> dict[str, int]:
    """Whole numbers that sum to `total`: the least of each, the rest where most is missing."""
    scale = total / sum(weights.values())
    counts = {name: least.get(name, 0) for name in weights}
    while sum(counts.values()) < total:
        name = max(weights, key=lambda name: weights[name] * scale - counts[name])
        counts[name] += 1
    return counts


def _ordinary(
    rng: np.random.Generator, folder: PhotoFolder, list_name: str, expression: str
) -> Row:
    photo = draw_photo(rng, expression)
    path = folder.new_path(rng)
    folder.write(list_name, path, encoded(photo.image, quality=int(rng.integers(35, 96))))
    listed = expression
    if list_name == AUTO and CODES[expression] < 8 and rng.random() < _WRONG_AUTO_LABELS:
        others = [name for name in NAMES[:8] if name != expression]
        listed = others[int(rng.integers(len(others)))]
    box, points = photo.box, photo.landmarks
    if box is None or points is None:
        box, points = listed_without_face(rng, photo.image)
    return Row(path, box, points, CODES[listed], *feelings(rng, listed))


def _shuffled(rng: np.random.Generator, rows: list[Row]) -> list[Row]:
    """The same rows with the expressions of codes 0 to 7 dealt anew among them."""
    places = [i for i, row in enumerate(rows) if row.expression < CODES["None"]]
    dealt = rng.permutation([rows[i].expression for i in places]).tolist()
    mixed = list(rows)
    for place, expression in zip(places, dealt, strict=True):
        mixed[place] = replace(rows[place], expression=expression)
    return mixed
