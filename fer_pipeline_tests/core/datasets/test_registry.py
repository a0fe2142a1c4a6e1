import pytest

from fer_pipeline.core.datasets import find_format, format_names, open_dataset
from fer_pipeline.core.datasets.base import Role, roles_of_given_splits
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import NAMES


def test_unknown_format_is_an_input_error_that_lists_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"'affectnot'.*affectnet, .*hf-parquet"):
        open_dataset("affectnot", tmp_path)


@pytest.mark.parametrize("name", format_names())
def test_root_that_is_no_folder_is_an_input_error_that_names_it(tmp_path, name):
    with pytest.raises(InputError, match="nowhere is not a folder"):
        open_dataset(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", format_names())
def test_folder_of_something_else_is_an_input_error_with_a_remedy(tmp_path, name):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(InputError, match="give --root the folder"):
        open_dataset(name, tmp_path)


@pytest.mark.parametrize("name", format_names())
def test_a_format_is_registered_under_its_own_name(name):
    assert find_format(name).name == name


@pytest.mark.parametrize("name", format_names())
def test_a_folder_of_something_else_is_recognised_by_no_format(tmp_path, name):
    (tmp_path / "notes.txt").write_text("nothing here")
    assert find_format(name).recognise(tmp_path) is None


@pytest.mark.parametrize("name", format_names())
def test_every_number_of_a_format_means_a_known_expression(name):
    assert set(find_format(name).labels.values()) <= set(NAMES)


def test_with_a_test_list_validation_is_dev():
    assert roles_of_given_splits(["train", "validation", "test"]) == {
        "train": Role.TRAIN,
        "validation": Role.DEV,
        "test": Role.TEST,
    }


def test_without_a_test_list_validation_is_the_locked_test():
    assert roles_of_given_splits(["train", "validation"]) == {
        "train": Role.TRAIN,
        "validation": Role.TEST,
    }
