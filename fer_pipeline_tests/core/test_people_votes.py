import json

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose

from fer_pipeline.core.agreement import krippendorff_alpha
from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.index import build_index, row_batches
from fer_pipeline.core.intervals import wilson_interval
from fer_pipeline.core.labels import CODES
from fer_pipeline.core.people_model import TEST
from fer_pipeline.core.predictions import Predictions
from fer_pipeline.core.votes import vote_matrix
from fer_pipeline_tests.core.people_answers import THREE, cast
from fer_pipeline_tests.core.people_answers import report_on_votes as report

SEVEN = ("Neutral", "Happiness", "Sadness", "Surprise", "Anger", "Fear", "Disgust")


def test_each_voter_is_scored_against_the_majority_of_the_others_by_class():
    rows = [cast(Happiness=8, Sadness=2), cast(Surprise=9, Happiness=1), cast(Sadness=10)]
    found = report(rows, ["Happiness", "Surprise", "Surprise"])
    alone = found.leave_one_out
    assert (alone.decided.count, alone.decided.of) == (27, 30)
    assert [(share.count, share.of) for share in alone.by_class] == [(8, 10), (10, 10), (9, 10)]
    assert alone.class_balanced.value == pytest.approx((0.8 + 1 + 0.9) / 3)
    assert (found.votes, found.faces, found.outside, found.without_majority) == (30, 3, 0, 0)
    assert [(share.count, share.of) for share in found.single.by_class] == [
        (8, 10),
        (0, 0),
        (9, 20),
    ]
    assert (found.majority.decided.count, found.majority.decided.of) == (2, 3)


def test_votes_for_no_class_of_the_stream_are_counted_and_count_as_wrong_too():
    rows = [cast(Happiness=5, Neutral=1, Contempt=1, Unknown=2, NoFace=1)]
    found = report(rows, ["Happiness"])
    assert found.choices == (*THREE, "other expression", "unknown", "not a face")
    assert found.leave_one_out.confusion.tolist() == [[5, 0, 0, 2, 2, 1]] + [[0] * 6] * 2
    assert found.leave_one_out.decided.value == 1
    assert found.leave_one_out.everything.value == 0.5
    assert found.single.everything.value == 0.5


def test_voters_whose_others_chose_no_class_of_the_stream_are_left_out_and_counted():
    found = report([cast(NoFace=9, Happiness=1), cast(Happiness=3)], ["Happiness"] * 2)
    assert found.outside == 10
    assert found.leave_one_out.everything.of == 3
    # The face's majority is no class: no decided answer, and wrong among all.
    assert (found.majority.decided.of, found.majority.everything.of) == (1, 2)


def test_ties_are_left_out_and_counted():
    found = report([cast(Happiness=2, Sadness=1), cast(Happiness=5, Sadness=5)], ["Happiness"] * 2)
    assert (found.without_majority, found.tied) == (2, 1)
    assert found.majority.decided.of == 1


def test_faces_without_votes_are_left_out_and_counted():
    found = report(
        [cast(Happiness=4), cast(), cast(Sadness=4)], ["Happiness", "Sadness", "Sadness"]
    )
    assert (found.faces, found.without_votes, found.votes) == (2, 1, 8)


def test_data_set_without_votes_is_refused():
    with pytest.raises(InputError, match="no face of three_class has votes"):
        report([cast()] * 2, ["Happiness"] * 2)


def test_ten_votes_on_a_face_are_not_ten_faces():
    rows = [cast(Happiness=10)] * 70 + [cast(Sadness=10)] * 30
    found = report(rows, ["Happiness"] * 100)
    share = found.single.decided
    assert (share.count, share.of) == (700, 1000)
    assert_allclose((share.low, share.high), wilson_interval(70, 100))


