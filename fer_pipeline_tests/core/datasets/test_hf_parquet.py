import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fer_pipeline.core.datasets import hf_parquet, open_dataset
from fer_pipeline.core.datasets.base import UNKNOWN_LABEL, Role
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.index import REJECTED_FILE, build_index
from fer_pipeline.core.labels import CODES, NAMES, VOTE_NAMES
from fer_pipeline.core.votes import majority_expression, vote_matrix
from fer_pipeline_tests.core.parquet_faces import FER, IMAGE, face, write_split
from fer_pipeline_tests.core.small_release import index_rows


def _index(root, folder):
    dataset = open_dataset("hf-parquet", root)
    summary = build_index(dataset, folder)
    rejected = pq.read_table(folder / REJECTED_FILE).to_pylist()
    return dataset, summary, index_rows(folder), rejected


def test_classes_are_taken_by_name_from_the_metadata(tmp_path):
    write_split(tmp_path, "train", range(7))
    kept = _index(tmp_path, tmp_path / "index")[2]
    names = [NAMES[row["expression"]] for row in kept]
    assert names == ["Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Neutral"]


def test_the_same_numbers_under_other_names_are_other_classes(tmp_path):
    write_split(tmp_path, "train", [0, 1], names=("Joy", "no face"))
    kept = _index(tmp_path, tmp_path / "index")[2]
    assert [NAMES[row["expression"]] for row in kept] == ["Happiness", "No-Face"]


def test_files_as_long_as_the_lists_of_fer2013_are_called_by_its_name(tmp_path, monkeypatch):
    for name, rows in (("train", 4), ("validation", 2)):
        write_split(tmp_path, name, [0] * rows)
    assert open_dataset("hf-parquet", tmp_path).title == "hf-parquet"
    monkeypatch.setattr(hf_parquet, "OFFICIAL_ROWS", {"train": 4, "validation": 2, "test": 2})
    assert open_dataset("hf-parquet", tmp_path).title == "FER2013"
    write_split(tmp_path, "test", [0] * 3)
    assert open_dataset("hf-parquet", tmp_path).title == "hf-parquet"


def test_the_real_lists_of_fer2013_are_known(real_data):
    assert open_dataset("hf-parquet", real_data / "fer2013").title == "FER2013"


@pytest.mark.parametrize("names", [None, ()])
def test_file_that_names_no_classes_is_an_input_error_that_names_the_file(tmp_path, names):
    write_split(tmp_path, "train", [0, 1], names=names)
    with pytest.raises(InputError, match=r"train\.parquet doesn't name its classes"):
        open_dataset("hf-parquet", tmp_path)


def test_unknown_class_name_is_an_input_error_that_names_file_and_value(tmp_path):
    write_split(tmp_path, "train", [0, 1], names=("happy", "grumpy"))
    with pytest.raises(InputError, match=r"train\.parquet: class 1 is named 'grumpy'.*rename"):
        open_dataset("hf-parquet", tmp_path)


def test_label_out_of_range_and_null_label_are_rejected_with_their_rows(tmp_path):
    write_split(tmp_path, "train", [0, 7, 3, -1, None])
    _, summary, kept, rejected = _index(tmp_path, tmp_path / "index")
    assert [row["row"] for row in kept] == [1, 3]
    assert [(row["row"], row["reason"], row["value"]) for row in rejected] == [
        (2, UNKNOWN_LABEL, "7"),
        (4, UNKNOWN_LABEL, "-1"),
        (5, "no_label", "-1"),
    ]
    assert summary.rows_read == 5


def test_null_image_is_a_row_whose_photo_is_missing(tmp_path):
    write_split(tmp_path, "train", [0, 1, 2, 3], images=[face(1), None, b"", face(2)])
    dataset, _, kept, _ = _index(tmp_path, tmp_path / "index")
    photos = [(row["list"], row["image_path"]) for row in kept]
    assert list(dataset.read_photos(photos)) == [face(1), None, b"", face(2)]
    assert dataset.photo_sizes(photos).tolist() == [len(face(1)), -1, 0, len(face(2))]


def test_pictures_are_read_in_any_order_across_row_groups_and_files(tmp_path):
    first = [face(number) for number in range(5)]
    second = [face(number) for number in range(5, 9)]
    write_split(tmp_path, "train-00000-of-00002", [0] * 5, images=first, row_group_size=2)
    write_split(tmp_path, "train-00001-of-00002", [1] * 4, images=second, row_group_size=3)
    dataset, _, kept, _ = _index(tmp_path, tmp_path / "index")
    assert [row["row"] for row in kept] == list(range(1, 10))
    order = [8, 0, 4, 3, 7, 5, 1, 2, 6]
    photos = [(kept[at]["list"], kept[at]["image_path"]) for at in order]
    assert list(dataset.read_photos(photos)) == [[*first, *second][at] for at in order]


