import itertools
import time
from dataclasses import replace

import numpy as np
import pytest

from fer_pipeline.core import train as training_module
from fer_pipeline.core.averaging import WeightAverage
from fer_pipeline.core.batches import crop_batches
from fer_pipeline.core.calibration import with_prior
from fer_pipeline.core.checkpoint import Checkpoint
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.examples import select_examples
from fer_pipeline.core.network import build_network
from fer_pipeline.core.train import predict, prepare_process, train
from fer_pipeline.core.transfer import Source
from fer_pipeline_tests.core.drawn_shapes import (
    CLASSES,
    draw,
    make_manifest,
    tiny_preset,
    write_shards,
)


@pytest.fixture(scope="module", autouse=True)
def _prepared():
    prepare_process(seed=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """240 training and 61 dev examples in three classes."""
    expressions = [CLASSES[i % 3] for i in range(301)]
    rng = np.random.default_rng(8)
    manifest = make_manifest(expressions, ["train"] * 240 + ["dev"] * 61)
    images = [draw(name, rng) for name in expressions]
    shards = write_shards(tmp_path_factory.mktemp("crops"), manifest, images)
    return tuple(
        select_examples(shards, manifest, CLASSES, split, "listed") for split in ("train", "dev")
    )


@pytest.fixture(scope="module")
def trained(data):
    """A finished training with the epochs that it announced on the way."""
    announced = []
    result = train(*data, CLASSES, tiny_preset(), seed=7, on_epoch=announced.append)
    return result, announced


@pytest.fixture(scope="module")
def averaged(data):
    """The same training with averaged weights."""
    return train(*data, CLASSES, tiny_preset(ema=0.95), seed=7)


def _first(examples, count):
    """The first `count` examples."""
    fields = ("shard_index", "row", "target", "weight", "face_id", "group_id", "expression")
    return replace(examples, **{name: getattr(examples, name)[:count] for name in fields})


def test_shapes_are_learned(trained):
    result, _ = trained
    best = result.history[result.best_epoch - 1]
    assert best.dev_accuracy > 0.9
    assert best.dev_macro_f1 > 0.9
    assert result.history[-1].loss < result.history[0].loss


def test_every_epoch_is_announced_as_it_ends(trained):
    result, announced = trained
    assert announced == result.history
    assert [epoch.epoch for epoch in announced] == [1, 2, 3, 4, 5, 6]
    assert result.stopped == "schedule"
    assert all(epoch.images_per_second > 0 for epoch in announced)
    assert announced[0].seconds_left > announced[-1].seconds_left == 0


def test_learning_rate_rises_and_falls_to_zero(trained):
    rates = [epoch.learning_rate for epoch in trained[0].history]
    peak = tiny_preset().recipe.learning_rate
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert 0.8 * peak < max(rates) <= peak
    assert rates[-1] < 0.01 * peak


def test_loss_is_the_weighted_smoothed_mean_over_the_epoch(data):
    preset = tiny_preset(learning_rate=0.0, min_epochs=1, max_epochs=1, label_smoothing=0.2)
    preset = replace(preset, network=replace(preset.network, dropout=0.0))
    lopsided = _first(data[0], 100)
    lopsided = replace(lopsided, weight=np.linspace(0.1, 3, 100).astype(np.float32))
    result = train(lopsided, data[1], CLASSES, preset, seed=2)

    model, recipe = build_network(preset, 3, seed=2), preset.recipe
    batches = crop_batches(
        lopsided,
        recipe.batch_size,
        seed=2,
        shuffle=True,
        augmentation=recipe.augmentation,
        label_smoothing=0.2,
        class_weighting=recipe.class_weighting,
    )
    losses = []
    for images, target, weight in (batches[i] for i in range(len(batches))):
        logs = np.log(np.asarray(model(images, training=True)))
        losses.extend(-(target * logs).sum(axis=1) * weight)
    assert result.history[0].loss == pytest.approx(np.mean(losses), rel=1e-4)


def test_model_has_the_weights_of_the_best_epoch(data, trained):
    result, _ = trained
    scores = [epoch.dev_macro_f1 for epoch in result.history]
    best = result.history[result.best_epoch - 1]
    assert result.best_epoch == scores.index(max(scores)) + 1
    probabilities = predict(result.model, data[1])
    accuracy = np.mean(probabilities.argmax(axis=1) == data[1].expression)
    assert accuracy == pytest.approx(best.dev_accuracy)
    right = probabilities[np.arange(61), data[1].expression]
    assert -np.log(right).mean() == pytest.approx(best.dev_loss, rel=1e-3)


def test_weights_of_an_earlier_epoch_are_brought_back_when_it_was_the_best(data, monkeypatch):
    scores = iter([0.2, 0.9, 0.3, 0.1])
    seen = []

    def scripted(_examples, probabilities):
        seen.append(probabilities)
        return 0.5, next(scores)

    monkeypatch.setattr(training_module, "_scores", scripted)
    preset = tiny_preset(min_epochs=4, max_epochs=4)
    result = train(*data, CLASSES, preset, seed=3)
    assert result.best_epoch == 2
    assert np.allclose(predict(result.model, data[1]), seen[1], atol=1e-5)
    assert not np.allclose(seen[1], seen[3], atol=1e-3)


def test_same_seed_gives_bit_identical_weights(data, trained):
    again = train(*data, CLASSES, tiny_preset(), seed=7).model.get_weights()
    weights = trained[0].model.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(weights, again, strict=True))


