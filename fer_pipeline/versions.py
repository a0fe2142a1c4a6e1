"""The code version of each asset: what its result depends on beside its upstream assets.

A version is a number, raised when an asset's code changes its result, and a digest of the
settings that the asset reads. The Dagster UI marks an asset whose version changed, and `plan.py`
remakes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fer_pipeline.core.files import text_digest
from fer_pipeline.settings import Settings


@dataclass(frozen=True)
class _Version:
    number: int
    settings: tuple[str, ...]
    added: tuple[str, ...] = ()
    """Settings that came later: where they are left alone, the version is what it was."""


_BOUNDS = ("max_pixels", "max_decoded_bytes", "max_file_bytes")
_CROP = ("crop_settings", "shard_rows")
_TIES = ("tie_rule",)
_VERSIONS: Mapping[str, _Version] = {
    "file_list_index": _Version(
        3, ("dataset", "root", "unknown_labels"), ("datasets", "dataset_options")
    ),
    "expression_summary": _Version(1, ("wanted_classes", "seed", *_BOUNDS)),
    "class_manifest": _Version(
        4,
        ("wanted_classes", "label_source", "dev_share", "seed", "corrections_on_test"),
        (*_TIES, "compares_across", "bounds_across"),
    ),
    "face_crops": _Version(2, _CROP, ("cropped_by_option",)),
    "crop_report": _Version(1, ("seed",)),
    "trained_model": _Version(
        3, ("recipe", "label_source", "vote_share", "init", "seed", "minutes", "threads"), _TIES
    ),
    "evaluation_report": _Version(5, ("label_source", "seed", "resamples", "study"), _TIES),
    "champion": _Version(3, ("label_source", "seed", "resamples", "least_gain"), _TIES),
    # A study stays as it was drawn, whatever the settings of another one would be.
    "relabel_sample": _Version(1, ("study",)),
    "human_error_report": _Version(3, ("label_source", "seed", "resamples", "study"), _TIES),
    "label_issues": _Version(
        1,
        (
            *("recipe", "label_source", "seed", "minutes", "threads"),
            *("label_issue_folds", "suspects"),
        ),
        _TIES,
    ),
}


def version_number(asset: str) -> int:
    """The number of an asset's code, whatever its settings."""
    return _VERSIONS[asset].number


def code_version(asset: str, settings: Settings, stream: str | None = None) -> str:
    """The version of an asset (its last key part), for one stream where it belongs to one."""
    version = _VERSIONS[asset]
    classes = settings.all_streams[stream] if stream is not None else ()
    added = [name for name in version.added if getattr(settings, name)]
    digest = settings.digest(*version.settings, *added)
    return f"{version.number}-{text_digest(digest, *classes)[:8]}"
