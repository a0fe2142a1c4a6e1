"""A model as a file for other programs says what Keras says, or isn't written."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from fer_pipeline.core import export
from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.drawn_crops import drawn_crops
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.export import Format, check_tools, export_model, out_file
from fer_pipeline.core.export_check import (
    TOLERANCE,
    DifferenceError,
    Faces,
    Labels,
    check_export,
)
from fer_pipeline.core.inference import ExpressionNetwork
from fer_pipeline.core.litert_file import litert_probabilities
from fer_pipeline.core.model_file import ModelCard, load_model, read_card, save_model
from fer_pipeline.core.network import build_network, served_model
from fer_pipeline.core.onnx_file import read_onnx, with_card
from fer_pipeline.core.onnx_graph import onnx_graph
from fer_pipeline.core.presets import PRESETS
from fer_pipeline.core.recogniser import Recogniser
from fer_pipeline.core.starter import starter_file
from fer_pipeline_tests.core.drawn_shapes import tiny_preset

CLASSES = ("Neutral", "Happiness", "Sadness")
FACES = 24


def _faces(crop: CropSettings, classes: int) -> Faces:
    crops = drawn_crops(crop, 2 * FACES, seed=1)
    labels = Labels(np.arange(FACES) % classes, np.arange(FACES).astype(str))
    return Faces(crops[:FACES], labels, "drawn faces", crops[FACES:], "others")


def _smoke_model(path: Path, seed: int) -> Path:
    """A network of three classes in which each layer does something."""
    preset = PRESETS["smoke"]
    network = build_network(preset, len(CLASSES), seed)
    rng = np.random.default_rng(seed)
    for layer in network.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([rng.uniform(0.5, 1.5, one.shape) for one in layer.get_weights()])
    card = ModelCard(
        stream="three_class",
        classes=CLASSES,
        crop=CropSettings(side=preset.side, colour=preset.colour),
        label_source="listed",
        trained_on={"seed": seed, "init": "/home/somebody/mine.keras"},
        temperature=1.25,
        flip=True,
        prior=(0.2, 0.3, 0.5),
    )
    save_model(served_model(network, 1.25, flip=True), card, path)
    return path


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _smoke_model(tmp_path_factory.mktemp("smoke") / "model.keras", seed=3)


@pytest.fixture(scope="module")
def smoke_faces(smoke: Path) -> Faces:
    return _faces(read_card(smoke).crop, len(CLASSES))


@pytest.fixture(scope="module")
def starter_faces() -> Faces:
    return _faces(read_card(starter_file()).crop, 7)


@pytest.fixture(scope="module")
def starter_onnx(tmp_path_factory: pytest.TempPathFactory, starter_faces: Faces) -> Path:
    out = tmp_path_factory.mktemp("exported") / "starter.onnx"
    return export_model(starter_file(), out, Format.ONNX, starter_faces).file


def _keras(path: Path, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(load_model(path)[0](crops, training=False))


def test_exported_starter_recognises_as_the_starter_does(
    starter_onnx: Path, starter_faces: Faces
) -> None:
    exported, shipped = Recogniser.load(starter_onnx), Recogniser.load()
    crops = starter_faces.crops
    assert exported.recognise_crops(crops) == pytest.approx(
        _keras(starter_file(), crops), abs=TOLERANCE
    )
    assert exported.card == shipped.card
    face = crops[3, :, :, 0]
    assert exported.read(face)[0].label == shipped.read(face)[0].label


def test_file_alone_says_how_it_is_used(starter_onnx: Path, starter_faces: Faces) -> None:
    card = read_card(starter_file())
    session = onnxruntime.InferenceSession(starter_onnx.read_bytes())
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == list(card.classes)
    assert json.loads(told["crop"])["side"] == 48
    assert json.loads(told["temperature"]) == card.temperature
    assert json.loads(told["prior"]) == list(card.prior or ())
    assert "Input pixels: uint8 (faces, 48, 48, 1), values 0 to 255, grey" in told["use"]
    (given,), (asked,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("pixels", "tensor(uint8)", [48, 48, 1])
    assert (asked.name, asked.type) == ("probabilities", "tensor(float)")
    (said,) = session.run(None, {"pixels": starter_faces.crops[:5]})
    assert said.sum(axis=1) == pytest.approx(np.ones(5), abs=1e-5)


def test_report_names_the_model_the_faces_and_the_largest_difference(
    smoke: Path, smoke_faces: Faces, tmp_path: Path
) -> None:
    made = export_model(smoke, tmp_path / "deep" / "three.onnx", Format.ONNX, smoke_faces)
    report = json.loads(made.report_file.read_text())
    assert sorted(path.name for path in made.file.parent.iterdir()) == [
        "three.onnx",
        "three.onnx.json",
    ]
    assert report["bytes"] == made.file.stat().st_size
    assert report["input"]["shape"] == [None, 48, 48, 1]
    assert report["classes"] == list(CLASSES)
    assert len(report["made_from"]["sha256"]) == len(report["sha256"]) == 64
    checked = report["checked"]
    expected = _keras(smoke, smoke_faces.crops)
    said = ExpressionNetwork(made.file).probabilities(smoke_faces.crops)
    assert checked["largest_difference"] == pytest.approx(np.abs(said - expected).max(), abs=1e-6)
    assert checked["largest_difference"] < TOLERANCE
    assert checked["faces"] == checked["same_label_count"] == FACES
    right = np.mean(expected.argmax(axis=1) == np.arange(FACES) % 3)
    assert checked["scores"]["accuracy"]["model"] == pytest.approx(right)
    assert checked["scores"]["accuracy"]["file"] == pytest.approx(right)
    # Paths of this machine stay here.
    assert "/home/somebody" not in made.report_file.read_text()
    assert read_onnx(made.file)[1].trained_on["init"] == "mine.keras"


def test_int8_starter_has_a_quarter_of_the_size_and_nearly_the_same_answers(
    starter_onnx: Path, starter_faces: Faces, tmp_path: Path
) -> None:
    made = export_model(
        starter_file(), tmp_path / "small.onnx", Format.ONNX, starter_faces, int8=True
    )
    assert made.file.stat().st_size < 0.3 * starter_onnx.stat().st_size
    kinds = {node.op_type for node in onnx.load(made.file).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    said = Recogniser.load(made.file).recognise_crops(starter_faces.crops)
    expected = _keras(starter_file(), starter_faces.crops)
    assert said.sum(axis=1) == pytest.approx(np.ones(FACES), abs=1e-5)
    assert np.abs(said - expected).mean() < 0.03
    difference = np.abs(said - expected).max()
    assert made.check.largest_difference == pytest.approx(difference, abs=1e-6)
    assert difference > TOLERANCE
    assert made.check.agreement.count >= 0.85 * FACES
    assert made.check.scores is not None
    gain = made.check.scores.paired.accuracy.difference
    assert gain.low <= gain.value <= gain.high
    assert made.report["int8_ranges_from"] == "others"


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
def test_litert_file_says_what_keras_says(tmp_path: Path, int8: bool) -> None:
    preset = tiny_preset()
    card = ModelCard("three_class", CLASSES, CropSettings(side=preset.side), "listed", {})
    model = tmp_path / "tiny.keras"
    save_model(served_model(build_network(preset, 3, seed=1), 0.5), card, model)
    faces = _faces(card.crop, 3)
    made = export_model(model, tmp_path / "tiny.tflite", Format.LITERT, faces, int8=int8)
    said = litert_probabilities(made.file.read_bytes(), faces.crops)
    expected = _keras(model, faces.crops)
    assert expected.std() > 0.02
    difference = np.abs(said - expected)
    assert bool(difference.max() > TOLERANCE) is int8
    assert difference.mean() < (0.02 if int8 else 1e-6)
    assert said.sum(axis=1) == pytest.approx(np.ones(FACES), abs=1e-5)
    assert json.loads(made.report_file.read_text())["card"]["classes"] == list(CLASSES)


@pytest.fixture
def other_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[], pytest.MonkeyPatch]:
    """Makes the graph that of another model, as a fault in reading the weights would."""

    def plant() -> pytest.MonkeyPatch:
        other = _smoke_model(tmp_path / "other.keras", seed=4)
        monkeypatch.setattr(export, "onnx_graph", lambda _: onnx_graph(other))
        return monkeypatch

    return plant


def test_file_that_says_something_else_is_refused_and_the_old_one_stays(
    smoke: Path, smoke_faces: Faces, tmp_path: Path, other_weights: Callable[[], Any]
) -> None:
    out = tmp_path / "out" / "three.onnx"
    kept = export_model(smoke, out, Format.ONNX, smoke_faces).file.read_bytes()
    other_weights()
    with pytest.raises(DifferenceError, match=r"three\.onnx isn't written: a probability differs"):
        export_model(smoke, out, Format.ONNX, smoke_faces)
    assert out.read_bytes() == kept
    assert len(list(out.parent.iterdir())) == 2


def test_what_is_not_a_probability_is_refused_even_of_eight_bits(smoke_faces: Faces) -> None:
    model = np.full((FACES, 3), 1 / 3, np.float32)
    broken = model.copy()
    broken[7, 1] = np.nan
    words = {"faces": smoke_faces, "exact": False, "seed": 0, "resamples": 20}
    with pytest.raises(DifferenceError, match="not all probabilities"):
        check_export("x.onnx", model, broken, **words)  # type: ignore[arg-type]
    nearly = model + np.float32(0.9 * TOLERANCE)
    words["exact"] = True
    assert check_export("x.onnx", model, nearly, **words)  # type: ignore[arg-type]
    with pytest.raises(DifferenceError, match=r"at most 0\.0001 is rounding"):
        check_export("x.onnx", model, model + np.float32(1.1 * TOLERANCE), **words)  # type: ignore[arg-type]


@pytest.mark.parametrize("at", ["compared", "half written"])
def test_interrupted_export_leaves_nothing(
    smoke: Path, smoke_faces: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    write = Path.write_bytes

    def interrupted(path: Path, data: bytes) -> int:
        if path.parent != out.parent:
            return write(path, data)
        write(path, data[: len(data) // 2])
        raise KeyboardInterrupt

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out" / "three.onnx"
    out.parent.mkdir()
    if at == "compared":
        monkeypatch.setattr(export, "check_export", stopped)
    else:
        monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_model(smoke, out, Format.ONNX, smoke_faces)
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("fault", ["no card", "other classes", "half", "text"])
def test_foreign_or_damaged_onnx_file_is_one_sentence(
    smoke: Path, tmp_path: Path, fault: str
) -> None:
    graph, card = onnx_graph(smoke), read_card(smoke)
    content = {
        "no card": graph,
        "other classes": with_card(graph, replace(card, classes=("Happiness", "Anger"))),
        "half": with_card(graph, card)[: len(graph) // 2],
        "text": b"a note about models",
    }[fault]
    path = tmp_path / "foreign.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"foreign\.onnx is no ONNX file of this pipeline"):
        Recogniser.load(path)


@pytest.mark.parametrize(
    ("name", "damaged"),
    [
        (b"temperature", b"temperatu\xffe"),
        (b"BatchNormalization", b"BatchNormalizatiom"),
        (b"value_3", b"value_X"),
    ],
    ids=["text", "operation", "input"],
)
def test_onnx_file_with_a_damaged_network_is_one_sentence(
    smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: bytes, damaged: bytes
) -> None:
    path = tmp_path / "damaged.onnx"
    whole = with_card(onnx_graph(smoke), read_card(smoke))
    assert name in whole
    path.write_bytes(whole.replace(name, damaged, 1))
    with pytest.raises(InputError, match=r"damaged\.onnx holds a damaged network \([^\n]*\): give"):
        Recogniser.load(path)
    assert capsys.readouterr().out == ""


def test_keras_archive_is_read_as_one_whatever_it_is_called(smoke: Path, tmp_path: Path) -> None:
    path = shutil.copy(smoke, tmp_path / "model.onnx")
    assert ExpressionNetwork(Path(path)).classes == CLASSES


def test_name_without_an_ending_gets_the_fitting_one(tmp_path: Path) -> None:
    assert out_file(tmp_path / "m", Format.ONNX) == tmp_path / "m.onnx"
    assert out_file(tmp_path / "m", Format.LITERT) == tmp_path / "m.tflite"
    assert out_file(tmp_path / "m.ONNX", Format.ONNX) == tmp_path / "m.ONNX"


def test_place_that_can_not_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(InputError, match=r"ends in \.tflite, and onnx files end in \.onnx"):
        out_file(tmp_path / "m.tflite", Format.ONNX)
    with pytest.raises(InputError, match=r"folder\.onnx is a folder"):
        out_file(tmp_path / "folder.onnx", Format.ONNX)
    with pytest.raises(InputError, match=r"can't be written \(Not a directory\)"):
        out_file(tmp_path / "file" / "m.onnx", Format.ONNX)


@pytest.mark.parametrize(
    ("missing", "kind", "remedy"),
    [
        ("keras", Format.ONNX, "compared with the model in Keras .*: install tensorflow-cpu"),
        ("tensorflow", Format.LITERT, r"pip install 'fer_pipeline\[litert\]'"),
        ("ai_edge_litert.interpreter", Format.LITERT, r"pip install 'fer_pipeline\[litert\]'"),
    ],
)
def test_missing_package_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, missing: str, kind: Format, remedy: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=remedy):
        check_tools(kind)


def test_as_many_faces_are_drawn_as_are_asked_for_whatever_a_model_takes_for_too_small() -> None:
    crops = drawn_crops(CropSettings(side=20, colour="rgb", min_face=4000), 9, seed=3)
    assert crops.shape == (9, 20, 20, 3)
