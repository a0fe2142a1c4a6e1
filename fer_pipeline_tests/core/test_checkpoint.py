import numpy as np
import pytest

from fer_pipeline.core.checkpoint import Checkpoint, Progress
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.schedule import Clock
from fer_pipeline.core.train import prepare_process, train
from fer_pipeline_tests.core.backend_work import examples
from fer_pipeline_tests.core.drawn_shapes import CLASSES, tiny_preset

PROGRESS = Progress(history=[{"epoch": 1, "loss": 0.1 + 0.2}], stopped=None, step=7, elapsed=3.25)
ARRAYS = {"network/0": np.arange(6, dtype=np.float32).reshape(2, 3), "best/0": np.ones(2)}


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(tmp_path / "checkpoint.npz", {"bundle": "abc", "minutes": None})


def test_what_was_saved_last_is_loaded(checkpoint):
    assert checkpoint.load() is None
    checkpoint.save({}, Progress([], None, 0, 0.0))
    checkpoint.save(ARRAYS, PROGRESS)
    arrays, progress = checkpoint.load()
    assert progress == PROGRESS
    assert arrays.keys() == ARRAYS.keys()
    assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)


def test_beginning_of_another_training_is_wrong_input(checkpoint, tmp_path):
    checkpoint.save(ARRAYS, PROGRESS)
    other = Checkpoint(tmp_path / "checkpoint.npz", {"bundle": "abc", "minutes": 5.0})
    with pytest.raises(InputError, match=r"another training \(minutes None, now 5.0\).*--fresh"):
        other.load()


def _cut(data):
    return data[:150]


def _other_byte(data):
    stored = ARRAYS["network/0"].tobytes()
    return data.replace(stored, stored[:-1] + b"?")


@pytest.mark.parametrize("damage", [_cut, _other_byte, lambda _: b"", lambda _: b"a page"])
def test_damaged_checkpoint_is_wrong_input(checkpoint, tmp_path, damage):
    checkpoint.save(ARRAYS, PROGRESS)
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"checkpoint.npz.* is damaged: train from the start"):
        checkpoint.load()


def test_time_of_earlier_processes_counts():
    clock = Clock(tiny_preset(), 160, minutes=1.0)
    clock.resume(step=3, elapsed=45.0)
    assert clock.progress() == pytest.approx(0.75, abs=0.01)
    assert not clock.is_up()
    clock.resume(step=3, elapsed=20.0)
    assert clock.is_up()


@pytest.mark.parametrize(
    "recipe", [{}, {"ema": 0.9, "optimizer": "sgd", "learning_rate": 0.05, "mixup": 0.2}]
)
def test_interrupted_training_ends_with_the_weights_of_an_undisturbed_one(
    checkpoint, tmp_path, recipe
):
    prepare_process(seed=0)
    preset = tiny_preset(min_epochs=3, max_epochs=3, **recipe)
    training, dev = examples(tmp_path / "crops")
    whole = train(training, dev, CLASSES, preset, seed=7)

    def interrupt(epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(training, dev, CLASSES, preset, seed=7, on_epoch=interrupt, checkpoint=checkpoint)
    told = []
    resumed = train(
        training, dev, CLASSES, preset, seed=7, on_epoch=told.append, checkpoint=checkpoint
    )
    assert [epoch.epoch for epoch in told] == [3]
    for name in ("loss", "dev_loss", "dev_macro_f1", "learning_rate"):
        ours, theirs = ([getattr(e, name) for e in one.history] for one in (whole, resumed))
        assert ours == theirs, name
    assert resumed.best_epoch == whole.best_epoch
    for a, b in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        assert np.array_equal(a, b)

    # Ended and not yet taken further: nothing is trained again.
    again = train(
        training, dev, CLASSES, preset, seed=7, on_epoch=told.append, checkpoint=checkpoint
    )
    assert len(told) == 1
    assert again.history == resumed.history
    assert again.stopped == "schedule"
