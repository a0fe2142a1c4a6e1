import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from fer_pipeline.core.batches import (
    class_weights,
    crop_batches,
    draws,
    example_weights,
    training_prior,
)
from fer_pipeline.core.examples import load_images, select_examples
from fer_pipeline.core.presets import Augmentation
from fer_pipeline_tests.core.drawn_shapes import (
    CLASSES,
    SIDE,
    draw,
    make_manifest,
    tiny_preset,
    write_shards,
)

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


def test_data_of_one_pool_keep_the_order_of_their_seed(examples):
    batches = crop_batches(examples, 10, shuffle=True, seed=6)
    rng = np.random.default_rng([6, 0])
    rng.permutation(len(examples.shards))
    assert np.array_equal(_epoch(batches), rng.permutation(103))


def _class_by_class(folder, *counts, **options):
    """So many examples of each class, one class after another."""
    names = [name for name, count in zip(CLASSES, counts, strict=True) for _ in range(count)]
    return _examples(folder, names, **options)


def _lopsided(folder, *counts, **options):
    """So many examples of each class, mixed."""
    expressions = [name for name, count in zip(CLASSES, counts, strict=True) for _ in range(count)]
    order = np.random.default_rng(1).permutation(len(expressions))
    return _examples(folder, [expressions[i] for i in order], **options)


def _of_windows(expression, length):
    """Shares of the classes in every stretch of so many examples."""
    upto = np.cumsum(np.eye(3)[expression], axis=0)
    return (upto[length:] - upto[:-length]) / length


@pytest.mark.parametrize("sampling", ["natural", "balanced"])
def test_classes_are_mixed_where_data_are_stored_class_by_class(tmp_path, sampling):
    examples = _class_by_class(tmp_path, 1500, 900, 100, rows_per_shard=400, row_group_size=40)
    options = {"shuffle": True, "sampling": sampling, "pool_bytes": 400 * CROP_BYTES, "seed": 2}
    batches, again = (crop_batches(examples, 10, **options) for _ in range(2))
    orders = []
    for _ in range(2):
        orders.append(_epoch(batches))
        assert np.array_equal(orders[-1], _epoch(again))
        seen = examples.expression[orders[-1]]
        if sampling == "natural":
            assert np.array_equal(np.sort(orders[-1]), np.arange(2500))
        share = np.bincount(seen) / 2500
        # Ten batches are 100 examples: chance alone is off by up to 0.15 somewhere.
        assert np.abs(_of_windows(seen, 100) - share).max() < 0.2
        batches.on_epoch_end()
        again.on_epoch_end()
    assert not np.array_equal(*orders)


