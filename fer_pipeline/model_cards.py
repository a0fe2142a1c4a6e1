"""Model cards that evaluations left in MLflow, and the versions that addresses stand for.

What a card says is in `core/model_card.py`.
"""

import re

from fer_pipeline import tracking
from fer_pipeline.settings import Settings

_CARD = "evaluation/model_card.md"
"""Artifact of a training's run that its evaluation adds."""
_ALIAS = re.compile(r"models:/([^/@]+)@([^/@]+)")
_VERSION = re.compile(r"models:/[^/@]+/(\d+)")


def card_text(settings: Settings, address: str) -> str | None:
    """The card that the evaluation of a logged model left in its run; None where it left none."""
    import mlflow

    tracking.connect(settings)
    run_id = mlflow.models.get_model_info(address).run_id
    kept = tracking.run_file(settings, run_id, _CARD) if run_id else None
    return None if kept is None else kept.decode()


def with_version(settings: Settings, address: str) -> str:
    """The address with the number of the version that holds its alias now; others as they are.

    Raises InputError when no version holds the alias.
    """
    alias = _ALIAS.fullmatch(address)
    if alias is None:
        return address
    name, word = alias.groups()
    with tracking.known(settings, address) as client:
        return f"models:/{name}/{client.get_model_version_by_alias(name, word).version}"


def version_of(address: str) -> str | None:
    """The version that an address names by its number."""
    found = _VERSION.fullmatch(address)
    return None if found is None else found.group(1)
