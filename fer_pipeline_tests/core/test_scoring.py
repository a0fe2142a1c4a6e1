import numpy as np
import pytest

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.model_file import ModelCard
from fer_pipeline.core.scoring import among_classes, crop_settings_for, score_dataset
from fer_pipeline_tests.core.parquet_faces import FER, write_split
from fer_pipeline_tests.core.small_release import (
    encoded,
    line,
    noise,
    small_release,
    write_list,
    write_photo,
)

CLASSES = ("Surprise", "Happiness", "Neutral")
BRIGHTNESS = {"surprise": 200, "happy": 100, "neutral": 20}


class ByBrightness:
    """Stands for a Keras model: bright is Surprise, middling is Happiness, dark is Neutral."""

    output_shape = (None, 3)

    def __init__(self):
        self.batches = []

    def predict_on_batch(self, crops):
        self.batches.append(crops.shape)
        level = crops.reshape(len(crops), -1).mean(axis=1)
        place = np.select([level > 150, level > 60], [0, 1], default=2)
        return np.eye(3)[place] * 0.8 + 0.2 / 3


def _card(label_source="listed", **crop):
    return ModelCard("mine", CLASSES, CropSettings(side=16, **crop), label_source, {})


def _flat(level):
    return encoded(np.full((48, 48, 3), level, np.uint8))


def _score(dataset, card=None, **options):
    return score_dataset(ByBrightness(), card or _card(), dataset, resamples=50, **options)


def _fer_split(root, name, count=5):
    wanted = list(BRIGHTNESS) * count
    labels = [FER.index(name) for name in wanted]
    write_split(root, name, labels, images=[_flat(BRIGHTNESS[name]) for name in wanted])
    return labels


def test_classes_are_matched_by_name_and_never_by_number(tmp_path):
    _fer_split(tmp_path, "test")
    scored = _score(open_dataset("hf-parquet", tmp_path))
    assert scored.evaluation.accuracy.value == 1.0
    assert scored.evaluation.classes == CLASSES
    assert scored.evaluation.confusion.tolist() == (np.eye(3, dtype=int) * 5).tolist()


def test_scores_are_of_full_precision_whatever_the_device_would_round_to(tmp_path):
    import tensorflow as tf

    _fer_split(tmp_path, "test")
    tf.config.experimental.enable_tensor_float_32_execution(True)
    _score(open_dataset("hf-parquet", tmp_path))
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_rows_read_are_scored_left_out_or_of_another_status(tmp_path):
    names = ["happy", "neutral", "angry", "surprise", "surprise", "happy"]
    images = [_flat(100), _flat(20), _flat(9), None, b"no picture", _flat(200)]
    write_split(tmp_path, "test", [*map(FER.index, names), 99], images=[*images, _flat(1)])
    scored = _score(open_dataset("hf-parquet", tmp_path))
    assert scored.rows_read == 7
    assert scored.left_out == {"other_class": 1, "unknown_label": 1}
    assert scored.statuses == {"ok": 3, "missing": 1, "unreadable": 1}
    assert sum(scored.left_out.values()) + sum(scored.statuses.values()) == 7
    assert scored.evaluation.n == 3
    assert scored.evaluation.accuracy.value == pytest.approx(2 / 3)


def test_classes_that_only_one_side_has_are_named(tmp_path):
    names = ["happy", "angry", "angry", "disgust", "surprise"]
    images = [_flat(BRIGHTNESS.get(name, 9)) for name in names]
    write_split(tmp_path, "test", [FER.index(name) for name in names], images=images)
    scored = _score(open_dataset("hf-parquet", tmp_path))
    assert scored.other_classes == {"Anger": 2, "Disgust": 1}
    assert sum(scored.other_classes.values()) == scored.left_out["other_class"]
    assert scored.absent_classes == ("Neutral",)
    _fer_split(tmp_path / "all", "test")
    whole = _score(open_dataset("hf-parquet", tmp_path / "all"))
    assert (whole.other_classes, whole.absent_classes) == ({}, ())