@pytest.mark.parametrize("sampling", ["natural", "balanced"])
@pytest.mark.parametrize("stored", [_class_by_class, _lopsided])
def test_pools_hold_what_fits_and_cut_few_row_groups(tmp_path, monkeypatch, stored, sampling):
    examples = stored(tmp_path, 1500, 900, 100, rows_per_shard=400, row_group_size=40)
    loads = []
    monkeypatch.setattr(
        "fer_pipeline.core.batches.load_images",
        lambda examples, indices: loads.append(indices) or load_images(examples, indices),
    )
    batches = crop_batches(
        examples, 10, shuffle=True, sampling=sampling, pool_bytes=600 * CROP_BYTES
    )
    drawn = set(_epoch(batches).tolist())
    for number in range(len(batches)):
        batches[number]
    sizes = [len(indices) for indices in loads]
    assert max(one + other for one, other in pairwise(sizes)) <= 600
    assert len(sizes) == -(-len(drawn) // 300), "each pool is read once"
    assert sorted(np.concatenate(loads).tolist()) == sorted(drawn), "and only what is drawn"
    group = examples.row_group()
    reads = sum(len(np.unique(group[indices])) for indices in loads)
    assert reads <= len(np.unique(group)) + 3 * len(loads)


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


@pytest.mark.parametrize("pool_bytes", [40 * CROP_BYTES, 2**28])
def test_balanced_sampling_draws_every_class_equally_often(tmp_path, pool_bytes):
    examples = _lopsided(tmp_path, 90, 25, 5, rows_per_shard=16)
    batches = crop_batches(
        examples, 10, shuffle=True, sampling="balanced", pool_bytes=pool_bytes, seed=3
    )
    drawn = np.zeros(120)
    for _ in range(6):
        order = _epoch(batches)
        assert len(order) == 120
        counts = np.bincount(examples.expression[order], minlength=3)
        assert np.abs(counts - 40).max() <= 1
        drawn += np.bincount(order, minlength=120)
        batches.on_epoch_end()
    # No face of the large class is forgotten for good, none of the small ones is preferred.
    of_large = drawn[examples.expression == 0]
    assert of_large.max() <= 6
    assert of_large.sum() == pytest.approx(240, abs=6)
    assert np.ptp(drawn[examples.expression == 2]) <= 6


def test_balanced_batches_belong_together_and_repeat_by_seed(tmp_path):
    examples = _lopsided(tmp_path, 30, 8, 4, rows_per_shard=16)
    options = {"shuffle": True, "sampling": "balanced", "seed": 4}
    one, again = (crop_batches(examples, 10, **options) for _ in range(2))
    everything = load_images(examples)
    for number in range(len(one)):
        images, target, _ = one[number]
        assert np.array_equal(images, everything[one.indices(number)])
        assert np.array_equal(target, examples.target[one.indices(number)])
        assert np.array_equal(one.indices(number), again.indices(number))


def test_balanced_sampling_without_shuffling_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'balanced' is drawn anew for each epoch"):
        crop_batches(_lopsided(tmp_path, 2, 1, 1), 4, sampling="balanced")


def test_a_class_without_examples_is_not_drawn(tmp_path):
    examples = _lopsided(tmp_path, 10, 0, 30)
    wanted = draws(examples, "balanced")
    assert wanted.sum() == pytest.approx(40)
    assert wanted[examples.expression == 0] == pytest.approx(2)
    assert wanted[examples.expression == 2] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("sampling", "weighting", "shares"),
    [
        ("natural", "none", [0.6, 0.3, 0.1]),
        ("natural", "inverse", [1 / 3, 1 / 3, 1 / 3]),
        ("balanced", "none", [1 / 3, 1 / 3, 1 / 3]),
        ("natural", "sqrt", np.sqrt([0.6, 0.3, 0.1]) / np.sqrt([0.6, 0.3, 0.1]).sum()),
    ],
)
def test_training_prior_is_what_sampling_and_weights_make_of_the_shares(
    tmp_path, sampling, weighting, shares
):
    recipe = tiny_preset(sampling=sampling, class_weighting=weighting).recipe
    examples = _lopsided(tmp_path, 60, 30, 10)
    assert training_prior(examples, recipe) == pytest.approx(shares, rel=1e-5)


def test_mixup_blends_images_targets_and_weights_alike(tmp_path):
    examples = _lopsided(tmp_path, 20, 20, 20, weights=list(np.linspace(0.5, 2, 60)))
    batches = crop_batches(examples, 60, shuffle=True, mixup_alpha=0.4)
    images, target, weight = batches[0]
    chosen = batches.indices(0)
    plain = load_images(examples, chosen).reshape(60, -1).astype(np.float64)
    pixels = images.reshape(60, -1)
    own = example_weights(examples, "none")[chosen]
    blended = 0
    for row in range(60):
        # Which other crop, and how much of it: the pixels tell, targets and weight must agree.
        changes = plain - plain[row]
        size = (changes**2).sum(axis=1)
        share = (changes @ (pixels[row] - plain[row])) / np.where(size, size, 1)
        left = ((pixels[row] - plain[row] - share[:, None] * changes) ** 2).sum(axis=1)
        other = int(np.where(size, left, np.inf).argmin())
        part = share[other]
        assert left[other] < 1
        assert -1e-3 <= part <= 0.5 + 1e-3
        shares = (1 - part) * own[row], part * own[other]
        assert weight[row] == pytest.approx(sum(shares), abs=1e-3)
        both = examples.target[chosen[[row, other]]]
        assert target[row] == pytest.approx(shares @ both / sum(shares), abs=1e-3)
        blended += part > 0.01
    assert blended > 20