def test_memory_holds_the_pictures_of_one_row_group_however_many_files(tmp_path):
    size, files = 2**18, 8
    for number in range(files):
        pictures = [np.random.default_rng(number).bytes(size)]
        write_split(tmp_path, f"train-{number:05d}-of-{files:05d}", [0], images=pictures)
    photos = [("train", f"data/train-{at:05d}-of-{files:05d}.parquet#0") for at in range(files)]
    dataset = open_dataset("hf-parquet", tmp_path)
    before = pa.total_allocated_bytes()
    held = []
    for data in dataset.read_photos(photos):
        assert len(data) == size
        held.append(pa.total_allocated_bytes() - before)
    # What reading itself takes for a moment can still be there at the one or the other photo.
    assert size <= min(held[files // 2 :]) < 2 * size


def test_row_beyond_the_file_is_missing(tmp_path):
    path = write_split(tmp_path, "train", [0, 1])
    dataset = open_dataset("hf-parquet", tmp_path)
    name = path.relative_to(tmp_path).as_posix()
    assert (
        list(dataset.read_photos([("train", f"{name}#2"), ("train", f"{name}#-1")])) == [None] * 2
    )


def test_votes_come_in_our_order_whatever_the_order_of_the_file(tmp_path):
    columns = ["NF", "unknown", "contempt", "fear", "disgust", "anger", "sadness", "surprise"]
    columns += ["happiness", "neutral"]
    write_split(tmp_path, "train", [0, 3], votes=[list(range(10)), None], vote_columns=columns)
    kept = _index(tmp_path, tmp_path / "index")[2]
    assert dict(zip(VOTE_NAMES, kept[0]["votes"], strict=True)) == {
        "No-Face": 0,
        "Unknown": 1,
        "Contempt": 2,
        "Fear": 3,
        "Disgust": 4,
        "Anger": 5,
        "Sadness": 6,
        "Surprise": 7,
        "Happiness": 8,
        "Neutral": 9,
    }
    assert kept[1]["votes"] is None


def test_votes_without_their_order_are_not_guessed(tmp_path):
    write_split(tmp_path, "train", [0], votes=[list(range(10))])
    assert _index(tmp_path, tmp_path / "index")[2][0]["votes"] is None


def test_unknown_vote_column_is_an_input_error(tmp_path):
    write_split(tmp_path, "train", [0], votes=[[1]], vote_columns=["meh"])
    with pytest.raises(InputError, match="vote_columns names 'meh'"):
        open_dataset("hf-parquet", tmp_path)


@pytest.mark.parametrize("text", [b"[", b"\xff", b"3", b'"anger"', b'{"anger": 1}', b"null"])
def test_damaged_vote_columns_are_an_input_error_that_names_the_file(tmp_path, text):
    path = write_split(tmp_path, "train", [0], votes=[[1]], vote_columns=["anger"])
    table = pq.read_table(path)
    metadata = {**table.schema.metadata, b"vote_columns": text}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(InputError, match=r"train\.parquet: the metadata vote_columns must be"):
        open_dataset("hf-parquet", tmp_path)


def test_votes_that_are_no_lists_are_an_input_error(tmp_path):
    path = write_split(tmp_path, "train", [0], votes=[[1]], vote_columns=["anger"])
    table = pq.read_table(path)
    metadata = table.schema.metadata
    table = table.set_column(2, "votes", pa.array(["1"])).replace_schema_metadata(metadata)
    pq.write_table(table, path)
    with pytest.raises(InputError, match="each row of votes a list of numbers"):
        open_dataset("hf-parquet", tmp_path)


@pytest.mark.parametrize("kind", ["uint8", "uint32", "uint64", "int8"])
def test_labels_may_be_whole_numbers_of_any_type(tmp_path, kind):
    path = write_split(tmp_path, "train", [0, 3, None, 7])
    table = pq.read_table(path)
    most = 2**64 - 1 if kind == "uint64" else 100
    labels = pa.array([0, 3, None, most], kind)
    table = table.set_column(1, "label", labels).replace_schema_metadata(table.schema.metadata)
    pq.write_table(table, path)
    _, _, kept, rejected = _index(tmp_path, tmp_path / "index")
    assert [(row["row"], NAMES[row["expression"]]) for row in kept] == [
        (1, "Anger"),
        (2, "Happiness"),
    ]
    assert [(row["row"], row["reason"], row["value"]) for row in rejected] == [
        (3, "no_label", "-1"),
        (4, UNKNOWN_LABEL, str(most)),
    ]


@pytest.mark.parametrize("part", ["labels", "pictures"])
def test_damaged_page_is_an_input_error_that_names_the_file(tmp_path, part):
    path = write_split(tmp_path, "train", list(range(7)) * 50, row_group_size=400)
    dataset = open_dataset("hf-parquet", tmp_path)
    column = pq.read_metadata(path).row_group(0).column(2 if part == "labels" else 0)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + 60] = b"\xff" * 60
    path.write_bytes(bytes(data))
    said = pytest.raises(InputError, match=r"train\.parquet is not a readable Parquet file; fetch")
    if part == "labels":
        with said:
            list(dataset.batches())
        return
    photos = [("train", "data/train.parquet#0")]
    with said:
        dataset.photo_sizes(photos)
    with pytest.raises(InputError, match="fetch it anew"):
        list(dataset.read_photos(photos))
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match="fetch it anew"):
        dataset.count_rows("train")


