"""One face has one answer, whichever way it takes: the crops of training, the library, the command
line, the logged model, the service. The page in the browser is compared in `service/test_page.py`.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from fer_pipeline.core.crop import for_photos, prepare_face
from fer_pipeline.core.crop_set import read_crop_set
from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.inference import ExpressionNetwork
from fer_pipeline.core.manifest import listed_boxes, photos_of, read_manifest
from fer_pipeline.core.model_file import ModelCard, load_model, save_model
from fer_pipeline.core.network import build_network
from fer_pipeline.core.presets import PRESETS
from fer_pipeline.core.starter import starter_file
from fer_pipeline.pyfunc_loader import BOX, ExpressionModel
from fer_pipeline.recogniser import Recogniser
from fer_pipeline.service.app import create_app
from fer_pipeline_tests import graph
from fer_pipeline_tests.graph import Ended
from fer_pipeline_tests.service.running import Client, running

CLOSE = 1e-3
"""What different ways may differ by; the graph and Keras by 1e-4."""


@pytest.fixture
def client() -> Iterator[Client]:
    with running(create_app(Recogniser.load(threads=1))) as started:
        yield started


def _shares(found: Mapping[str, float], classes: tuple[str, ...]) -> list[float]:
    return [found[name] for name in classes]


@pytest.mark.usefixtures("own_environment")
def test_real_photo_gives_the_same_whichever_way_it_is_read(
    here: Callable[..., Ended], real_data: Path, client: Client
) -> None:
    photos = sorted((real_data / "photos").glob("*.jpg"))
    recogniser = Recogniser.load(threads=1)
    keras, card = load_model(starter_file())
    ended = here("recognise", *photos, "--json")
    assert ended.code == 0, ended.err
    table = {row["path"]: row for row in ended.answer["results"]}
    model = ExpressionModel(starter_file())
    for photo in photos:
        data = photo.read_bytes()
        (face,) = recogniser.read(photo)
        crop = prepare_face(data, face.box, for_photos(card.crop)).crop
        assert crop is not None
        expected = np.asarray(keras(crop[None], training=False))[0]
        assert face.probabilities is not None
        assert _shares(face.probabilities, card.classes) == pytest.approx(expected, abs=1e-4)
        row = table[str(photo)]
        told = [row[f"p_{name.lower()}"] for name in card.classes]
        assert told == pytest.approx(expected, abs=CLOSE)
        boxed = dict(zip(("image", *BOX), (data, *face.box), strict=True))
        logged = model.predict(pd.DataFrame([boxed])).iloc[0]
        told = [logged[f"p_{name.lower()}"] for name in card.classes]
        assert told == pytest.approx(expected, abs=CLOSE)
        box = ",".join(map(str, face.box))
        for query in ("", f"?boxes=[[{box}]]"):
            answer = client.recognise(data, "image/jpeg", query).json
            served = answer["faces"][0]["probabilities"]
            assert _shares(served, card.classes) == pytest.approx(expected, abs=CLOSE)


def test_crop_that_a_run_made_gives_what_the_library_says_of_the_photo(
    drawn_release: Path, tmp_path: Path
) -> None:
    settings = graph.early(drawn_release)
    preset = PRESETS["smoke"]
    classes = settings.wanted_classes
    card = ModelCard("five_class", classes, settings.crop_settings, "listed", {})
    path = tmp_path / "model.keras"
    save_model(build_network(preset, len(classes), seed=3), card, path)
    network, recogniser = ExpressionNetwork(path), Recogniser.load(path)
    manifest = read_manifest(settings.home / "manifest")
    dataset = open_dataset("affectnet", drawn_release)
    place = {face: at for at, face in enumerate(manifest["face_id"].to_pylist())}
    shard = pq.read_table(read_crop_set(next((settings.home / "crops").iterdir())).paths[0])
    compared = 0
    for face_id, status, crop in zip(
        *(shard[name].to_pylist() for name in ("face_id", "status", "crop")), strict=True
    ):
        if status != "ok" or compared == 12:
            continue
        row = manifest.slice(place[face_id], 1)
        (data,) = dataset.read_photos(photos_of(row))
        (box,) = listed_boxes(row)
        assert isinstance(data, bytes)
        assert box is not None
        (face,) = recogniser.read(data, boxes=[box])
        pixels = np.frombuffer(crop, np.uint8).reshape(1, *card.crop.shape)
        assert face.probabilities is not None
        assert _shares(face.probabilities, classes) == pytest.approx(
            network.probabilities(pixels)[0], abs=1e-6
        )
        compared += 1
    assert compared == 12
