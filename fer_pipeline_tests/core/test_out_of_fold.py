from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fer_pipeline.core import out_of_fold as module
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.examples import select_examples
from fer_pipeline.core.out_of_fold import (
    folds_by_group,
    forget_folds,
    out_of_fold,
    training_side,
)
from fer_pipeline.core.train import prepare_process
from fer_pipeline_tests.core.drawn_shapes import (
    CLASSES,
    draw,
    make_manifest,
    tiny_preset,
    write_shards,
)

FACES, EXCLUDED = 180, 12
PRESET = tiny_preset(min_epochs=3, max_epochs=3)


@pytest.fixture(scope="module", autouse=True)
def _prepared():
    prepare_process(seed=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Shapes of three classes, two photos of each group, some of them in dev and some excluded."""
    expressions = [CLASSES[i // 2 % 3] for i in range(FACES + EXCLUDED)]
    splits = [("dev" if i // 2 % 5 == 4 else "train") for i in range(FACES)]
    splits += ["test", "excluded"] * (EXCLUDED // 2)
    manifest = make_manifest(expressions, splits)
    groups = [f"group{i // 2}" for i in range(len(expressions))]
    manifest = manifest.set_column(
        manifest.schema.get_field_index("group_id"), "group_id", [groups]
    )
    rng = np.random.default_rng(4)
    images = [draw(name, rng) for name in expressions]
    return write_shards(tmp_path_factory.mktemp("crops"), manifest, images), manifest


@pytest.fixture(scope="module")
def side(data):
    return training_side(*data, CLASSES, "listed")


def _predict(side, folder, **changes):
    options = {"folds": 3, "seed": 1, "folder": folder, "crops": "c", **changes}
    return out_of_fold(*side, CLASSES, options.pop("preset", PRESET), **options)


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    return tmp_path_factory.mktemp("folds")


@pytest.fixture(scope="module")
def predicted(side, folds):
    return _predict(side, folds)


def test_training_and_dev_are_taken_and_nothing_else(data, side):
    examples, split = side
    assert len(examples) == FACES
    assert set(split) == {"train", "dev"}
    dev = select_examples(*data, CLASSES, "dev", "listed")
    assert examples.face_id[split == "dev"].tolist() == dev.face_id.tolist()
    train_side = select_examples(*data, CLASSES, "train", "listed")
    assert examples.face_id[split == "train"].tolist() == train_side.face_id.tolist()


def test_groups_stay_whole_and_folds_have_their_share_of_each_class():
    rng = np.random.default_rng(0)
    groups = np.array([f"g{number}" for number in rng.integers(0, 400, 900)], dtype=object)
    expression = rng.choice(4, 900, p=[0.6, 0.25, 0.1, 0.05])
    fold = folds_by_group(groups, expression, 3, seed=0)
    for group in np.unique(groups):
        assert len(set(fold[groups == group])) == 1
    counts = np.array([np.bincount(fold[expression == name], minlength=3) for name in range(4)])
    assert (counts.sum(axis=0) > 250).all()
    assert (counts[:2].min(axis=1) > 0.7 * counts[:2].max(axis=1)).all()


def test_folds_of_single_faces_differ_by_one_face_a_class_at_most():
    expression = np.repeat(np.arange(3), [50, 31, 10])
    groups = np.array([f"g{at}" for at in range(91)], dtype=object)
    fold = folds_by_group(groups, expression, 4, seed=0)
    for name in range(3):
        sizes = np.bincount(fold[expression == name], minlength=4)
        assert sizes.max() - sizes.min() <= 1


def test_folds_depend_on_seed_and_faces_and_not_on_their_order():
    groups = np.array([f"g{at // 2}" for at in range(200)], dtype=object)
    expression = np.arange(200) // 2 % 3
    fold = folds_by_group(groups, expression, 3, seed=0)
    order = np.random.default_rng(1).permutation(200)
    assert np.array_equal(folds_by_group(groups[order], expression[order], 3, seed=0), fold[order])
    assert not np.array_equal(folds_by_group(groups, expression, 3, seed=1), fold)


@pytest.mark.parametrize("folds", [0, 1, 4])
def test_folds_that_cannot_be_made_are_wrong_input(folds):
    groups = np.array(["a", "b", "c", "c"], dtype=object)
    with pytest.raises(InputError, match=f"3 different photos can't be parted into {folds} folds"):
        folds_by_group(groups, np.zeros(4, np.int64), folds, seed=0)


def test_no_face_is_judged_by_a_model_that_saw_its_group(side, tmp_path, monkeypatch):
    seen, judged = [], []

    def recorded(training, dev, *_, **__):
        seen.append((set(training.group_id), set(dev.group_id)))
        return SimpleNamespace(model=None)

    def judging(_model, examples):
        judged.append(set(examples.group_id))
        return np.full((len(examples), 3), 1 / 3, np.float32)

    monkeypatch.setattr(module, "train", recorded)
    monkeypatch.setattr(module, "predict", judging)
    _predict(side, tmp_path)
    assert len(seen) == len(judged) == 3
    for (training, dev), held_out in zip(seen, judged, strict=True):
        assert not training & dev
        assert not (training | dev) & held_out
        assert training | dev | held_out == set(side[0].group_id)


def test_every_face_has_probabilities_in_the_order_of_the_examples(side, predicted):
    examples, split = side
    assert predicted.face_id.tolist() == examples.face_id.tolist()
    assert predicted.group_id.tolist() == examples.group_id.tolist()
    assert predicted.split.tolist() == split.tolist()
    assert predicted.expression.tolist() == examples.expression.tolist()
    assert predicted.probability.shape == (FACES, 3)
    assert np.allclose(predicted.probability.sum(axis=1), 1, atol=1e-5)
    assert (predicted.probability.argmax(axis=1) == examples.expression).mean() > 0.6


@pytest.fixture
def trainings(monkeypatch):
    """Minutes, one for each fold that is trained; the models say the same of every face."""
    minutes = []

    def instead(_examples, places, _classes, _preset, _seed, fold_minutes, _on_epoch):
        minutes.append(fold_minutes)
        return np.full((len(places), 3), 1 / 3, np.float32)

    monkeypatch.setattr(module, "_fold_probability", instead)
    return minutes


def test_a_run_that_was_killed_goes_on_with_the_next_fold(side, tmp_path, trainings):
    class KilledError(Exception):
        pass

    def kill(fold, _there):
        if fold == 2:
            raise KilledError

    with pytest.raises(KilledError):
        _predict(side, tmp_path, on_fold=kill)
    seen = []
    _predict(side, tmp_path, on_fold=lambda *fold: seen.append(fold))
    assert seen == [(1, True), (2, True), (3, False)]
    assert len(trainings) == 3


def test_a_fold_is_the_same_whether_or_not_others_were_trained_before_it(side, predicted, folds):
    (folds / sorted(path.name for path in folds.iterdir())[2]).unlink()
    trained = set()
    again = _predict(side, folds, on_epoch=lambda fold, _epoch: trained.add(fold))
    assert trained == {3}
    assert np.array_equal(again.probability, predicted.probability)


@pytest.mark.parametrize(
    "change",
    [{"seed": 2}, {"crops": "other"}, {"minutes": 1e-6}, {"folds": 2}, {"preset": tiny_preset()}],
)
def test_folds_of_another_call_are_not_taken(side, tmp_path, trainings, change):
    _predict(side, tmp_path)
    _predict(side, tmp_path)
    assert len(trainings) == 3
    _predict(side, tmp_path, **change)
    assert len(trainings) == 3 + change.get("folds", 3)
    assert len(list(tmp_path.iterdir())) == change.get("folds", 3)
    changed = replace(side[0], target=np.roll(side[0].target, 1, axis=1))
    trainings.clear()
    _predict((changed, side[1]), tmp_path, **change)
    assert len(trainings) == change.get("folds", 3)


def test_a_damaged_fold_is_made_anew(side, tmp_path, trainings):
    _predict(side, tmp_path)
    file = sorted(tmp_path.iterdir())[1]
    file.write_bytes(file.read_bytes()[:-20])
    _predict(side, tmp_path)
    assert len(trainings) == 4


def test_minutes_are_shared_by_the_folds(side, tmp_path, trainings):
    _predict(side, tmp_path, minutes=6.0)
    assert trainings == [2.0, 2.0, 2.0]


def test_forgotten_folds_are_gone_and_other_files_stay(tmp_path):
    (tmp_path / "fold-0-abc.parquet").touch()
    (tmp_path / "report.html").touch()
    forget_folds(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