@pytest.mark.parametrize("votes", [[1], [1, 2, 3], [1, None], [1, 300], [-5, 1], [1, 128]])
def test_row_whose_votes_are_no_counts_for_each_name_is_an_input_error(tmp_path, votes):
    write_split(tmp_path, "train", [0, 1], votes=[[1, 2], votes], vote_columns=["anger", "fear"])
    with pytest.raises(InputError, match=r"train\.parquet: a row's votes aren't 2 numbers"):
        _index(tmp_path, tmp_path / "index")


def test_folder_with_only_a_test_file_is_a_test_list(tmp_path):
    write_split(tmp_path, "test", [0, 1, 2])
    dataset, summary, *_ = _index(tmp_path, tmp_path / "index")
    assert dataset.roles() == {"test": Role.TEST}
    assert summary.rows_by_list == {"test": 3}


@pytest.mark.parametrize(("with_test", "role"), [(True, Role.DEV), (False, Role.TEST)])
def test_validation_is_dev_beside_a_test_list_and_the_locked_test_without(
    tmp_path, with_test, role
):
    for name in ("train", "validation", *(["test"] * with_test)):
        write_split(tmp_path, name, [0])
    assert open_dataset("hf-parquet", tmp_path).roles()["validation"] == role


@pytest.mark.parametrize(
    "name", ["train", "train-00000-of-00001", "train-00000-of-00001-0a1b2c3d4e5f", "train-0"]
)
def test_split_is_known_by_the_start_of_the_file_name(tmp_path, name):
    write_split(tmp_path, name, [0])
    assert list(open_dataset("hf-parquet", tmp_path).lists()) == ["train"]


def test_files_directly_in_the_root_are_found(tmp_path):
    path = write_split(tmp_path, "test", [0, 1])
    path.rename(tmp_path / path.name)
    assert len(_index(tmp_path, tmp_path / "index")[2]) == 2


def test_rows_of_the_footers_are_counted(tmp_path):
    write_split(tmp_path, "train-0", [0] * 4)
    write_split(tmp_path, "train-1", [1] * 3)
    assert open_dataset("hf-parquet", tmp_path).count_rows("train") == 7


def test_only_the_named_lists_are_read(tmp_path):
    for name in ("train", "test"):
        write_split(tmp_path, name, [0, 1])
    dataset = open_dataset("hf-parquet", tmp_path)
    summary = build_index(dataset, tmp_path / "index", names=["test"])
    assert summary.rows_by_list == {"test": 2}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"picture": [b""], "label": [0]}, "has no column image"),
        ({"image": pa.array([{"bytes": b"", "path": ""}], IMAGE)}, "has no column label"),
        ({"image": [b""], "label": [0]}, "struct with a field bytes"),
        ({"image": pa.array([None], IMAGE), "label": ["happy"]}, "whole numbers"),
    ],
)
def test_file_with_other_columns_is_an_input_error_that_says_which(tmp_path, table, message):
    pq.write_table(pa.table(table), tmp_path / "train.parquet")
    with pytest.raises(InputError, match=message):
        open_dataset("hf-parquet", tmp_path)


def test_file_that_is_no_parquet_is_an_input_error(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InputError, match=r"train\.parquet is not a readable Parquet file"):
        open_dataset("hf-parquet", tmp_path)


def test_fer2013_is_read_with_its_own_names(real_data, tmp_path):
    dataset, summary, kept, rejected = _index(real_data / "fer2013", tmp_path / "index")
    assert summary.rows_by_list == {"train": 28709, "validation": 3589}
    assert rejected == []
    assert dataset.roles()["validation"] == Role.TEST
    by_list = {
        name: [row for row in kept if row["list"] == name] for name in ("train", "validation")
    }
    # FER2013's published counts of the training list, by its own class names.
    published = {"angry": 3995, "disgust": 436, "fear": 4097, "happy": 7215, "sad": 4830}
    published |= {"surprise": 3171, "neutral": 4965}
    names = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Neutral")
    for given, name in zip(FER, names, strict=True):
        found = sum(row["expression"] == CODES[name] for row in by_list["train"])
        assert found == published[given]


def test_top_vote_is_another_task_than_the_listed_label(real_data, tmp_path):
    kept = _index(real_data / "fer2013", tmp_path / "index")[2]
    votes = pa.array([row["votes"] for row in kept], pa.list_(pa.int8()))
    top = majority_expression(vote_matrix(votes))
    agreed = [code == row["expression"] for code, row in zip(top, kept, strict=True) if code >= 0]
    assert 0.63 < sum(agreed) / len(agreed) < 0.66
