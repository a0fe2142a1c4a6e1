import pytest

from fer_pipeline_tests.core.crop_work import Made
from fer_pipeline_tests.core.small_release import small_release


@pytest.fixture
def made(tmp_path):
    """A small release with its manifest, of which crops can be made."""
    return Made(small_release(tmp_path / "release"), tmp_path)


@pytest.fixture
def folder(tmp_path):
    """Where its crops go."""
    return tmp_path / "crops"
