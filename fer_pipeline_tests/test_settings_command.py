"""`fer-pipeline settings`: every setting with its value, and no password."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fer_pipeline.settings import Settings
from fer_pipeline_tests.graph import SECRET, SECRETS, Ended

pytestmark = pytest.mark.usefixtures("own_environment")


def _rows(ended: Ended) -> dict[str, dict[str, Any]]:
    assert ended.code == 0, ended.err
    return {row["name"]: row for row in ended.answer["settings"]}


def test_every_setting_is_told_with_where_its_value_comes_from(
    tmp_path: Path, here: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings.toml").write_text("min_face = 20\nseed = 3\n")
    monkeypatch.setenv("FER_SEED", "4")
    rows = _rows(here("settings", "--home", tmp_path, "--json"))
    assert rows.keys() == Settings.model_fields.keys()
    assert all(row["meaning"] for row in rows.values())
    assert {name: (rows[name]["value"], rows[name]["from"]) for name in ("min_face", "seed")} == {
        "min_face": (20, "settings.toml"),
        "seed": (4, "environment"),
    }
    assert (rows["home"]["value"], rows["home"]["from"]) == (str(tmp_path), "option")
    assert (rows["crop_margin"]["value"], rows["crop_margin"]["from"]) == (0.12, "default")


def test_a_word_chooses_by_name_and_meaning_and_one_of_nothing_is_wrong_input(
    tmp_path: Path, here: Callable[..., Ended]
) -> None:
    rows = _rows(here("settings", "Bootstrap", "--home", tmp_path, "--json"))
    assert rows.keys() == {"resamples"}
    ended = here("settings", "no-such-thing", "--home", tmp_path)
    assert ended.code == 2
    assert "no setting speaks of 'no-such-thing'" in ended.words


def test_no_password_is_shown(
    tmp_path: Path, here: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {name: value for name, value in SECRETS.items() if name.startswith("FER_")}
    own["FER_ANSWERS_URL"] = f"postgresql://fer:{SECRET}@127.0.0.1:9/answers"
    own["FER_MLFLOW_TRACKING_URI"] = f"http://fer:{SECRET}@127.0.0.1:9"
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    ended = here("settings", "--home", tmp_path, "--json")
    rows = _rows(ended)
    assert rows["serve_token"]["value"] == "***"
    assert rows["answers_url"]["value"] == "postgresql://fer:***@127.0.0.1:9/answers"
    assert SECRET not in ended.out + ended.err
