"""Answers over HTTP: those of the library, to whoever asked."""

import base64
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from fer_pipeline.core.drawing import draw_group
from fer_pipeline.core.model_file import ModelCard
from fer_pipeline.core.recogniser import Face, PreparedPicture, Reading, Recogniser
from fer_pipeline.service.about import About
from fer_pipeline.service.app import create_app
from fer_pipeline.service.batches import Batcher
from fer_pipeline_tests.core.small_release import encoded, noise
from fer_pipeline_tests.service.running import Client, form, running

BOXES = [(30.0, 40.0, 200.0, 200.0), (300.0, 50.0, 180.0, 190.0)]


def _same(answer: dict[str, Any], faces: Sequence[Face]) -> None:
    assert len(answer["faces"]) == len(faces)
    for told, face in zip(answer["faces"], faces, strict=True):
        box = told["box"]
        assert (box["x"], box["y"], box["width"], box["height"]) == pytest.approx(face.box)
        assert (told["status"], told["label"]) == (face.status.value, face.label)
        assert told["score"] == face.score
        assert told["probabilities"] == pytest.approx(face.probabilities, abs=1e-6)
        known = None if face.landmarks is None else face.landmarks.tolist()
        assert told["landmarks"] == known


def test_picture_in_any_wrapping_gets_the_answer_of_the_library(
    client: Client, recogniser: Recogniser, group: bytes
) -> None:
    faces = recogniser.read(group)
    assert len(faces) == 3
    as_json = json.dumps({"image": base64.b64encode(group).decode()})
    for body, kind in (
        (group, "image/png"),
        (group, "application/octet-stream"),
        (group, "IMAGE/JPEG; charset=x"),
        (group, None),
        form({"image": group}),
        (as_json, "application/json"),
    ):
        answer = client.recognise(body, kind)
        assert answer.status == 200, answer.body
        _same(answer.json, faces)
    told = client.recognise(group).json
    assert (told["width"], told["height"]) == (840, 320)
    assert (told["model"], told["left_out"]) == ("starter", 0)
    sizes = [face["box"]["width"] * face["box"]["height"] for face in told["faces"]]
    assert sizes == sorted(sizes, reverse=True)


def test_boxes_are_read_in_their_order_from_query_form_and_json(
    client: Client, recogniser: Recogniser, group: bytes
) -> None:
    faces = recogniser.read(group, boxes=BOXES)
    text = json.dumps(BOXES)
    image = base64.b64encode(group).decode()
    for answer in (
        client.recognise(group, query=f"?boxes={text.replace(' ', '')}"),
        client.recognise(*form({"image": group, "boxes": text})),
        client.recognise(json.dumps({"image": image, "boxes": BOXES}), "application/json"),
        # What the body says goes before the query.
        client.recognise(*form({"image": group, "boxes": text}), query="?boxes=[[1,1,9,9]]"),
    ):
        assert answer.status == 200, answer.body
        _same(answer.json, faces)
    assert client.recognise(group, query="?boxes=[]").json["faces"] == []
    odd = client.recognise(group, query="?boxes=[[0,0,5,5],[9e99,0,-3,1e308]]").json["faces"]
    assert [face["status"] for face in odd] == ["too_small", "bad_box"]
    assert [face["label"] for face in odd] == [None, None]


def test_whole_and_small_are_asked_for_in_each_way(
    client: Client, recogniser: Recogniser, group: bytes
) -> None:
    whole = recogniser.read(group, whole=True)
    assert len(whole) == 1
    image = base64.b64encode(group).decode()
    for answer in (
        client.recognise(group, query="?whole=true"),
        client.recognise(*form({"image": group, "whole": "true"}), query="?whole=false"),
        client.recognise(json.dumps({"image": image, "whole": True}), "application/json"),
    ):
        _same(answer.json, whole)
    tiny = encoded(noise(1, 48, 48))
    assert len(client.recognise(tiny).json["faces"]) == 1
    assert client.recognise(tiny, query="?whole=false").json["faces"] == []

    crowd, _ = draw_group(np.random.default_rng(4), ("Happiness", "Sadness"), size=(560, 320))
    scene = np.full((1000, 1600, 3), 120, np.uint8)
    scene[300:620, 100:660] = crowd
    scene[80:160, 1300:1440] = crowd[::4, ::4]
    data = encoded(scene)
    for query, small in (("", True), ("?small=true", True), ("?small=false", False)):
        _same(client.recognise(data, query=query).json, recogniser.read(data, small=small))