def test_counts_add_up_on_a_release_with_every_trap(drawn_release):
    for split in ("manual_train", "manual_val", "auto"):
        scored = _score(open_dataset("affectnet", drawn_release), split=split)
        counted = sum(scored.left_out.values()) + sum(scored.statuses.values())
        assert scored.rows_read == counted
        assert scored.evaluation.n == scored.statuses["ok"]


def test_bad_box_is_left_out_and_counted(tmp_path):
    rows = [line("1/a.png", (10, 10, 60, 60)), line("1/a.png", (-1, -1, -1, -1))]
    write_list(tmp_path, "manual_val", rows)
    write_photo(tmp_path, "1/a.png", encoded(noise()))
    scored = _score(open_dataset("affectnet", tmp_path))
    assert (scored.left_out, scored.statuses) == ({"bad_box": 1}, {"ok": 1})


def test_without_a_split_the_locked_test_list_is_scored(tmp_path):
    for name, count in (("train", 1), ("validation", 2)):
        _fer_split(tmp_path, name, count)
    dataset = open_dataset("hf-parquet", tmp_path)
    assert _score(dataset).evaluation.n == 6
    assert _score(dataset, split="train").evaluation.n == 3
    _fer_split(tmp_path, "test", 4)
    assert _score(open_dataset("hf-parquet", tmp_path)).evaluation.n == 12


def test_split_that_is_not_there_is_an_input_error_that_lists_those_that_are(tmp_path):
    _fer_split(tmp_path, "test")
    with pytest.raises(InputError, match="no list 'dev': --split takes one of test"):
        _score(open_dataset("hf-parquet", tmp_path), split="dev")


def test_data_set_without_a_test_list_asks_for_a_split(tmp_path):
    _fer_split(tmp_path, "train")
    with pytest.raises(InputError, match="no list to test on: give --split one of train"):
        _score(open_dataset("hf-parquet", tmp_path))


def test_nothing_to_score_is_an_input_error(tmp_path):
    write_split(tmp_path, "test", [FER.index("angry"), FER.index("happy")], images=[_flat(1), b""])
    with pytest.raises(InputError, match=r"no readable face of Surprise, Happiness, .* in test"):
        _score(open_dataset("hf-parquet", tmp_path))


def test_label_source_is_the_card_s_unless_another_is_asked_for(tmp_path):
    labels = [FER.index("happy")] * 2
    votes = [[0, 0, 10], [0, 10, 0]]
    write_split(
        tmp_path,
        "test",
        labels,
        images=[_flat(20)] * 2,
        votes=votes,
        vote_columns=["anger", "happiness", "neutral"],
    )
    dataset = open_dataset("hf-parquet", tmp_path)
    assert _score(dataset).evaluation.accuracy.value == 0
    assert _score(dataset, _card("votes")).evaluation.accuracy.value == 0.5
    assert _score(dataset, label_source="votes").evaluation.accuracy.value == 0.5


def test_model_sees_batches_of_one_shape_whatever_the_number_of_faces(tmp_path):
    _fer_split(tmp_path, "test", count=100)
    model = ByBrightness()
    told = []
    dataset = open_dataset("hf-parquet", tmp_path)
    scored = score_dataset(model, _card(), dataset, resamples=50, on_faces=told.append)
    assert model.batches == [(256, 16, 16, 1)] * 2
    assert scored.evaluation.n == 300
    assert told == [256, 300]


def test_pictures_that_are_faces_are_taken_whole_and_photos_are_not(tmp_path):
    _fer_split(tmp_path / "parquet", "test")
    faces = open_dataset("hf-parquet", tmp_path / "parquet")
    photos = small_release(tmp_path / "release")
    for detect in ("missing", "always", "whole"):
        assert crop_settings_for(CropSettings(detect=detect), faces).detect == "whole"
    assert crop_settings_for(CropSettings(detect="whole"), photos).detect == "missing"
    assert crop_settings_for(CropSettings(detect="always"), photos).detect == "always"


