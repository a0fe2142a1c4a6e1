"""Model cards that evaluations left in MLflow, and the versions that addresses stand for.

What a card says is in `core/model_card.py`.
"""

import re
from pathlib import Path

from fer_pipeline import tracking
from fer_pipeline.core.errors import InputError
from fer_pipeline.settings import Settings
from fer_pipeline.tracking_server import out_of_reach

_CARD = "evaluation/model_card.md"
"""Artifact of a training's run that its evaluation adds."""
_ALIAS = re.compile(r"models:/([^/@]+)@([^/@]+)")
_VERSION = re.compile(r"models:/[^/@]+/(\d+)")


def card_text(settings: Settings, address: str) -> str | None:
    """The card that the evaluation of a logged model left in its run; None where it left none."""
    import mlflow

    client = tracking.connect(settings)
    run_id = mlflow.models.get_model_info(address).run_id
    folder = str(Path(_CARD).parent)
    if not run_id or _CARD not in {file.path for file in client.list_artifacts(run_id, folder)}:
        return None
    kept = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=_CARD)
    return Path(kept).read_text(encoding="utf-8")


def with_version(settings: Settings, address: str) -> str:
    """The address with the number of the version that holds its alias now; others as they are.

    Raises InputError when no version holds the alias.
    """
    alias = _ALIAS.fullmatch(address)
    if alias is None:
        return address
    from mlflow.exceptions import MlflowException

    name, word = alias.groups()
    try:
        version = tracking.connect(settings).get_model_version_by_alias(name, word).version
    except MlflowException as error:
        if out_of_reach(error):
            raise
        raise InputError(
            f"{address} isn't known to {tracking.tracking_uri(settings)}: give --home the folder "
            "of the run that trained it"
        ) from error
    return f"models:/{name}/{version}"


def version_of(address: str) -> str | None:
    """The version that an address names by its number."""
    found = _VERSION.fullmatch(address)
    return None if found is None else found.group(1)