def test_saved_model_predicts_the_same_after_loading(data, trained, tmp_path):
    import keras

    trained[0].model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert np.array_equal(predict(loaded, data[1]), predict(trained[0].model, data[1]))


def test_predictions_keep_the_order_whatever_the_batch(data, trained):
    whole = predict(trained[0].model, data[1])
    assert whole.shape == (61, 3)
    assert whole.dtype == np.float32
    assert np.allclose(whole, predict(trained[0].model, data[1], batch_size=7), atol=1e-5)


def test_time_limit_is_kept_and_the_schedule_ends_with_it(data):
    preset = tiny_preset(max_epochs=100_000, patience=100_000)
    began = time.monotonic()
    at_once = train(*data, CLASSES, preset, seed=0, minutes=1e-6)
    floor = time.monotonic() - began
    assert at_once.stopped == "time"
    assert len(at_once.history) == at_once.best_epoch == 1

    # Starting costs seconds, more on a busy machine: the limit leaves time beside it.
    limit = floor * 1.5 + 4
    began = time.monotonic()
    result = train(*data, CLASSES, preset, seed=0, minutes=limit / 60)
    seconds = time.monotonic() - began
    assert result.stopped == "time"
    assert 0.8 * limit < seconds < 1.3 * limit + 1
    assert len(result.history) > 1
    assert result.history[-1].learning_rate < 0.05 * preset.recipe.learning_rate


def test_generous_time_limit_ends_with_the_epochs(data):
    preset = tiny_preset(max_epochs=2)
    result = train(*data, CLASSES, preset, seed=0, minutes=30)
    assert result.stopped == "schedule"
    assert len(result.history) == 2


def test_training_stops_early_without_a_better_dev_score(data):
    # On one dev example macro-F1 can rise once at most.
    preset = tiny_preset(min_epochs=20, max_epochs=20, patience=2)
    result = train(data[0], _first(data[1], 1), CLASSES, preset, seed=0)
    assert result.stopped == "early"
    assert len(result.history) == result.best_epoch + 2


def _lopsided(examples):
    """Every example of the first class, a fifth of the others."""
    kept = np.flatnonzero((examples.expression == 0) | (np.arange(len(examples)) % 5 == 0))
    fields = ("shard_index", "row", "target", "weight", "face_id", "group_id", "expression")
    return replace(examples, **{name: getattr(examples, name)[kept] for name in fields})


ALL_OF_IT = {
    "ema": 0.9,
    "sampling": "balanced",
    "class_weighting": "none",
    "prior_correction": True,
    "mixup": 0.2,
    "optimizer": "sgd",
    "learning_rate": 0.05,
}


