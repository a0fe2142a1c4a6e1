import numpy as np
import pytest

from fer_pipeline.core.sample import sample_square
from fer_pipeline_tests.core.small_release import noise


def _textured(height=900, width=1100):
    """A smooth picture with fine detail on it, grey."""
    fine = np.random.default_rng(0).normal(0, 12, (height, width))
    return np.clip(noise(3, height, width)[:, :, 1] + fine, 0, 255).astype(np.uint8)


def _areas(start, extent, side, size):
    """The share of each of `size` pixels in each of `side` equal parts of the span."""
    edges = np.linspace(start, start + extent, side + 1)
    pixels = np.arange(size)
    share = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(share, 0, None) * side / extent


def _decibels(found, expected):
    return 10 * np.log10(255**2 / np.mean((found.astype(float) - expected) ** 2))


@pytest.mark.parametrize("extent", [60.3, 100.0, 131.7, 187.1, 240.4, 411.9, 700.6])
@pytest.mark.parametrize("centre", [(520.3, 447.8), (500.5, 430.0)])
def test_shrinking_is_near_the_exact_mean_of_areas_at_fractional_places(extent, centre):
    image = _textured()
    across, down = (
        _areas(middle - extent / 2, extent, 48, size)
        for middle, size in zip(centre, image.shape[::-1], strict=True)
    )
    found = sample_square(image, centre, extent, 48)
    assert _decibels(found, down @ image @ across.T) > 42


def test_pixels_that_need_no_sampling_stay_as_they_are():
    image = noise(4, 80, 90)
    assert np.array_equal(sample_square(image, (45, 40), 48, 48), image[16:64, 21:69])


def test_enlarging_stays_in_its_place():
    ramp = np.tile(np.arange(60, dtype=np.uint8) * 4, (60, 1))
    found = sample_square(ramp, (30.0, 30.0), 24, 96)
    places = 18 + (np.arange(96) + 0.5) / 4 - 0.5
    assert np.abs(found - 4 * places).max() <= 1


@pytest.mark.parametrize("extent", [20.0, 300.0])
def test_square_is_turned_clockwise_by_its_angle(extent):
    """A white bar that falls to the right by 30 degrees lies level in the crop."""
    import cv2

    image = np.zeros((400, 400), np.uint8)
    turn = np.radians(30)
    reach = extent / 2 * np.array([np.cos(turn), np.sin(turn)])
    ends = [tuple(np.rint(200 + sign * reach).astype(int).tolist()) for sign in (-1, 1)]
    cv2.line(image, *ends, 255, max(1, int(extent / 20)))
    crop = sample_square(image, (200.5, 200.5), extent, 40, angle=turn)
    rows = crop.mean(axis=1)
    assert rows.argmax() in (19, 20)
    assert rows[17:23].sum() > 0.95 * rows.sum()


def test_grey_of_a_colour_picture_is_its_luma():
    image = np.zeros((100, 100, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    assert (sample_square(image, (50.2, 50.9), 60, 30, grey=True) == 76).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40_000), (40_000, 1), (2, 33_000), (33_000, 3)])
@pytest.mark.parametrize("extent", [1.0, 50.0, 40_000.0])
def test_slivers_are_sampled_whatever_their_length(shape, extent):
    crop = sample_square(np.full(shape, 77, np.uint8), (shape[1] / 2, shape[0] / 2), extent, 24)
    assert crop.shape == (24, 24)
    assert (crop == 77).all()


@pytest.mark.parametrize("centre", [(-70.0, 80.0), (230.0, 90.0), (80.0, -60.0), (90.0, 210.0)])
def test_square_that_is_mostly_outside_holds_the_picture_reflected_at_its_edge(centre):
    image = noise(5, 160, 170)[:, :, 1]
    around = np.pad(image, 200, "symmetric")
    left, top = (round(middle) - 96 + 200 for middle in centre)
    expected = around[top : top + 192, left : left + 192].reshape(48, 4, 48, 4).mean((1, 3))
    assert _decibels(sample_square(image, centre, 192, 48), expected) > 40
