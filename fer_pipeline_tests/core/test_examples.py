from threading import Barrier

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fer_pipeline.core import examples as examples_module
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.examples import load_images, select_examples
from fer_pipeline.core.storage import as_location
from fer_pipeline_tests.core.drawn_shapes import CLASSES, draw, make_manifest, write_shards


def _images(count, channels=1):
    rng = np.random.default_rng(3)
    return [draw(CLASSES[i % 3], rng, channels) for i in range(count)]


def _votes(**counts):
    order = "Neutral Happiness Sadness Surprise Fear Disgust Anger Contempt Unknown NoFace"
    return [counts.get(name, 0) for name in order.split()]


def test_only_faces_of_the_split_the_classes_and_status_ok_are_selected(tmp_path):
    manifest = make_manifest(
        ["Happiness", "Anger", "Sadness", "Happiness", "Surprise", "Sadness"],
        ["train", "train", "train", "dev", "train", "excluded"],
    )
    statuses = ["ok", "ok", "no_face", "ok", "ok", "ok"]
    images = _images(6)
    shards = write_shards(
        tmp_path, manifest, images, statuses=statuses, rows_per_shard=4, row_group_size=2
    )
    examples = select_examples(shards, manifest, CLASSES, "train", "listed")
    assert examples.face_id.tolist() == ["face000000000000", "face000000000004"]
    assert examples.group_id.tolist() == ["group0", "group4"]
    assert examples.shard_index.tolist() == [0, 1]
    assert examples.row.tolist() == [0, 0]
    assert examples.expression.tolist() == [0, 2]
    assert examples.target.dtype == np.float32
    assert examples.target.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert np.array_equal(load_images(examples), np.stack([images[0], images[4]]))


def test_targets_follow_the_order_of_the_classes_and_not_of_the_codes(tmp_path):
    manifest = make_manifest(["Happiness", "Sadness", "Surprise"])
    shards = write_shards(tmp_path, manifest, _images(3))
    examples = select_examples(
        shards, manifest, ("Surprise", "Happiness", "Sadness"), "train", "listed"
    )
    assert examples.expression.tolist() == [1, 2, 0]


def test_faces_are_matched_by_id_when_shards_come_in_another_order(tmp_path):
    manifest = make_manifest([CLASSES[i % 3] for i in range(10)])
    images = _images(10)
    shards = write_shards(tmp_path, manifest, images, rows_per_shard=4)
    examples = select_examples(shards[::-1], manifest, CLASSES, "train", "listed")
    assert np.array_equal(load_images(examples), np.stack(images))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_in_the_order_asked_for_across_shards_and_row_groups(tmp_path, channels):
    manifest = make_manifest([CLASSES[i % 3] for i in range(40)])
    images = _images(40, channels)
    statuses = ["missing" if i % 7 == 3 else "ok" for i in range(40)]
    shards = write_shards(
        tmp_path, manifest, images, statuses=statuses, rows_per_shard=15, row_group_size=4
    )
    examples = select_examples(shards, manifest, CLASSES, "train", "listed")
    usable = [image for image, status in zip(images, statuses, strict=True) if status == "ok"]
    order = np.random.default_rng(0).permutation(len(examples))
    loaded = load_images(examples, order)
    assert loaded.dtype == np.uint8
    assert loaded.shape == (len(usable), 16, 16, channels)
    assert np.array_equal(loaded, np.stack(usable)[order])


def test_shards_of_an_object_store_are_read_at_once_and_give_the_same_images(tmp_path, monkeypatch):
    manifest = make_manifest([CLASSES[i % 3] for i in range(10)])
    here = write_shards(tmp_path, manifest, _images(10), rows_per_shard=5, row_group_size=2)
    there = [as_location(f"memory://shards/{path.name}") for path in here]
    for path, copy in zip(here, there, strict=True):
        copy.write_bytes(path.read_bytes())
    local, remote = (
        select_examples(shards, manifest, CLASSES, "train", "listed") for shards in (here, there)
    )
    both, read = Barrier(2), examples_module._read_into

    def together(*told):
        both.wait(timeout=30)
        read(*told)

    expected = load_images(local)
    monkeypatch.setattr(examples_module, "_read_into", together)
    assert np.array_equal(load_images(remote), expected)


