"""A registered version behind `mlflow models serve`: the answers are those of the library."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from fer_pipeline import tracking
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.model_file import read_card
from fer_pipeline.core.recogniser import Recogniser
from fer_pipeline.core.starter import starter_file
from fer_pipeline.registry import ALIAS
from fer_pipeline.serve_command import _model
from fer_pipeline.settings import Settings
from fer_pipeline.tracking_server import tracking_uri
from fer_pipeline_tests.core.small_release import encoded, noise
from fer_pipeline_tests.graph import environment
from fer_pipeline_tests.service.running import Client
from fer_pipeline_tests.stored_starter import StoredStarter
from fer_pipeline_tests.system import answers, free_ports

_START_SECONDS = 120
NAME = "fer-seven_class"
ADDRESS = f"models:/{NAME}@{ALIAS}"
BOX = (30.0, 40.0, 200.0, 200.0)
TEXT = "# Expression model seven_class\n\n## Figures\n\n- Accuracy 0.5.\n"


@dataclass(frozen=True)
class Registered:
    """A home whose registry has the starter as the champion of its stream."""

    settings: Settings
    run_id: str


@dataclass(frozen=True)
class Served:
    """MLflow's server of the champion."""

    client: Client
    process: "subprocess.Popen[bytes]"

    def predict(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        body = json.dumps({"dataframe_records": rows})
        answer = self.client.ask("POST", "/invocations", body, "application/json")
        assert answer.status == 200, answer.body
        found: list[dict[str, Any]] = answer.json["predictions"]
        return found


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, group: bytes) -> Registered:
    settings = Settings.fresh(home=tmp_path_factory.mktemp("served") / "home")
    card = read_card(starter_file())
    with tracking.training_run(settings, f"{card.stream}/trained_model", {}, "served") as run:
        logged = run.log_model(StoredStarter(), card, group)
    client = tracking.connect(settings)
    client.set_registered_model_alias(NAME, ALIAS, "1")
    assert logged.model_uri == f"models:/{NAME}/1"
    return Registered(settings, logged.run_id)


@pytest.fixture(scope="module")
def served(registered: Registered) -> Iterator[Served]:
    (port,) = free_ports(1)
    home = registered.settings.home
    variables = environment(
        MLFLOW_TRACKING_URI=tracking_uri(registered.settings),
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
        # As in an activated environment: MLflow looks for uvicorn there.
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    )
    # The source tree isn't to lend what the model's own code may lack.
    variables.pop("PYTHONPATH", None)
    words = ("models", "serve", "-m", ADDRESS, "--env-manager", "local", "--port", str(port))
    log = home / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            cwd=home,
            env=variables,
            stdout=output,
            stderr=output,
        )
    end = time.monotonic() + _START_SECONDS
    try:
        while not answers(f"http://127.0.0.1:{port}/ping"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.3)
        yield Served(Client(port), process)
    finally:
        for one in _family(process):
            one.kill()
        process.wait()


def _family(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    if process.poll() is not None:
        return []
    parent = psutil.Process(process.pid)
    return [*parent.children(recursive=True), parent]


def test_base64_pictures_with_and_without_a_box_get_the_answers_of_the_library(
    served: Served, recogniser: Recogniser, group: bytes
) -> None:
    image = base64.b64encode(group).decode()
    box = dict(zip(("x", "y", "width", "height"), BOX, strict=True))
    found, largest = served.predict([{"image": image, **box}, {"image": image}])
    expected = [recogniser.read(group, boxes=[BOX])[0], recogniser.read(group)[0]]
    for row, face in zip((found, largest), expected, strict=True):
        assert (row["status"], row["label"]) == ("ok", face.label)
        assert face.probabilities is not None
        shares = {name: row[f"p_{name.lower()}"] for name in recogniser.classes}
        assert shares == pytest.approx(face.probabilities, abs=1e-4)
        assert [row[name] for name in box] == pytest.approx(face.box)
    (alone,) = served.predict([{"image": image}])
    assert alone == largest
    for one in _family(served.process):
        assert "tensorflow" not in Path(f"/proc/{one.pid}/maps").read_text()


def test_what_is_no_picture_is_a_row_that_says_so(served: Served) -> None:
    blank = base64.b64encode(encoded(noise(1))).decode()
    rows = served.predict([{"image": "aGVsbG8="}, {"image": blank}])
    assert [row["status"] for row in rows] == ["unreadable", "no_face"]
    assert [row["label"] for row in rows] == [None, None]


def test_serve_takes_the_version_that_holds_the_alias_and_tells_its_number_and_card(
    registered: Registered,
) -> None:
    settings = registered.settings
    file, about = _model(settings, ADDRESS)
    assert (about.name, about.version, about.card) == (ADDRESS, "1", None)
    assert read_card(file) == read_card(starter_file())
    tracking.connect(settings).log_text(registered.run_id, TEXT, "evaluation/model_card.md")
    told = _model(settings, f"models:/{NAME}/1")[1].answer(read_card(file))
    assert (told.name, told.version) == (f"models:/{NAME}/1", "1")
    assert told.card == {"Figures": ["Accuracy 0.5."]}
    assert _model(settings, str(file))[1].name == "model.keras"


def test_alias_that_nobody_holds_is_one_sentence(registered: Registered) -> None:
    for address in (f"models:/{NAME}@nobody", "models:/fer-mood@champion"):
        with pytest.raises(InputError, match="isn't known to sqlite:"):
            _model(registered.settings, address)
