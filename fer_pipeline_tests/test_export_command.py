"""The command that writes a model for other programs: what it is checked on, and what it says."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fer_pipeline import export_command
from fer_pipeline.core import export
from fer_pipeline.core.examples import load_images
from fer_pipeline.core.inference import ExpressionNetwork
from fer_pipeline.core.model_file import ModelCard, load_model, save_model
from fer_pipeline.core.network import build_network, served_model
from fer_pipeline.core.onnx_graph import onnx_graph
from fer_pipeline.core.presets import PRESETS
from fer_pipeline.core.recogniser import Recogniser
from fer_pipeline.settings import Settings
from fer_pipeline_tests import contenders, graph
from fer_pipeline_tests.graph import Ended

pytestmark = pytest.mark.usefixtures("own_environment")


def test_starter_is_exported_where_nothing_was_ever_made(
    here: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_command, "_DRAWN", 24)
    ended = here(
        *("export", "--model", "starter", "--format", "onnx", "--out", tmp_path / "face"),
        *("--home", tmp_path / "home", "--json"),
    )
    assert ended.code == 0, ended.err
    answer = ended.answer
    assert answer["model"] == str(tmp_path / "face.onnx")
    assert answer["checked"]["faces_are"] == (
        f"24 drawn faces ({tmp_path / 'home'} has no crops made as this model's)"
    )
    assert answer["checked"]["scores"] is None
    assert 0 < answer["checked"]["largest_difference"] < 1e-4
    report = json.loads((tmp_path / "face.onnx.json").read_text())
    assert report == {name: value for name, value in answer.items() if name in report}
    assert Recogniser.load(tmp_path / "face.onnx").classes == tuple(answer["classes"])
    assert "the label is the same on 24 of 24" in ended.words
    assert not (tmp_path / "home").exists()


@pytest.fixture(scope="module")
def home(drawn_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with crops of the preset smoke."""
    return graph.early_copy(drawn_release, tmp_path_factory.mktemp("crops") / "home")


@pytest.fixture(scope="module")
def model(home: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file for these crops."""
    path = tmp_path_factory.mktemp("model") / "model.keras"
    classes = home.all_streams["three_class"]
    card = ModelCard("three_class", classes, home.crop_settings, "listed", {})
    save_model(served_model(build_network(PRESETS["smoke"], 3, seed=2)), card, path)
    return path


def test_int8_file_is_scored_beside_the_model_on_the_home_s_dev_faces(
    here: Callable[..., Ended], tmp_path: Path, home: Settings, model: Path
) -> None:
    out = tmp_path / "small.onnx"
    ended = here(
        *("export", "--model", model, "--format", "onnx", "--int8", "--out", out),
        *("--home", home.home, "--json"),
    )
    assert ended.code == 0, ended.err
    checked = ended.answer["checked"]
    dev = contenders.dev_faces(home, "three_class")
    assert checked["faces"] == len(dev)
    assert checked["faces_are"] == f"{len(dev)} faces of dev"
    crops = load_images(dev)
    right = {
        "model": load_model(model)[0](crops, training=False).numpy().argmax(axis=1),
        "file": ExpressionNetwork(out).probabilities(crops).argmax(axis=1),
    }
    for name, said in right.items():
        assert checked["scores"]["accuracy"][f"{name}_count"] == (said == dev.expression).sum()
    difference = checked["scores"]["accuracy"]
    assert difference["difference_low"] <= difference["difference"] <= difference["difference_high"]
    assert {"macro_f1", "ece"} < checked["scores"].keys()
    assert ended.answer["int8_ranges_from"].endswith(" training faces")
    assert f"accuracy {difference['file']:.4f} instead of" in ended.words


def test_drawn_faces_stand_in_for_crops_of_another_manifest_and_the_reason_is_said(
    here: Callable[..., Ended],
    tmp_path: Path,
    home: Settings,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export_command, "_DRAWN", 16)
    listed = home.crops_folder / "crops.json"
    kept = listed.read_text()
    listed.write_text(json.dumps({**json.loads(kept), "manifest_hash": "0" * 16}))
    try:
        ended = here(
            *("export", "--model", model, "--format", "onnx", "--int8"),
            *("--out", tmp_path / "m.onnx", "--home", home.home),
        )
    finally:
        listed.write_text(kept)
    assert ended.code == 0, ended.err
    assert "on 16 drawn faces (the crops in" in ended.words
    assert "are of another manifest than today's) a probability differs by at most" in ended.words
    assert "drawn faces say nothing of its accuracy: give --home" in ended.words


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--format", "tflite"), "--format is one of onnx, litert, not 'tflite'"),
        (("--format", "litert"), "ends in .onnx, and litert files end in .tflite"),
        (("--model", "none.keras"), "none.keras is neither a file nor an MLflow address"),
        (("--out", "/proc/none/m.onnx"), "/proc/none/m.onnx can't be written ("),
        (("--model", __file__), "is no model file of this pipeline"),
        (("--model", "~nosuchuser/x"), "~nosuchuser/x stands in the home folder of a user"),
        (("--out", "~nosuchuser/x.onnx"), "~nosuchuser/x.onnx stands in the home folder of a user"),
        (("--out", f"{'x' * 300}.onnx"), "x.onnx can't be written (File name too long)"),
        (("--model", "models:/none@champion"), "models:/none@champion isn't known to sqlite://"),
        (("--model", "runs:/none/model"), "runs:/none/model isn't known to sqlite://"),
    ],
)
def test_wrong_words_are_one_sentence(
    here: Callable[..., Ended], tmp_path: Path, words: tuple[str, str], problem: str
) -> None:
    given = {"--model": "starter", "--format": "onnx", "--out": str(tmp_path / "m.onnx")}
    given.update([words])
    options = [word for pair in given.items() for word in pair]
    ended = here("export", *options, "--home", tmp_path / "home")
    assert ended.code == 2
    assert ended.words.startswith("wrong input: ")
    assert problem in ended.words
    assert not list(tmp_path.iterdir())


def test_file_that_says_something_else_fails_and_is_not_written(
    here: Callable[..., Ended],
    tmp_path: Path,
    home: Settings,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = ModelCard("three_class", home.all_streams["three_class"], home.crop_settings, "", {})
    other = tmp_path / "other.keras"
    save_model(served_model(build_network(PRESETS["smoke"], 3, seed=9)), card, other)
    monkeypatch.setattr(export, "onnx_graph", lambda _: onnx_graph(other))
    out = tmp_path / "out" / "m.onnx"
    ended = here(
        *("export", "--model", model, "--format", "onnx", "--out", out),
        *("--home", home.home, "--json"),
    )
    assert ended.code == 1
    assert "failed: m.onnx isn't written: a probability differs by 0." in ended.words
    assert "at most 0.0001 is rounding" in ended.answer["error"]
    assert not out.parent.exists()