def test_row_groups_are_those_of_the_files_and_numbered_over_all_shards(tmp_path):
    manifest = make_manifest([CLASSES[i % 3] for i in range(10)])
    images = _images(10)
    statuses = ["missing", *["ok"] * 9]
    write = {"statuses": statuses, "rows_per_shard": 5}
    pairs = write_shards(tmp_path / "a", manifest, images, **write, row_group_size=2)
    threes = write_shards(tmp_path / "b", manifest, images, **write, row_group_size=3)
    examples = select_examples([pairs[0], threes[1]], manifest, CLASSES, "train", "listed")
    assert examples.group_rows == ((2, 2, 1), (3, 2))
    assert examples.row_group().tolist() == [0, 1, 1, 2, 3, 3, 3, 4, 4]


def test_an_image_asked_for_twice_comes_twice(tmp_path):
    manifest = make_manifest(["Happiness", "Sadness"])
    images = _images(2)
    examples = select_examples(
        write_shards(tmp_path, manifest, images), manifest, CLASSES, "train", "listed"
    )
    loaded = load_images(examples, np.array([1, 0, 1]))
    assert np.array_equal(loaded, np.stack([images[1], images[0], images[1]]))


def test_votes_become_shares_of_the_streams_classes(tmp_path):
    votes = [_votes(Happiness=6, Sadness=2, Anger=2), _votes(Surprise=5, Unknown=5)]
    # The listed label is another one on purpose: votes alone decide.
    manifest = make_manifest(["Anger", "Anger"], votes=votes)
    shards = write_shards(tmp_path, manifest, _images(2))
    examples = select_examples(shards, manifest, CLASSES, "train", "votes")
    assert examples.expression.tolist() == [0, 2]
    assert examples.target.tolist() == [[0.75, 0.25, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("reason", "votes"),
    [
        ("first place is outside the stream", _votes(Anger=6, Happiness=4)),
        ("first place is shared", _votes(Happiness=5, Sadness=5)),
        ("first place is shared with a class outside the stream", _votes(Happiness=4, Fear=4)),
        ("no emotion has a vote", _votes(Unknown=6, NoFace=4)),
        ("there are no votes", None),
    ],
)
def test_vote_rows_without_a_clear_class_of_the_stream_are_left_out(tmp_path, reason, votes):
    manifest = make_manifest(["Happiness"] * 2, votes=[votes, _votes(Sadness=9, Happiness=1)])
    shards = write_shards(tmp_path, manifest, _images(2))
    examples = select_examples(shards, manifest, CLASSES, "train", "votes")
    assert examples.face_id.tolist() == ["face000000000001"], reason


def test_votes_of_a_data_set_without_votes_are_wrong_input(tmp_path):
    manifest = make_manifest(["Happiness"])
    shards = write_shards(tmp_path, manifest, _images(1))
    with pytest.raises(InputError, match="no FER\\+ votes"):
        select_examples(shards, manifest, CLASSES, "train", "votes")


@pytest.mark.parametrize(
    ("classes", "split", "source", "message"),
    [
        (("Happiness", "Joyfulness"), "train", "listed", "Joyfulness"),
        (("None", "Happiness"), "train", "listed", "None"),
        ((), "train", "listed", "nothing"),
        (CLASSES, "train", "guessed", "guessed"),
        (CLASSES, "test", "listed", "no usable face"),
    ],
)
def test_a_selection_that_cannot_be_made_is_wrong_input(tmp_path, classes, split, source, message):
    manifest = make_manifest(["Happiness"])
    shards = write_shards(tmp_path, manifest, _images(1))
    with pytest.raises(InputError, match=message):
        select_examples(shards, manifest, classes, split, source)


def test_a_manifest_face_without_a_row_in_any_shard_is_wrong_input(tmp_path):
    manifest = make_manifest(["Happiness"] * 8)
    shards = write_shards(tmp_path, manifest, _images(8), rows_per_shard=4)
    with pytest.raises(InputError, match="face000000000004"):
        select_examples(shards[:1], manifest, CLASSES, "train", "listed")


def test_shards_of_different_crop_sizes_are_wrong_input(tmp_path):
    manifest = make_manifest(["Happiness", "Sadness"])
    one = write_shards(tmp_path / "a", manifest, _images(2))
    other = write_shards(tmp_path / "b", manifest, [image[:8] for image in _images(2)])
    with pytest.raises(InputError, match="differ in crop size"):
        select_examples([*one, *other], manifest, CLASSES, "train", "listed")


def test_a_shard_without_its_crop_size_is_wrong_input(tmp_path):
    manifest = make_manifest(["Happiness"])
    (path,) = write_shards(tmp_path, manifest, _images(1))
    pq.write_table(pq.read_table(path).replace_schema_metadata({}), path)
    with pytest.raises(InputError, match="height"):
        select_examples([path], manifest, CLASSES, "train", "listed")


def test_row_weights_of_the_manifest_are_kept(tmp_path):
    manifest = make_manifest(["Happiness", "Sadness"], weights=[0.5, 2.0])
    shards = write_shards(tmp_path, manifest, _images(2))
    examples = select_examples(shards, manifest, CLASSES, "train", "listed")
    assert examples.weight.tolist() == [0.5, 2.0]
    assert examples.weight.dtype == np.float32


def test_a_manifest_in_several_chunks_is_read_like_one(tmp_path):
    manifest = make_manifest([CLASSES[i % 3] for i in range(6)])
    shards = write_shards(tmp_path, manifest, _images(6))
    chunked = pa.concat_tables([manifest.slice(0, 2), manifest.slice(2)])
    examples = select_examples(shards, chunked, CLASSES, "train", "listed")
    assert examples.row.tolist() == [0, 1, 2, 3, 4, 5]


def test_class_of_a_tie_is_the_one_that_the_rule_chose_whatever_the_shares(tmp_path):
    votes = [_votes(Happiness=5, Sadness=5)] * 2
    manifest = make_manifest(["Sadness", "Anger"], votes=votes)
    shards = write_shards(tmp_path, manifest, _images(2))
    by_label = select_examples(shards, manifest, CLASSES, "train", "votes:listed")
    assert (by_label.expression.tolist(), by_label.target.tolist()) == ([1], [[0.5, 0.5, 0]])
    first = select_examples(shards, manifest, CLASSES, "train", "votes:first")
    assert first.expression.tolist() == [0, 0]


def test_vote_shares_are_mixed_into_listed_targets_where_there_are_votes(tmp_path):
    votes = [
        _votes(Happiness=6, Sadness=2, Anger=2),
        _votes(Surprise=8, Happiness=2),
        _votes(Unknown=10),
        None,
    ]
    manifest = make_manifest(["Happiness", "Sadness", "Surprise", "Happiness"], votes=votes)
    shards = write_shards(tmp_path, manifest, _images(4))
    mixed = select_examples(shards, manifest, CLASSES, "train", "listed", vote_share=0.8)
    assert mixed.target == pytest.approx(
        np.array([[0.8, 0.2, 0], [0.16, 0.2, 0.64], [0, 0, 1], [1, 0, 0]]), abs=1e-6
    )
    # The label stays the listed one, even where votes for another outweigh it.
    assert mixed.expression.tolist() == [0, 1, 2, 0]
    plain = select_examples(shards, manifest, CLASSES, "train", "listed")
    assert plain.target.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_vote_shares_of_a_data_set_without_votes_are_wrong_input(tmp_path):
    manifest = make_manifest(["Happiness"])
    shards = write_shards(tmp_path, manifest, _images(1))
    with pytest.raises(InputError, match="leave vote_share at 0"):
        select_examples(shards, manifest, CLASSES, "train", "listed", vote_share=0.1)