def test_same_seed_gives_bit_identical_weights_with_every_part_of_the_recipe(data):
    preset = tiny_preset(**ALL_OF_IT, min_epochs=2, max_epochs=2)
    one, again = (train(_lopsided(data[0]), data[1], CLASSES, preset, seed=7) for _ in range(2))
    assert [epoch.dev_loss for epoch in one.history] == [epoch.dev_loss for epoch in again.history]
    for a, b in zip(one.model.get_weights(), again.model.get_weights(), strict=True):
        assert np.array_equal(a, b)


def test_averaged_weights_are_evaluated_and_kept(data, trained, averaged):
    result = averaged
    best = result.history[result.best_epoch - 1]
    probabilities = predict(result.model, data[1])
    right = probabilities[np.arange(61), data[1].expression]
    assert -np.log(right).mean() == pytest.approx(best.dev_loss, rel=1e-3)
    assert best.dev_accuracy > 0.9
    plain = trained[0].model.get_weights()
    assert not np.allclose(plain[0], result.model.get_weights()[0], atol=1e-4)


def test_averaging_does_not_disturb_the_training_itself(trained, averaged):
    plain = trained[0].history
    assert [epoch.loss for epoch in averaged.history] == [epoch.loss for epoch in plain]


@pytest.fixture
def last_epoch_is_best(monkeypatch):
    """Every epoch scores better than the one before, so that the weights of the last are kept."""
    scores = itertools.count(1)
    monkeypatch.setattr(training_module, "_scores", lambda *_: (0.5, next(scores)))


@pytest.mark.usefixtures("last_epoch_is_best")
def test_batch_normalisation_fits_the_averaged_weights(data):
    """Their moving statistics are those that the averaged network itself has on its crops."""
    preset = tiny_preset(ema=0.98, min_epochs=12, max_epochs=12)
    result = train(*data, CLASSES, preset, seed=7)
    kept = predict(result.model, data[0])
    augmentation = preset.recipe.augmentation
    images = crop_batches(data[0], 240, shuffle=True, seed=3, augmentation=augmentation)[0][0]
    for layer in result.model.layers:
        if "batch_normalization" in layer.name:
            layer.momentum = 0.0
    # One pass over all training crops leaves their own statistics in place of the averages.
    result.model(images, training=True)
    assert not np.array_equal(kept, predict(result.model, data[0]))
    measured = predict(result.model, data[0])
    assert np.mean(kept.argmax(axis=1) == measured.argmax(axis=1)) > 0.97
    assert np.abs(kept - measured).mean() < 0.01


@pytest.mark.usefixtures("last_epoch_is_best")
def test_statistics_of_batch_normalisation_are_averaged_as_the_weights_are(data, monkeypatch):
    """Worked out here from the weights after each step, without what training keeps of them."""
    taken, step = [], WeightAverage.step

    def watched(average):
        taken.append([np.array(weight) for weight in average._model.get_weights()])
        step(average)

    monkeypatch.setattr(WeightAverage, "step", watched)
    preset = tiny_preset(ema=0.9, min_epochs=2, max_epochs=2)
    model = train(*data, CLASSES, preset, seed=7).model
    expected = build_network(preset, 3, seed=7).get_weights()
    for number, weights in enumerate(taken, start=1):
        keep = min(0.9, (1 + number) / (10 + number))
        expected = [keep * a + (1 - keep) * b for a, b in zip(expected, weights, strict=True)]
    assert len(taken) == 2 * 15
    told = 0
    for weight, average, last in zip(model.weights, expected, taken[-1], strict=True):
        assert np.asarray(weight) == pytest.approx(average, rel=1e-3, abs=1e-5), weight.path
        if "moving" in weight.path:
            told += last != pytest.approx(average, rel=1e-3, abs=1e-5)
    # Statistics that aren't averaged would be seen, in each of the layers.
    assert told == 2 * sum("batch_normalization" in layer.name for layer in model.layers) > 0