def test_ten_votes_on_each_of_three_faces_of_a_class_say_little_of_its_recall():
    rows = [cast(Happiness=5, Sadness=5)] * 40 + [cast(Sadness=9, Happiness=1)] * 3
    found = report(rows, ["Happiness"] * 40 + ["Sadness"] * 3).single
    shares = [share for share in found.by_class if share.of]
    assert [share.of for share in shares] == [400, 30]
    below = np.linalg.norm([share.value - share.low for share in shares]) / 2
    assert found.class_balanced.low == pytest.approx(found.class_balanced.value - below)


def test_alpha_takes_unknown_as_a_gap():
    rows = [cast(Happiness=3, Sadness=1, Unknown=4), cast(Sadness=2, NoFace=3, Fear=1)]
    expected = krippendorff_alpha(np.array([[3, 1, 0, 0], [0, 2, 0, 1]]))
    assert report(rows, ["Happiness", "Sadness"]).alpha.value == pytest.approx(expected)


def test_ceiling_is_implied_by_single_votes_against_listed_labels():
    rows = [cast(Happiness=8, Sadness=2)] * 50
    found = report(rows, ["Happiness"] * 50)
    # (1 + sqrt(2 * (3 * 0.8 - 1))) / 3
    assert found.implied.value == pytest.approx((1 + 2.8**0.5) / 3)


def test_model_is_compared_with_the_majority_of_the_voters():
    rows = [cast(Happiness=8, Sadness=2), cast(Sadness=9), cast(Unknown=8, Surprise=2)]
    predicted = Predictions(
        classes=THREE,
        face_id=np.array(["face0", "face1", "face2"], dtype=object),
        group_id=np.array(["a", "b", "c"], dtype=object),
        split=np.array(["test"] * 3, dtype=object),
        expression=np.array([0, 2, 2]),
        probability=np.array([[0.2, 0.4, 0.4], [0.1, 0.1, 0.8], [0, 0, 1]], np.float32),
    )
    labels = ["Happiness", "Surprise", "Surprise"]
    (found,) = report(rows, labels, predictions={TEST: predicted}).model
    assert (found.faces, found.undecided) == (3, 1)
    assert (found.decided.first.count, found.decided.second.count) == (1, 1)
    assert found.differing[0].item is None
    # Happiness 8 of 10, sadness 0 of 9, surprise 2 of 2.
    assert (found.one_person.count, found.one_person.of) == (10, 21)


def test_dict_is_strict_json_and_scalars_are_numbers():
    found = report([cast(Happiness=8, Sadness=2)] * 9 + [cast(Sadness=5)], ["Happiness"] * 10)
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert stored["leave_one_out"]["agreement"] == found.leave_one_out.decided.value
    assert stored["single"]["by_class"][2]["recall"] is None
    assert found.scalars()["leave_one_out_low"] == found.leave_one_out.decided.low
    assert found.class_table()["class"].tolist() == list(THREE)


def test_fer2013_gives_a_human_report_by_class(real_data, tmp_path):
    dataset = open_dataset("hf-parquet", real_data / "fer2013")
    build_index(dataset, tmp_path, names=["validation"])
    table = pa.Table.from_batches(list(row_batches(tmp_path)))
    place = {CODES[name]: at for at, name in enumerate(SEVEN)}
    labels = [SEVEN[place[code]] for code in table["expression"].to_pylist()]
    found = report(vote_matrix(table["votes"]), labels, SEVEN)
    assert (found.faces, found.votes) == (3589, 35_890)
    counted = found.leave_one_out.everything.of + found.without_majority + found.outside
    assert counted == found.votes
    recalls = {
        name: share.value for name, share in zip(SEVEN, found.leave_one_out.by_class, strict=True)
    }
    assert found.leave_one_out.decided.value == pytest.approx(0.797, abs=0.001)
    assert recalls["Happiness"] == max(recalls.values())
    assert recalls["Disgust"] == min(recalls.values())
    assert found.single.decided.value == pytest.approx(0.598, abs=0.001)
    # People agree with one another far more than with the list.
    assert found.single.decided.high < found.leave_one_out.decided.low
