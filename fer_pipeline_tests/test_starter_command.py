"""The starter model by its name on the command line, and the command that makes its files."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fer_pipeline import tracking
from fer_pipeline.core.crop import prepare_face
from fer_pipeline.core.drawing import draw_photo
from fer_pipeline.core.model_file import load_model, read_card
from fer_pipeline.core.network import build_network, served_model
from fer_pipeline.core.presets import PRESETS
from fer_pipeline.core.starter import starter_file
from fer_pipeline.settings import Settings
from fer_pipeline.streams import STREAMS
from fer_pipeline_tests import contenders, graph
from fer_pipeline_tests.core.parquet_faces import FER, write_split
from fer_pipeline_tests.core.small_release import encoded
from fer_pipeline_tests.graph import Ended

pytestmark = pytest.mark.usefixtures("own_environment")

NAMES = {
    "Anger": "angry", "Disgust": "disgust", "Fear": "fear", "Happiness": "happy",
    "Sadness": "sad", "Surprise": "surprise", "Neutral": "neutral",
}  # fmt: skip
CARD = "# Expression model three_class\n\n## Figures\n\n- Accuracy 0.5.\n"


@dataclass(frozen=True)
class Faces:
    """A test list, its pictures, their classes, and what the starter says of each, (n, 7)."""

    root: Path
    names: list[str]
    probabilities: np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    """42 drawn faces of 48 pixels, six of each class."""
    root = tmp_path_factory.mktemp("faces")
    pictures, names = [], []
    for number in range(42):
        name = list(NAMES)[number % 7]
        photo = draw_photo(np.random.default_rng([11, number]), name, size=(160, 160))
        assert photo.box is not None
        x, y, width, height = (round(side) for side in photo.box)
        face = photo.image[max(0, y) : y + height, max(0, x) : x + width]
        pictures.append(encoded(cv2.resize(face, (48, 48), interpolation=cv2.INTER_AREA)))
        names.append(name)
    write_split(root, "test", [FER.index(NAMES[name]) for name in names], images=pictures)
    model, card = load_model(starter_file())
    crops = [prepare_face(data, None, card.crop).crop for data in pictures]
    return Faces(root, names, np.asarray(model(np.stack(crops), training=False)))


@pytest.mark.parametrize("stream", [None, "five_class", "three_class"])
def test_starter_is_scored_where_nothing_was_ever_trained(
    here: Callable[..., Ended], tmp_path: Path, faces: Faces, stream: str | None
) -> None:
    words = ("--stream", stream) if stream else ()
    ended = here(
        *("evaluate", "--model", "starter", "--dataset", "hf-parquet", "--root", faces.root),
        *("--split", "test", "--home", tmp_path / "home", "--json", *words),
    )
    assert ended.code == 0, ended.err
    assert not (tmp_path / "home").exists()
    classes = STREAMS[stream or "seven_class"]
    columns = [STREAMS["seven_class"].index(name) for name in classes]
    right = [
        classes[int(probability[columns].argmax())] == name
        for name, probability in zip(faces.names, faces.probabilities, strict=True)
        if name in classes
    ]
    answer = ended.answer
    assert answer["accuracy"] == pytest.approx(np.mean(right))
    assert answer["n"] == len(right) == 6 * len(classes)
    assert answer["classes"] == list(classes)
    assert answer["model"] == "starter"
    assert answer["model_classes"] == list(STREAMS["seven_class"])
    assert answer["stream"] == (stream or "seven_class")
    assert answer["rows_left_out"] == 42 - len(right)
    assert answer["classes_left_out"] == {
        name: 6 for name in STREAMS["seven_class"] if name not in classes
    }
    assert "model starter: seven_class of 7 classes, trained on hf-parquet" in ended.words
    assert (f"of its classes those of {stream}: {', '.join(classes)}" in ended.words) is bool(words)


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        ("eight_class", "the model has no class for Contempt: it tells Neutral, Happiness"),
        ("nine_class", "--stream takes one of five_class, .*, not 'nine_class'"),
    ],
)
def test_stream_that_the_starter_can_not_tell_is_one_sentence(
    here: Callable[..., Ended], tmp_path: Path, faces: Faces, stream: str, problem: str
) -> None:
    ended = here(
        *("evaluate", "--model", "starter", "--dataset", "hf-parquet", "--root", faces.root),
        *("--stream", stream, "--home", tmp_path / "home"),
    )
    assert ended.code == 2
    assert re.search(problem, ended.words)
    assert "Traceback" not in ended.err


def test_starter_is_the_package_s_own_whatever_lies_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "starter").write_text("mine")
    settings = Settings.load(home=tmp_path / "home", init="starter")
    assert settings.init == "starter"
    assert tracking.model_file(settings, "starter") == starter_file()
    assert tracking.model_file(settings, "./starter") == Path("starter")


@pytest.fixture(scope="module")
def home(drawn_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with two registered versions, of which the second was evaluated."""
    folder = tmp_path_factory.mktemp("registered")
    settings = graph.early_copy(drawn_release, folder / "home")
    model = served_model(build_network(PRESETS["smoke"], 3, seed=2))
    for _ in range(2):
        made = contenders.register(settings, "three_class", model, folder)
    card = folder / "model_card.md"
    card.write_text(CARD)
    tracking.log_evaluation(settings, made["mlflow_run_id"], {}, [card])
    return settings


def test_files_are_made_from_a_version_and_its_own_card(
    here: Callable[..., Ended], home: Settings, tmp_path: Path
) -> None:
    out = tmp_path / "made"
    ended = here(
        *("starter", "--model", "models:/fer-three_class/2", "--out", out),
        *("--home", home.home, "--json"),
    )
    assert ended.code == 0, ended.err
    answer = ended.answer
    assert answer["model"] == str(out / "starter.keras")
    assert answer["bytes"] == (out / "starter.keras").stat().st_size
    assert 0 < answer["largest_difference"] <= 1e-3
    assert (out / "MODEL_CARD.md").read_text().startswith(CARD)
    assert read_card(out / "starter.keras").stream == "three_class"


def test_what_can_be_no_starter_is_told_in_one_sentence(
    here: Callable[..., Ended], home: Settings, tmp_path: Path
) -> None:
    file = tracking.model_file(home, "models:/fer-three_class/2")
    for model, problem in (
        ("models:/fer-three_class/1", "was never evaluated"),
        ("models:/fer-three_class/9", "isn't known to"),
        (str(file), "is no registered version"),
        ("starter", "is no registered version"),
    ):
        ended = here("starter", "--model", model, "--out", tmp_path / "out", "--home", home.home)
        assert ended.code == 2, ended.err
        assert problem in ended.words
        assert "Traceback" not in ended.err
    assert not (tmp_path / "out").exists()