@pytest.mark.usefixtures("last_epoch_is_best")
def test_balanced_sampling_is_corrected_to_the_shares_of_dev(data):
    training, dev = _lopsided(data[0]), _lopsided(data[1])
    recipe = {"sampling": "balanced", "class_weighting": "none", "min_epochs": 2, "max_epochs": 2}
    plain = train(training, dev, CLASSES, tiny_preset(**recipe), seed=7)
    corrected = train(training, dev, CLASSES, tiny_preset(**recipe, prior_correction=True), seed=7)
    assert plain.training_prior == pytest.approx([1 / 3] * 3)
    assert plain.prior == plain.training_prior == corrected.training_prior
    shares = np.bincount(dev.expression) / len(dev)
    assert corrected.prior == pytest.approx(shares)
    best = corrected.history[corrected.best_epoch - 1]
    probabilities = predict(corrected.model, dev)
    right = probabilities[np.arange(len(dev)), dev.expression]
    assert -np.log(right).mean() == pytest.approx(best.dev_loss, rel=1e-3)
    expected = with_prior(predict(plain.model, dev), [1 / 3] * 3, shares)
    assert probabilities == pytest.approx(expected, abs=1e-4)


def test_shares_of_a_class_without_faces_cannot_be_corrected(data):
    dev = _first(data[1], 2)
    preset = tiny_preset(prior_correction=True)
    with pytest.raises(InputError, match="dev split holds no face of Surprise"):
        train(data[0], dev, CLASSES, preset, seed=0)


def test_sgd_learns_the_shapes_too(data):
    preset = tiny_preset(optimizer="sgd", learning_rate=0.05, weight_decay=1e-3)
    result = train(*data, CLASSES, preset, seed=7)
    assert result.history[-1].dev_accuracy > 0.9


@pytest.mark.usefixtures("last_epoch_is_best")
def test_training_goes_on_from_another_model(data):
    before = train(*data, CLASSES, tiny_preset(), seed=7)
    source = Source("before", before.model, CLASSES)
    preset = tiny_preset(min_epochs=1, max_epochs=1, learning_rate=1e-5)
    result = train(*data, CLASSES, preset, seed=1, init=source)
    assert result.transferred.weights == result.transferred.of
    fresh = train(*data, CLASSES, preset, seed=1)
    assert fresh.transferred is None
    assert result.history[0].loss == pytest.approx(before.history[-1].loss, rel=0.15)
    assert result.history[0].loss < 0.6 * fresh.history[0].loss


def test_memory_stays_flat_over_the_epochs(data):
    psutil = pytest.importorskip("psutil")
    process, held = psutil.Process(), []
    preset = tiny_preset(min_epochs=30, max_epochs=30, patience=30, ema=0.9)
    train(*data, CLASSES, preset, seed=0, on_epoch=lambda _: held.append(process.memory_info().rss))
    growth = max(held[10:]) - held[9]
    assert growth < 20 * 2**20


def test_crops_of_another_size_are_wrong_input(data):
    with pytest.raises(InputError, match="do not fit preset"):
        train(*data, CLASSES, replace(tiny_preset(), side=24), seed=0)


def test_targets_of_another_stream_are_wrong_input(data):
    with pytest.raises(InputError, match="3 classes"):
        train(*data, (*CLASSES, "Anger"), tiny_preset(), seed=0)


def test_diverging_training_is_an_error_and_leaves_no_state_to_go_on_from(data, tmp_path):
    checkpoint = Checkpoint(tmp_path / "state.npz", {})
    preset = tiny_preset(min_epochs=2, max_epochs=2)
    train(*data, CLASSES, preset, seed=0, checkpoint=checkpoint)
    assert checkpoint.load() is not None
    arrays, progress = checkpoint.load()
    checkpoint.save(
        {
            name: value * np.nan if name.startswith("network/") else value
            for name, value in arrays.items()
        },
        replace(progress, history=progress.history[:1], stopped=None, step=progress.step // 2),
    )
    with pytest.raises(FloatingPointError, match=r"epoch 2 .*--set learning_rate"):
        train(*data, CLASSES, preset, seed=0, checkpoint=checkpoint)
    assert checkpoint.load() is None