def test_requests_at_once_get_their_own_answers_and_share_batches(
    recogniser: Recogniser,
) -> None:
    rng = np.random.default_rng(8)
    pictures = [encoded(rng.integers(0, 256, (48, 48)).astype(np.uint8)) for _ in range(40)]
    expected = [recogniser.read(picture) for picture in pictures]
    assert len({face.probabilities["Anger"] for (face,) in expected if face.probabilities}) == 40
    with running(create_app(recogniser, threads=4)) as client, ThreadPoolExecutor(16) as pool:
        for answer, faces in zip(pool.map(client.recognise, pictures), expected, strict=True):
            assert answer.status == 200
            _same(answer.json, faces)
        counted = client.metrics()
    assert counted["fer_batch_faces_sum"] == 40
    assert counted["fer_batch_faces_count"] < 40
    assert counted['fer_faces_total{status="ok"}'] == 40


def test_batches_hold_what_they_may_and_every_picture_comes_out_in_order() -> None:
    sizes: list[int] = []

    def recognise(pictures: Sequence[PreparedPicture]) -> list[Reading]:
        sizes.append(sum(len(picture.faces) for picture in pictures))
        time.sleep(0.02)
        return [Reading((), picture.width, 1) for picture in pictures]

    batcher = Batcher(recognise, faces=6)
    counts = [1, 1, 9, 2, 2, 3, 0, 4, 1, 1, 1] * 3
    pictures = [PreparedPicture(n, 1, (None,) * count) for n, count in enumerate(counts)]  # type: ignore[arg-type]
    futures = [batcher.submit(picture) for picture in pictures]
    futures[5].cancel()
    batcher.close()
    assert not batcher.alive
    found = [future.result().width for future in futures if not future.cancelled()]
    assert found == [n for n in range(len(counts)) if n != 5]
    assert len(sizes) < len(counts)
    assert all(size <= 6 or size == 9 for size in sizes)


def test_error_of_the_network_reaches_those_of_the_batch_alone() -> None:
    def recognise(pictures: Sequence[PreparedPicture]) -> list[Reading]:
        if pictures[0].width == 0:
            raise MemoryError("no more")
        return [Reading((), 1, 1) for picture in pictures if picture.width != 2]

    batcher = Batcher(recognise)
    with pytest.raises(MemoryError, match="no more"):
        batcher.submit(PreparedPicture(0, 1, ())).result()
    # Whatever goes wrong, nobody waits for ever, and the thread goes on.
    with pytest.raises(ValueError, match="shorter"):
        batcher.submit(PreparedPicture(2, 1, ())).result(timeout=10)
    assert batcher.submit(PreparedPicture(1, 1, ())).result().width == 1
    batcher.close()


def test_model_tells_its_classes_its_figures_and_what_it_is_not_for(
    client: Client, recogniser: Recogniser
) -> None:
    told = client.get("/model").json
    assert (told["name"], told["version"]) == ("starter", None)
    assert tuple(told["classes"]) == recogniser.classes
    assert told["trained_on"]["manifest_hash"] == recogniser.card.trained_on["manifest_hash"]
    assert "Expression is not emotion" in told["limits"][0]
    (figures,) = [one for one in told["card"]["Figures"] if one.startswith("Accuracy 0")]
    assert "95% intervals" in figures


def test_model_without_a_card_says_so_and_tells_no_path() -> None:
    card = ModelCard("s", ("A", "B"), None, "listed", {"init": "/home/ann/x.keras"})  # type: ignore[arg-type]
    told = About("x.keras", "3").answer(card)
    assert (told.version, told.card, told.trained_on) == ("3", None, {"init": "x.keras"})


def test_health_and_metrics_tell_what_was_done(client: Client, group: bytes) -> None:
    before = client.metrics()
    assert client.get("/health").json == {"ready": True}
    client.recognise(group)
    client.recognise(b"no picture")
    client.ask("PROPFIND", "/pot")
    client.get("/unheard-of")
    after = client.metrics()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown('fer_requests_total{method="POST",route="/recognise",status="200"}') == 1
    assert grown('fer_requests_total{method="POST",route="/recognise",status="422"}') == 1
    assert grown('fer_requests_total{method="GET",route="/health",status="200"}') == 1
    assert grown('fer_requests_total{method="GET",route="other",status="404"}') == 1
    assert grown('fer_requests_total{method="other",route="other",status="404"}') == 1
    assert grown('fer_request_seconds_count{route="/recognise"}') == 2
    assert grown('fer_faces_total{status="ok"}') == 3
    assert after["fer_queue_length"] == 0
