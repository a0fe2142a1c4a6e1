import numpy as np
import pytest
from numpy.testing import assert_allclose

from fer_pipeline.core import baselines
from fer_pipeline.core.baselines import grey_pixels, linear_baseline
from fer_pipeline.core.errors import InputError


def striped(labels, side: int = 32, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Noise with a bright band whose height tells the class."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 120, (len(labels), side, side, channels))
    for image, label in zip(images, labels, strict=True):
        image[label * 6 : label * 6 + 6] += 100
    return images.astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_linear_baseline_learns_what_a_line_can_separate(channels):
    generator = np.random.default_rng(1)
    train, test = generator.integers(0, 4, 300), generator.integers(0, 4, 100)
    probabilities = linear_baseline(
        striped(train, channels=channels), train, striped(test, channels=channels, seed=2), 4, 0
    )
    assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities.argmax(axis=1) == test).mean() > 0.95


def test_linear_baseline_is_at_chance_on_labels_that_mean_nothing():
    generator = np.random.default_rng(1)
    train, test = generator.integers(0, 4, 400), generator.integers(0, 4, 400)
    images = generator.integers(0, 256, (400, 24, 24, 1)).astype(np.uint8)
    probabilities = linear_baseline(images, train, images[::-1], 4, 0)
    assert 0.15 < (probabilities.argmax(axis=1) == test).mean() < 0.35


def test_class_absent_in_training_keeps_its_column():
    train, test = np.array([0, 3] * 50), np.array([0, 3, 3, 0])
    probabilities = linear_baseline(striped(train), train, striped(test, seed=2), 5, 0)
    assert probabilities.shape == (4, 5)
    assert (probabilities[:, [1, 2, 4]] == 0).all()
    assert probabilities.argmax(axis=1).tolist() == test.tolist()


def test_single_training_class_is_predicted_with_certainty():
    train = np.array([2, 2])
    probabilities = linear_baseline(striped(train), train, striped([0, 1]), 3, 0)
    assert_allclose(probabilities, np.tile([0, 0, 1], (2, 1)))


def test_training_faces_beyond_the_cap_are_drawn_with_the_seed(monkeypatch):
    monkeypatch.setattr(baselines, "LINEAR_TRAIN_CAP", 40)
    train = np.random.default_rng(0).integers(0, 4, 200)
    test = striped([0, 1, 2, 3], seed=3)
    first, again, other = (
        linear_baseline(striped(train), train, test, 4, seed) for seed in (0, 0, 1)
    )
    assert_allclose(first, again)
    assert not np.allclose(first, other)


def test_grey_pixels_average_blocks_of_equal_area():
    image = np.zeros((1, 48, 36, 1), np.uint8)
    image[0, :2, :3] = 240
    pixels = grey_pixels(image, longest=24).reshape(24, 24)
    assert_allclose(pixels[0, :3], [240, 240, 0], atol=1e-3)
    assert_allclose(pixels.mean(), image.mean(), rtol=1e-5)


def test_grey_pixels_weigh_colours_as_luma_and_keep_small_images():
    image = np.full((1, 10, 12, 3), (200, 100, 50), np.uint8)
    pixels = grey_pixels(image)
    assert pixels.shape == (1, 120)
    assert_allclose(pixels, 0.299 * 200 + 0.587 * 100 + 0.114 * 50, rtol=1e-5)


def test_training_split_without_faces_is_wrong_input():
    nothing = np.zeros(0, np.int64)
    with pytest.raises(InputError, match="training split holds no usable face"):
        linear_baseline(striped(nothing), nothing, striped([0]), 2, 0)


def test_sizes_that_differ_between_training_and_test_are_refused():
    with pytest.raises(ValueError, match="test images"):
        linear_baseline(striped([0, 1]), np.array([0, 1]), striped([0], side=40), 2, 0)


def test_label_beyond_the_classes_is_refused():
    with pytest.raises(ValueError, match="outside"):
        linear_baseline(striped([0, 6]), np.array([0, 6]), striped([0]), 5, 0)
