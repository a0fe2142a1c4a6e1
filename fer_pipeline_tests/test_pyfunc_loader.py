import base64

import numpy as np
import pandas as pd
import pytest

from fer_pipeline.core.crop import CropSettings, prepare_face
from fer_pipeline.core.drawing import draw_group
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.model_file import ModelCard, save_model
from fer_pipeline.core.network import build_network
from fer_pipeline.pyfunc_loader import MODEL_FILE, _load_pyfunc
from fer_pipeline_tests.core.drawn_shapes import CLASSES, SIDE, tiny_preset
from fer_pipeline_tests.core.small_release import encoded, noise

PROBABILITIES = [f"p_{name.lower()}" for name in CLASSES]
COLUMNS = ["status", "label", *PROBABILITIES, "x", "y", "width", "height"]


@pytest.fixture(scope="module")
def network():
    return build_network(tiny_preset(), len(CLASSES), seed=2)


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("logged")
    card = ModelCard("three_class", CLASSES, CropSettings(side=SIDE), "listed", {})
    save_model(network, card, path / MODEL_FILE)
    return path


@pytest.fixture(scope="module")
def model(folder):
    return _load_pyfunc(str(folder))


@pytest.fixture(scope="module")
def photo():
    image, (face,) = draw_group(np.random.default_rng(1), ("Happiness",))
    return encoded(image), tuple(map(float, face.box))


def _frame(images, boxes=None):
    data = {"image": images}
    for place, name in enumerate(("x", "y", "width", "height")):
        if boxes is not None:
            data[name] = [None if box is None else box[place] for box in boxes]
    return pd.DataFrame(data)


def test_file_and_folder_load_the_same_model(folder, model):
    assert _load_pyfunc(str(folder / MODEL_FILE)).card == model.card


def test_folder_without_a_model_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"model\.keras is no file"):
        _load_pyfunc(str(tmp_path))


def test_photo_with_its_box_is_cropped_as_in_training(model, network, photo):
    data, box = photo
    table = model.predict(_frame([data], [box]))
    assert list(table.columns) == COLUMNS
    crop = prepare_face(data, box, CropSettings(side=SIDE)).crop
    expected = np.asarray(network(crop[None], training=False))[0]
    found = table.iloc[0]
    assert found[PROBABILITIES].to_numpy(float) == pytest.approx(expected, abs=1e-6)
    assert found["label"] == CLASSES[int(expected.argmax())]
    assert found["status"] == "ok"
    assert tuple(found[["x", "y", "width", "height"]]) == box


def test_bytes_and_base64_give_the_same_row(model, photo):
    data, box = photo
    images = [data, base64.b64encode(data).decode(), bytearray(data), memoryview(data)]
    table = model.predict(_frame(images, [box] * 4))
    for row in range(1, 4):
        pd.testing.assert_series_equal(table.loc[row], table.loc[0], check_names=False)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_face_is_looked_for_where_the_box_is_missing(model, photo, missing):
    data, box = photo
    table = model.predict(_frame([data, data], [box, (missing, *box[1:])]))
    assert table["status"].tolist() == ["ok", "ok"]
    assert table.loc[1, "x"] != box[0]
    without = model.predict(_frame([data]))
    assert without.loc[0, "x"] == table.loc[1, "x"]


def test_bad_photos_among_good_ones_are_rows_with_a_status_and_no_label(model, photo):
    data, box = photo
    images = [b"", "not base64!", "aGVsbG8=", None, 7, data, encoded(noise())]
    boxes = [box] * 6 + [(-500.0, -500.0, 60.0, 60.0)]
    table = model.predict(_frame(images, boxes))
    assert table["status"].tolist() == ["unreadable"] * 5 + ["ok", "bad_box"]
    bad = table[table["status"] != "ok"]
    assert bad["label"].isna().all()
    assert bad[PROBABILITIES].isna().all().all()
    assert table.loc[5, PROBABILITIES].sum() == pytest.approx(1)


def test_no_photo_gives_no_row_and_every_column(model):
    table = model.predict(_frame([]))
    assert len(table) == 0
    assert list(table.columns) == COLUMNS
