import pytest

from fer_pipeline_tests.core.crop_work import Made
from fer_pipeline_tests.core.small_release import small_release
from fer_pipeline_tests.core.small_study import small_study


@pytest.fixture
def made(tmp_path):
    """A small release with its manifest, of which crops can be made."""
    return Made(small_release(tmp_path / "release"), tmp_path)


@pytest.fixture
def root(tmp_path):
    """Where a data set is written by hand."""
    return tmp_path / "release"


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """A small study; not to be written to."""
    return small_study(tmp_path_factory.mktemp("studies"))


@pytest.fixture
def folder(tmp_path):
    """Where its crops go."""
    return tmp_path / "crops"
