"""The starter model in the package, and how its files are made."""

import io
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_pipeline.core import starter
from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.model_file import CARD, ModelCard, load_model, read_card, save_model
from fer_pipeline.core.network import build_network, served_model
from fer_pipeline.core.overrides import read_overrides, with_overrides
from fer_pipeline.core.presets import PRESETS
from fer_pipeline.core.starter import (
    MAX_BYTES,
    TOLERANCE,
    starter_card_file,
    starter_file,
    write_starter,
)
from fer_pipeline.core.transfer import open_source, take_weights
from fer_pipeline.streams import STREAMS
from fer_pipeline_tests.core.drawn_shapes import CLASSES, SIDE, tiny_preset

TEXT = "# Expression model three_class\n\n## Figures\n\n- Accuracy 0.5.\n"


def _arrays(path: Path) -> dict[str, Any]:
    """The arrays of a model file's weights, by name: (shape, dtype)."""
    import h5py

    found: dict[str, Any] = {}
    with (
        zipfile.ZipFile(path) as archive,
        h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights,
    ):
        weights.visititems(
            lambda name, item: (
                found.update({name: (item.shape, item.dtype)})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return found


def test_the_file_that_everybody_downloads_is_at_most_six_megabytes() -> None:
    assert 0 < starter_file().stat().st_size <= MAX_BYTES <= 6_000_000


def test_the_starter_tells_seven_classes_apart_and_is_learnt_from_listed_labels() -> None:
    card = read_card(starter_file())
    assert card.stream == "seven_class"
    assert card.classes == STREAMS["seven_class"]
    assert card.label_source == "listed"
    assert card.trained_on["data_set"] == "hf-parquet"


def test_classes_crops_and_model_of_the_starter_agree() -> None:
    model, card = load_model(starter_file())
    assert model.input_shape[1:] == card.crop.shape
    assert card.crop.detect == "whole"
    crops = np.random.default_rng(0).integers(0, 256, (3, *card.crop.shape)).astype(np.uint8)
    said = np.asarray(model(crops, training=False))
    assert said.shape == (3, len(card.classes))
    assert said.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_the_card_to_read_is_that_of_the_starter() -> None:
    card, text = read_card(starter_file()), starter_card_file().read_text(encoding="utf-8")
    assert f"as one of {', '.join(card.classes)}, with a probability" in text
    assert f"Manifest {card.trained_on['manifest_hash']}." in text
    assert " faces of FER2013, labels as the lists have them" in text
    assert f"with a share of {card.trained_on['vote_share']:g}; tested on" in text
    replaced = sorted(card.trained_on["recipe_overrides"].items())
    words = ", ".join(f"{name}={value}" for name, value in replaced)
    assert f"Preset {card.trained_on['preset']} with {words}; " in text
    assert f"seed {card.trained_on['seed']}." in text
    for part in ("Not meant for", "Licence of the data", "Figures", "As shipped"):
        assert f"## {part}\n" in text
    assert re.search(r"- Accuracy 0\.\d{3} \(0\.\d{3} to 0\.\d{3}\)", text)
    assert f"`starter.keras`, {starter_file().stat().st_size / 1e6:.1f} MB" in text


def test_the_starter_holds_weights_and_nothing_of_an_optimizer_or_of_a_machine() -> None:
    model, card = load_model(starter_file())
    arrays = _arrays(starter_file())
    assert sum(int(np.prod(shape)) for shape, _ in arrays.values()) == model.count_params()
    assert not [name for name in arrays if "optimizer" in name]
    told = [str(value) for value in card.trained_on.values()]
    told += starter_card_file().read_text(encoding="utf-8").split()
    assert not [word for word in told if word.startswith(("/", "~", "file:"))]


def test_training_can_start_from_every_weight_of_the_starter() -> None:
    import keras

    source = open_source(starter_file(), "starter")
    fresh = keras.models.clone_model(source.model)
    taken = take_weights(fresh, source, STREAMS["seven_class"])
    assert taken.weights == taken.of
    assert taken.classes == STREAMS["seven_class"]
    for mine, theirs in zip(fresh.get_weights(), source.model.get_weights(), strict=True):
        assert np.array_equal(mine, theirs)


def test_another_network_is_told_the_options_that_every_weight_of_the_starter_fits() -> None:
    source = open_source(starter_file(), "starter")
    cpu = PRESETS["cpu"]
    with pytest.raises(InputError, match=r"No layer of starter fits") as refusal:
        take_weights(build_network(cpu, 7, seed=1), source, STREAMS["seven_class"])
    assert source.options is not None
    assert f"its own ({source.options})" in str(refusal.value)
    preset, *overrides = source.options.split(" --set ")
    assert preset == "--preset cpu"
    own = build_network(with_overrides(cpu, read_overrides(overrides)), 7, seed=1)
    taken = take_weights(own, source, STREAMS["seven_class"])
    assert taken.weights == taken.of


def test_without_its_files_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(starter.resources, "files", lambda _: tmp_path)
    with pytest.raises(InputError, match=r"starter\.keras is not there: .*`fer-pipeline starter`"):
        starter_file()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A served model with a path in its card."""
    card = ModelCard(
        stream="three_class",
        classes=CLASSES,
        crop=CropSettings(side=SIDE, detect="whole"),
        label_source="listed",
        trained_on={"preset": "tiny", "seed": 3, "init": "/home/somebody/mine.keras"},
        temperature=1.25,
        flip=True,
        prior=(0.2, 0.3, 0.5),
    )
    path = tmp_path_factory.mktemp("trained") / "model.keras"
    save_model(served_model(build_network(tiny_preset(), 3, seed=1), 1.25, flip=True), card, path)
    return path


def test_probabilities_stay_within_the_tolerance_and_kernels_take_half_the_room(
    trained: Path, tmp_path: Path
) -> None:
    shipped = write_starter(trained, TEXT, tmp_path / "out")
    crops = np.random.default_rng(5).integers(0, 256, (64, SIDE, SIDE, 1)).astype(np.uint8)
    before, after = (
        np.asarray(load_model(path)[0](crops, training=False)) for path in (trained, shipped.model)
    )
    assert 0 < np.abs(before - after).max() <= TOLERANCE
    assert 0 < shipped.difference <= TOLERANCE
    arrays = _arrays(shipped.model)
    assert {str(dtype) for shape, dtype in arrays.values() if len(shape) > 1} == {"float16"}
    assert {str(dtype) for shape, dtype in arrays.values() if len(shape) == 1} == {"float32"}
    assert shipped.size == shipped.model.stat().st_size < trained.stat().st_size


def test_the_card_goes_along_without_paths_of_this_machine(trained: Path, tmp_path: Path) -> None:
    shipped = write_starter(trained, TEXT, tmp_path)
    card = read_card(trained)
    assert read_card(shipped.model) == replace(
        card, trained_on={**card.trained_on, "init": "mine.keras"}
    )
    text = shipped.card.read_text()
    assert text.startswith(TEXT)
    assert f"- `starter.keras`, {shipped.size / 1e6:.1f} MB: the weights of that model" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MODEL_CARD.md", "starter.keras"]


def test_the_same_model_gives_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    one, other = (write_starter(trained, TEXT, tmp_path / name) for name in "ab")
    assert one.model.read_bytes() == other.model.read_bytes()
    assert one.card.read_bytes() == other.card.read_bytes()


def test_a_file_that_is_too_large_is_refused_and_nothing_is_written(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starter, "MAX_BYTES", 10_000)
    with pytest.raises(InputError, match=r"makes a starter of 0\.\d MB, and it may have 0\.01 MB"):
        write_starter(trained, TEXT, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_half_precision_changes_is_refused_and_the_old_one_stays(
    tmp_path: Path, trained: Path
) -> None:
    network = build_network(tiny_preset(), 3, seed=1)
    head = network.get_layer("logits")
    kernel, bias = head.get_weights()
    # Beyond what 16 bits hold.
    head.set_weights([kernel * 1e6, bias])
    path = tmp_path / "steep.keras"
    save_model(served_model(network), read_card(trained), path)
    kept = write_starter(trained, TEXT, tmp_path / "out").model.read_bytes()
    with pytest.raises(InputError, match=r"steep\.keras can't be kept as 16-bit numbers"):
        write_starter(path, TEXT, tmp_path / "out")
    assert (tmp_path / "out" / "starter.keras").read_bytes() == kept
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(CARD, "{}")
    with pytest.raises(InputError, match=r"notes\.keras is no model file"):
        write_starter(path, TEXT, tmp_path)
