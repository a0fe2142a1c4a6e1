"""What the tests of the service share: the starter, pictures, and a service that runs."""

from collections.abc import Iterator

import numpy as np
import pytest

from fer_pipeline.core.drawing import draw_group
from fer_pipeline.core.recogniser import Recogniser
from fer_pipeline.service.app import create_app
from fer_pipeline_tests.core.small_release import encoded
from fer_pipeline_tests.service.running import Client, running


@pytest.fixture(scope="package")
def recogniser() -> Recogniser:
    return Recogniser.load(threads=1)


@pytest.fixture(scope="package")
def group() -> bytes:
    """A PNG of three drawn people."""
    image, _ = draw_group(
        np.random.default_rng(3), ("Happiness", "Surprise", "Anger"), size=(840, 320)
    )
    return encoded(image)


@pytest.fixture(scope="package")
def client(recogniser: Recogniser) -> Iterator[Client]:
    with running(create_app(recogniser)) as started:
        yield started
