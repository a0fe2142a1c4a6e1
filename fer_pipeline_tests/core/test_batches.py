import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from fer_pipeline.core.batches import augment, class_weights, crop_batches, example_weights
from fer_pipeline.core.examples import load_images, select_examples
from fer_pipeline.core.presets import Augmentation
from fer_pipeline_tests.core.drawn_shapes import (
    CLASSES,
    SIDE,
    draw,
    make_manifest,
    write_shards,
)

STILL = Augmentation(flip=False, rotation=0, shift=0, scale=0, brightness=0, contrast=0)
LIVELY = Augmentation(flip=True, rotation=10, shift=0.1, scale=0.1, brightness=0.1, contrast=0.2)
CROP_BYTES = SIDE * SIDE


def _examples(folder, expressions, **options):
    manifest = make_manifest(expressions, weights=options.pop("weights", None))
    rng = np.random.default_rng(5)
    images = [draw(name, rng) for name in expressions]
    shards = write_shards(folder, manifest, images, **options)
    return select_examples(shards, manifest, CLASSES, "train", "listed")


@pytest.fixture
def examples(tmp_path):
    """103 examples in seven shards."""
    return _examples(tmp_path, [CLASSES[i % 3] for i in range(103)], rows_per_shard=16)


def _epoch(batches):
    return np.concatenate([batches.indices(i) for i in range(len(batches))])


@pytest.mark.parametrize("pool_bytes", [1, 40 * CROP_BYTES, 2**28])
def test_every_example_comes_exactly_once_an_epoch(examples, pool_bytes):
    batches = crop_batches(examples, 10, shuffle=True, pool_bytes=pool_bytes)
    orders = []
    for _ in range(2):
        orders.append(_epoch(batches))
        batches.on_epoch_end()
    assert all(np.array_equal(np.sort(order), np.arange(103)) for order in orders)
    assert not np.array_equal(*orders)
    assert not np.array_equal(orders[0], np.arange(103))


@pytest.mark.parametrize("pool_bytes", [1, 40 * CROP_BYTES, 2**28])
def test_crops_targets_and_weights_of_a_batch_belong_together(examples, pool_bytes):
    batches = crop_batches(examples, 10, shuffle=True, pool_bytes=pool_bytes)
    everything = load_images(examples)
    for number in range(len(batches)):
        images, target, weight = batches[number]
        chosen = batches.indices(number)
        assert np.array_equal(images, everything[chosen])
        assert np.array_equal(target, examples.target[chosen])
        assert images.dtype == target.dtype == weight.dtype == np.float32


def test_batches_are_equal_to_within_one_example(examples):
    batches = crop_batches(examples, 10, shuffle=True)
    sizes = {len(batches.indices(i)) for i in range(len(batches))}
    assert len(batches) == 11
    assert sizes <= {9, 10}


def test_without_shuffling_the_order_is_that_of_the_examples(examples):
    batches = crop_batches(examples, 10, pool_bytes=1)
    assert np.array_equal(_epoch(batches), np.arange(103))


def test_rows_mix_across_the_shards_of_a_pool(examples):
    order = _epoch(crop_batches(examples, 10, shuffle=True))
    assert len(set(examples.shard_index[order[:10]])) > 2


