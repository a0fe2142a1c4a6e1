import pytest

from fer_pipeline.app import pictures as module
from fer_pipeline.app.pictures import Pictures
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.study import picture
from fer_pipeline_tests.drawn_study import publish_drawn


@pytest.fixture
def study(tmp_path):
    return publish_drawn(tmp_path, "three_class", per_class=2)


@pytest.fixture
def read(monkeypatch):
    """The items that were read from the file, in order."""
    items = []

    def noted(path, item, *, whole):
        items.append(item)
        return picture(path, item, whole=whole)

    monkeypatch.setattr(module, "picture", noted)
    return items


def test_what_is_prepared_is_read_once_and_given_whole(study, read):
    pictures = Pictures()
    pictures.prepare(study, [1, 2], whole=True)
    for item in (1, 2, 1):
        assert pictures.get(study, item, whole=True) == picture(study.path, item, whole=True)
    assert sorted(read) == [1, 2]
    assert pictures.get(study, 1, whole=False) == picture(study.path, 1, whole=False)


def test_only_the_last_pictures_are_kept(study, read):
    pictures = Pictures(kept=2)
    for item in (0, 1, 2, 1, 0):
        pictures.get(study, item, whole=True)
    assert read == [0, 1, 2, 0]


def test_a_failed_read_is_tried_again(study, monkeypatch):
    pictures = Pictures()

    def fails(*_, **__):
        raise InputError("the disk is away")

    with monkeypatch.context() as patched:
        patched.setattr(module, "picture", fails)
        with pytest.raises(InputError, match="away"):
            pictures.get(study, 0, whole=True)
    assert pictures.get(study, 0, whole=True) == picture(study.path, 0, whole=True)
