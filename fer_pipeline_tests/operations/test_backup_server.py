"""A laptop's home in the servers of a group, and back: asked for as those who use them do."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pytest

from fer_pipeline import tracking
from fer_pipeline.core.answers import AnswerStore
from fer_pipeline.core.model_file import read_card
from fer_pipeline.core.recogniser import Recogniser
from fer_pipeline.core.starter import starter_file
from fer_pipeline.operations.backup import all_answers
from fer_pipeline.registry import Registry
from fer_pipeline.settings import Settings
from fer_pipeline_tests.core.small_release import encoded, noise
from fer_pipeline_tests.deploy.native import PASSWORD, machine_of_its_own
from fer_pipeline_tests.graph import Ended
from fer_pipeline_tests.operations.moves import an_answer, assert_same, backup_of, restore_into
from fer_pipeline_tests.operations.registered import STREAM, promote, register
from fer_pipeline_tests.stored_starter import StoredStarter

pytestmark = [pytest.mark.usefixtures("own_environment"), pytest.mark.timeout(240)]

PHOTO = encoded(noise(80, 60))


def _with_a_real_model(home: Settings) -> str:
    """The home's registry gets a champion that scores; the address of it."""
    card = read_card(starter_file())
    with tracking.training_run(home, f"{card.stream}/trained_model", {}, "real") as run:
        run.log_metrics({"final_accuracy": 0.25})
        run.log_model(StoredStarter(), card, PHOTO)
    name = tracking.registered_name(card.stream)
    tracking.connect(home).set_registered_model_alias(name, "champion", "1")
    return f"models:/{name}@champion"


def test_laptop_moves_to_servers_that_run_and_back(
    full: Settings, tmp_path: Path, here: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    champion = _with_a_real_model(full)
    laptop, group, team = tmp_path / "laptop.tar.zst", tmp_path / "group.tar", tmp_path / "the team"
    said = backup_of(here, full, laptop)
    with machine_of_its_own() as machine, monkeypatch.context() as server:
        machine.up(["postgres", "mlflow"])
        login = f"fer:{quote(PASSWORD, safe='')}@127.0.0.1:{machine.ports[5432]}"
        server.setenv("FER_ANSWERS_URL", f"postgresql://{login}/answers")
        address = f"http://127.0.0.1:{machine.ports[5000]}/mlflow"
        server.setenv("FER_MLFLOW_TRACKING_URI", address)
        refused = restore_into(here, laptop, team)
        assert (refused.code, "FER_MLFLOW_DATABASE" in refused.answer["error"]) == (2, True)

        # Settings that are wrong one after the other, each with its remedy.
        server.setenv("FER_MLFLOW_FILES", str(tmp_path / "elsewhere"))
        server.setenv("FER_MLFLOW_DATABASE", f"postgresql://{login}/answers")
        refused = restore_into(here, laptop, team)
        assert (refused.code, "no tables of MLflow" in refused.answer["error"]) == (2, True)
        server.setenv("FER_MLFLOW_DATABASE", f"postgresql://{login}/mlflow")
        refused = restore_into(here, laptop, team, "--into-empty")
        assert refused.code == 2, (refused.out, refused.err)
        assert "finds no file" in refused.answer["error"]
        shutil.rmtree(tmp_path / "elsewhere")
        server.setenv("FER_MLFLOW_FILES", str(machine.paths["/mlflow-artifacts"]))
        ended = restore_into(here, laptop, team)
        assert ended.code == 0, ended.err
        assert (ended.answer["registry"], ended.answer["answers_there"]) == ("there already", 3)
        again = restore_into(here, laptop, team)
        assert (again.answer["files"], again.answer["answers_added"]) == (0, 0)

        shared = Settings.load(home=team)
        client = tracking.connect(shared)
        model = mlflow.pyfunc.load_model(champion)
        (face,) = model.predict(pd.DataFrame({"image": [PHOTO], **_box()})).to_dict("records")
        (expected,) = Recogniser.load(starter_file()).read(PHOTO, boxes=[(0, 0, 80, 60)])
        assert (face["status"], face["label"]) == ("ok", expected.label)
        run = client.get_run(model.metadata.run_id)
        assert run.data.metrics == {"final_accuracy": 0.25}
        assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
        assert tracking.run_file(shared, run.info.run_id, "evaluation/none") is None
        assert_same(full, shared)
        assert all_answers(shared) == all_answers(full)

        # What comes next gets numbers that aren't taken.
        tracking.connect(shared)
        taken = {one.experiment_id for one in client.search_experiments()}
        assert client.create_experiment("another") not in taken
        assert register(shared) == "5"
        promote(shared, "5")
        with contextlib.closing(AnswerStore(shared.answers_address)) as store:
            assert store.add(an_answer(9))
        back = backup_of(here, shared, group)
        assert back["versions"] == said["versions"] | {
            tracking.registered_name(STREAM): [1, 2, 3, 4, 5]
        }
        at_last, there = Registry(shared, STREAM).champion(), all_answers(shared)
    assert PASSWORD.encode() not in group.read_bytes()
    assert quote(PASSWORD, safe="").encode() not in group.read_bytes()
    ended = restore_into(here, group, tmp_path / "home again", "--into-empty")
    assert ended.code == 0, ended.err
    home = Settings.load(home=tmp_path / "home again")
    assert all_answers(home) == there
    assert Registry(home, STREAM).champion() == at_last == "5"
    assert len(tracking.model_file(home, champion).read_bytes()) > 0


def _box() -> dict[str, list[float]]:
    return {"x": [0.0], "y": [0.0], "width": [80.0], "height": [60.0]}