def test_a_batch_depends_on_seed_epoch_and_number_alone(examples):
    options = {"shuffle": True, "augmentation": LIVELY, "pool_bytes": 40 * CROP_BYTES}
    first = crop_batches(examples, 10, seed=1, **options)
    in_order = [first[i] for i in range(len(first))]
    again = crop_batches(examples, 10, seed=1, **options)
    with ThreadPoolExecutor(4) as pool:
        backwards = list(pool.map(again.__getitem__, reversed(range(len(again)))))[::-1]
    for one, other in zip(in_order, backwards, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    other_seed = crop_batches(examples, 10, seed=2, **options)
    assert not np.array_equal(in_order[0][0], other_seed[0][0])
    first.on_epoch_end()
    assert not np.array_equal(in_order[0][0], first[0][0])


def test_memory_stays_flat_when_the_data_grows(tmp_path):
    count, pool_bytes = 8_000, 400_000
    crops_bytes = count * CROP_BYTES
    expressions = [CLASSES[i % 3] for i in range(count)]
    examples = _examples(tmp_path, expressions, rows_per_shard=500, row_group_size=100)
    batches = crop_batches(examples, 50, shuffle=True, pool_bytes=pool_bytes)
    batches[0]
    tracemalloc.start()
    try:
        for number in range(len(batches)):
            batches[number]
        batches.on_epoch_end()
        batches[0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < pool_bytes * 1.6 < crops_bytes / 3


def test_a_pool_that_holds_everything_is_read_once(examples, monkeypatch):
    reads = []
    monkeypatch.setattr(
        "fer_pipeline.core.batches.load_images",
        lambda *arguments: reads.append(1) or load_images(*arguments),
    )
    batches = crop_batches(examples, 10, shuffle=True)
    for _ in range(3):
        for number in range(len(batches)):
            batches[number]
        batches.on_epoch_end()
    assert reads == [1]


def test_label_smoothing_spreads_its_share_evenly(examples):
    _, target, _ = crop_batches(examples, 10, label_smoothing=0.3)[0]
    assert target[0] == pytest.approx([0.8, 0.1, 0.1])
    assert target.sum(axis=1) == pytest.approx(np.ones(len(target)))


@pytest.mark.parametrize(("weighting", "ratio"), [("none", 1.0), ("sqrt", 2.0), ("inverse", 4.0)])
def test_class_weights_even_out_the_classes(tmp_path, weighting, ratio):
    examples = _examples(tmp_path, ["Happiness"] * 40 + ["Sadness"] * 10)
    weights = class_weights(examples, weighting)
    assert weights[1] / weights[0] == pytest.approx(ratio)
    assert weights[2] == 0, "Surprise has no example"
    each = example_weights(examples, weighting)
    assert each.mean() == pytest.approx(1, abs=1e-6)
    assert each[40] / each[0] == pytest.approx(ratio, rel=1e-5)


def test_example_weights_multiply_row_and_class(tmp_path):
    rows = [1.0] * 4 + [2.0] * 4
    examples = _examples(tmp_path, ["Happiness"] * 4 + ["Sadness"] * 4, weights=rows)
    flat = example_weights(examples, "none")
    assert flat[4] / flat[0] == pytest.approx(2)
    assert flat.mean() == pytest.approx(1)
    # Weighted totals are 4 and 8: inverse weights bring both classes to the same sum.
    inverse = example_weights(examples, "inverse")
    assert inverse[:4].sum() == pytest.approx(inverse[4:].sum())


def test_vote_shares_take_the_mix_of_their_class_weights(tmp_path):
    examples = _examples(tmp_path, ["Happiness"] * 3 + ["Sadness"])
    mixed = examples.target.copy()
    mixed[0] = [0.5, 0.5, 0]
    examples = replace(examples, target=mixed)
    per_class = class_weights(examples, "inverse")
    each = example_weights(examples, "inverse")
    assert each[0] == pytest.approx((per_class[0] + per_class[1]) / 2)


def test_augmentation_of_nothing_changes_nothing():
    images = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3)).astype(np.uint8)
    assert np.array_equal(augment(images, STILL, np.random.default_rng(0)), images)


def test_flip_mirrors_about_half_of_the_images_exactly():
    images = np.random.default_rng(0).integers(0, 256, (200, 12, 12, 1)).astype(np.uint8)
    flipped = augment(images, replace(STILL, flip=True), np.random.default_rng(0))
    mirrored = np.array(
        [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, images, strict=True)]
    )
    same = np.array([np.array_equal(a, b) for a, b in zip(flipped, images, strict=True)])
    assert np.all(mirrored ^ same)
    assert 70 < mirrored.sum() < 130


def test_shift_moves_at_most_its_share_of_the_side():
    images = np.zeros((100, 21, 21, 1), np.uint8)
    images[:, 10, 10] = 255
    moved = augment(images, replace(STILL, shift=0.2), np.random.default_rng(0))
    mass = moved[..., 0] / moved.sum(axis=(1, 2, 3))[:, None, None]
    centre = np.stack([(mass.sum(axis=2) * np.arange(21)).sum(axis=1)], axis=1)[:, 0] - 10
    assert np.abs(centre).max() <= 0.2 * 21 + 0.1
    assert np.abs(centre).max() > 2


def test_rotation_turns_about_the_centre_and_keeps_the_size():
    images = np.zeros((50, 41, 41, 1), np.uint8)
    images[:, 20, 5:36] = 255
    turned = augment(images, replace(STILL, rotation=30.0), np.random.default_rng(0))[..., 0]
    assert turned[:, 20, 20].min() > 150
    ends = np.array([np.hypot(*(np.argwhere(image > 60) - 20).T).max() for image in turned])
    assert np.all(np.abs(ends - 15) <= 1.5)
    tilt = [np.ptp(np.argwhere(image > 60)[:, 0]) for image in turned]
    assert max(tilt) > 10


def test_brightness_and_contrast_stay_in_range():
    images = np.full((100, 8, 8, 1), 127, np.uint8)
    images[:, :4] = 250
    changed = augment(
        images, replace(STILL, brightness=0.2, contrast=0.5), np.random.default_rng(0)
    )
    assert changed.min() >= 0
    assert changed.max() == 255
    middle = changed[:, 6, 4, 0] - 127
    assert 40 < np.abs(middle).max() <= 0.2 * 255 + 1
