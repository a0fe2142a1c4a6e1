"""Damage is what it is called, grows with its severity, and is scored on the same faces."""

import json

import cv2
import numpy as np
import pytest

from fer_pipeline.core.robustness import (
    FACES,
    MEANINGS,
    SEVERITIES,
    damage,
    drawn_faces,
    robustness,
)


@pytest.fixture(params=[1, 3], ids=["grey", "rgb"])
def crops(request):
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 1, (20, 20, 20, request.param)).astype(np.float32)
    large = [cv2.resize(one, (48, 48), interpolation=cv2.INTER_CUBIC) for one in noise]
    return np.clip(128 + 40 * np.stack(large).reshape(20, 48, 48, -1), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", SEVERITIES)
def test_damage_grows_with_severity_and_leaves_the_crops_alone(crops, kind):
    before = crops.copy()
    distances = []
    for severity in range(1, 6):
        worse = damage(crops, kind, severity, seed=1)
        assert (worse.shape, worse.dtype) == (crops.shape, np.uint8)
        distances.append(np.abs(worse.astype(int) - crops).mean())
    assert (np.diff(distances) > 0).all()
    assert distances[0] > 0.5
    assert np.array_equal(crops, before)


@pytest.mark.parametrize("kind", SEVERITIES)
def test_the_same_seed_gives_the_same_damage(crops, kind):
    assert np.array_equal(damage(crops, kind, 3, 7), damage(crops, kind, 3, 7))


@pytest.mark.parametrize("kind", ["brightness", "noise", "occlusion"])
def test_another_seed_gives_other_damage(crops, kind):
    assert not np.array_equal(damage(crops, kind, 3, 7), damage(crops, kind, 3, 8))


def test_damage_has_the_size_that_is_stated():
    flat = np.full((200, 48, 48, 1), 128, np.uint8)
    noise = damage(flat, "noise", 2, 0).astype(float) - 128
    assert noise.std() == pytest.approx(SEVERITIES["noise"][1] * 255, rel=0.02)
    shifted = damage(flat, "brightness", 3, 0)
    assert set(np.unique(shifted)) == {128 - 76, 128 + 76}
    white = np.full((50, 48, 48, 1), 255, np.uint8)
    covered = (damage(white, "occlusion", 4, 0) == 128).mean(axis=(1, 2, 3))
    assert covered == pytest.approx(SEVERITIES["occlusion"][3], abs=0.02)
    edge = np.zeros((1, 48, 48, 1), np.uint8)
    edge[:, :, 24:] = 255
    profile = np.diff(damage(edge, "blur", 4, 0)[0, 24, :, 0].astype(float))
    places = np.arange(47) + 0.5
    mean = (profile * places).sum() / profile.sum()
    spread = np.sqrt((profile * (places - mean) ** 2).sum() / profile.sum())
    assert spread == pytest.approx(SEVERITIES["blur"][3] * 48, rel=0.1)


def test_jpeg_keeps_the_colours_in_their_order():
    red = np.zeros((1, 48, 48, 3), np.uint8)
    red[..., 0] = 200
    kept = damage(red, "JPEG", 1, 0)[0].mean(axis=(0, 1))
    assert kept[0] > 180
    assert kept[1:].max() < 20


def by_brightness(crops):
    """Right where the crop is brighter than the middle: class 1, else class 0."""
    bright = crops.mean(axis=(1, 2, 3)) > 127
    return np.column_stack([~bright, bright]).astype(float)


def test_scores_are_those_of_the_damaged_faces():
    crops = np.concatenate([np.full((10, 48, 48, 1), level, np.uint8) for level in (90, 165)])
    expression = np.repeat([0, 1], 10)
    groups = np.arange(20).astype(str)
    found = robustness(by_brightness, crops, expression, groups, seed=2, resamples=200)
    assert (found.faces, found.clean) == (20, 1.0)
    assert [one.severity for one in found.of("blur")] == [1, 2, 3, 4, 5]
    # Blur keeps the mean of a flat crop; a shift of 40% of the range crosses the middle.
    assert [one.accuracy for one in found.of("blur")] == [1.0] * 5
    for one in found.of("brightness"):
        shifted = damage(crops, "brightness", one.severity, 2)
        right = by_brightness(shifted).argmax(axis=1) == expression
        assert one.accuracy == right.mean()
        assert one.drop.value == pytest.approx(1 - right.mean())
        assert one.drop.low <= one.drop.value <= one.drop.high
    assert found.worst_kind == "brightness"
    accuracies = [one.accuracy for one in found.damaged]
    assert found.mean_accuracy == pytest.approx(np.mean(accuracies))
    assert len(json.loads(json.dumps(found.to_dict()))["damaged"]) == 30


def test_example_shows_every_kind_and_severity_of_one_face():
    crops = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 1)).astype(np.uint8)
    groups = np.array(["a", "b", "c"])
    found = robustness(by_brightness, crops, np.zeros(3, int), groups, seed=0, resamples=10)
    assert found.example.shape == (6, 6, 32, 32, 1)
    assert all(np.array_equal(row[0], crops[0]) for row in found.example)
    assert MEANINGS.keys() == SEVERITIES.keys()


def test_few_faces_are_all_taken_and_many_are_drawn():
    assert drawn_faces(5, seed=0).tolist() == [0, 1, 2, 3, 4]
    drawn = drawn_faces(5000, seed=0)
    assert len(set(drawn.tolist())) == FACES
    assert (np.diff(drawn) > 0).all()
    assert np.array_equal(drawn, drawn_faces(5000, seed=0))