def test_faces_of_one_photo_are_one_group_of_the_interval(tmp_path):
    boxes = [(0, 0, 40, 40), (50, 0, 40, 40), (0, 50, 40, 40)]
    rows = [line("1/a.png", box) for box in boxes]
    write_list(tmp_path, "manual_val", [*rows, line("1/b.png")])
    for name in "ab":
        write_photo(tmp_path, f"1/{name}.png", encoded(noise()))
    scored = _score(open_dataset("affectnet", tmp_path))
    assert (scored.evaluation.n, scored.evaluation.groups) == (4, 2)


SEVEN = ("Neutral", "Happiness", "Sadness", "Surprise", "Anger", "Fear", "Disgust")


class Seven:
    """Stands for a model of seven classes: what it says stands in the first pixels of a crop."""

    output_shape = (None, 7)

    def predict_on_batch(self, crops):
        said = crops.reshape(len(crops), 16, 16)[:, :7, 0].astype(np.float64) + 1e-9
        return said / said.sum(axis=1, keepdims=True)


def _saying(shares):
    """A picture whose crop of 16 pixels begins with these values, one a row."""
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:7] = np.asarray(shares, np.uint8)[:, None, None]
    return encoded(picture)


FACES = (
    ("happy", (0, 90, 0, 30, 0, 120, 0)),  # Fear before Happiness
    ("sad", (0, 60, 40, 10, 0, 0, 0)),  # Happiness
    ("surprise", (100, 10, 20, 80, 0, 0, 0)),  # Neutral before Surprise
    ("neutral", (50, 0, 0, 0, 90, 0, 0)),  # Anger
    ("angry", (10, 0, 0, 0, 90, 100, 0)),  # Disgust and Fear aside: Anger
    ("fear", (0, 0, 0, 0, 0, 200, 0)),
    ("disgust", (0, 0, 0, 0, 0, 0, 200)),
)


@pytest.mark.parametrize(
    ("classes", "right", "left"),
    [
        (None, {"Fear", "Disgust"}, {}),
        (
            ("Neutral", "Happiness", "Sadness", "Surprise", "Anger"),
            {"Happiness", "Anger"},
            {"Fear": 1, "Disgust": 1},
        ),
        (
            ("Happiness", "Sadness", "Surprise"),
            {"Happiness", "Surprise"},
            {"Neutral": 1, "Fear": 1, "Disgust": 1, "Anger": 1},
        ),
    ],
    ids=["seven", "five", "three"],
)
def test_of_fewer_classes_the_faces_and_the_answers_are_among_these(tmp_path, classes, right, left):
    write_split(
        tmp_path,
        "test",
        [FER.index(name) for name, _ in FACES],
        images=[_saying(shares) for _, shares in FACES],
    )
    card = ModelCard("seven_class", SEVEN, CropSettings(side=16, detect="whole"), "listed", {})
    scored = score_dataset(
        Seven(), card, open_dataset("hf-parquet", tmp_path), classes=classes, resamples=50
    )
    found = scored.evaluation
    assert found.classes == (classes or SEVEN)
    assert found.n == 7 - sum(left.values())
    assert {one.name for one in found.by_class if one.recall} == right
    assert found.accuracy.value == pytest.approx(len(right) / found.n)
    assert scored.other_classes == left
    assert sum(scored.left_out.values()) == sum(left.values())


def test_probabilities_among_fewer_classes_are_those_given_that_it_is_one_of_them():
    seven = np.array([[0.1, 0.2, 0.3, 0.1, 0.1, 0.1, 0.1], [0.5, 0, 0, 0, 0.5, 0, 0]])
    three = among_classes(seven, [1, 2, 3])
    assert three == pytest.approx(np.array([[1 / 3, 1 / 2, 1 / 6], [1 / 3] * 3]))
    assert among_classes(seven, range(7)) == pytest.approx(seven)
    assert among_classes(seven, [3, 1])[0] == pytest.approx([1 / 3, 2 / 3])


def test_classes_that_the_model_lacks_are_an_input_error(tmp_path):
    _fer_split(tmp_path, "test")
    with pytest.raises(InputError, match="no class for Anger: it tells Surprise, Happiness, Neu"):
        _score(open_dataset("hf-parquet", tmp_path), classes=("Happiness", "Anger"))
