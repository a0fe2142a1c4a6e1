"""What the checks of a champion say where nothing was decided; the rest is in assets/."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from fer_pipeline.champion import champion_file
from fer_pipeline.champion_checks import champion_checks
from fer_pipeline.core.files import publish_json
from fer_pipeline.settings import Settings


def test_champion_that_only_a_person_chose_is_no_decision_to_check(tmp_path: Path) -> None:
    settings = Settings.fresh(home=tmp_path)
    publish_json(champion_file(settings, "three_class"), {"champion": "2", "decision": None})
    (checks,) = champion_checks("three_class")
    results = checks(settings)
    assert isinstance(results, Iterator)
    with pytest.raises(dg.Failure, match="no run decided on a champion yet: materialize"):
        next(results)
