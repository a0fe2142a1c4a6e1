from dataclasses import replace

import numpy as np
import pytest

from fer_pipeline.core.augmentation import augment, mixup
from fer_pipeline.core.presets import Augmentation

STILL = Augmentation(flip=False, rotation=0, shift=0, scale=0, brightness=0, contrast=0)


def test_augmentation_of_nothing_changes_nothing():
    images = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3)).astype(np.uint8)
    assert np.array_equal(augment(images, STILL, np.random.default_rng(0)), images)


def test_flip_mirrors_about_half_of_the_images_exactly():
    images = np.random.default_rng(0).integers(0, 256, (200, 12, 12, 1)).astype(np.uint8)
    flipped = augment(images, replace(STILL, flip=True), np.random.default_rng(0))
    mirrored = np.array(
        [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, images, strict=True)]
    )
    same = np.array([np.array_equal(a, b) for a, b in zip(flipped, images, strict=True)])
    assert np.all(mirrored ^ same)
    assert 70 < mirrored.sum() < 130


def test_shift_moves_at_most_its_share_of_the_side():
    images = np.zeros((100, 21, 21, 1), np.uint8)
    images[:, 10, 10] = 255
    moved = augment(images, replace(STILL, shift=0.2), np.random.default_rng(0))
    mass = moved[..., 0] / moved.sum(axis=(1, 2, 3))[:, None, None]
    centre = np.stack([(mass.sum(axis=2) * np.arange(21)).sum(axis=1)], axis=1)[:, 0] - 10
    assert np.abs(centre).max() <= 0.2 * 21 + 0.1
    assert np.abs(centre).max() > 2


def test_rotation_turns_about_the_centre_and_keeps_the_size():
    images = np.zeros((50, 41, 41, 1), np.uint8)
    images[:, 20, 5:36] = 255
    turned = augment(images, replace(STILL, rotation=30.0), np.random.default_rng(0))[..., 0]
    assert turned[:, 20, 20].min() > 150
    ends = np.array([np.hypot(*(np.argwhere(image > 60) - 20).T).max() for image in turned])
    assert np.all(np.abs(ends - 15) <= 1.5)
    tilt = [np.ptp(np.argwhere(image > 60)[:, 0]) for image in turned]
    assert max(tilt) > 10


def test_brightness_and_contrast_stay_in_range():
    images = np.full((100, 8, 8, 1), 127, np.uint8)
    images[:, :4] = 250
    changed = augment(
        images, replace(STILL, brightness=0.2, contrast=0.5), np.random.default_rng(0)
    )
    assert changed.min() >= 0
    assert changed.max() == 255
    middle = changed[:, 6, 4, 0] - 127
    assert 40 < np.abs(middle).max() <= 0.2 * 255 + 1


def test_erasing_paints_one_rectangle_of_its_size_on_its_share_of_the_crops():
    images = np.full((400, 40, 40, 3), 127, np.uint8)
    images[:, ::2] = 90
    erased = augment(images, replace(STILL, erasing=0.5), np.random.default_rng(2))
    changed = (erased != images).any(axis=-1)
    touched = changed.any(axis=(1, 2))
    assert 160 < touched.sum() < 240
    for image, mask in zip(erased[touched], changed[touched], strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert 0.01 < mask.mean() < 0.23
        assert len(np.unique(image[mask], axis=0)) == 1


def test_mixup_keeps_sums_and_gives_each_crop_more_of_itself():
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (64, 4, 4, 1)).astype(np.float32)
    target = np.eye(64, dtype=np.float32)
    mixed, shares, weight = mixup(images, target, np.ones(64, np.float32), 1.0, rng)
    assert shares.sum(axis=1) == pytest.approx(np.ones(64), abs=1e-6)
    assert weight == pytest.approx(np.ones(64), abs=1e-6)
    assert np.diagonal(shares).min() >= 0.5
    assert np.diagonal(shares).mean() == pytest.approx(0.75, abs=0.06)
    expected = np.tensordot(shares, images, axes=(1, 0))
    assert mixed == pytest.approx(expected, abs=1e-2)


def test_the_loss_of_a_blend_is_the_blend_of_the_weighted_losses():
    rng = np.random.default_rng(0)
    own = np.array([0.25, 4.0, 1.0], np.float32)
    images = np.zeros((3, 2, 2, 1), np.float32)
    _, target, weight = mixup(images, np.eye(3, dtype=np.float32), own, 1.0, rng)
    mass = target * weight[:, None]
    # What each image brings into its blends: a share of its own weight, never of another's.
    share = mass / own
    assert share.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-6)
    assert target.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-6)
    assert (share > 0).sum() > 3


def test_blends_leave_the_weight_of_a_rare_class_as_it_was():
    rng = np.random.default_rng(0)
    label = (np.arange(20_000) % 10 == 0).astype(int)
    weight = np.where(label, 5.0, 5 / 9).astype(np.float32)
    images = np.zeros((len(label), 1, 1, 1), np.float32)
    _, target, blended = mixup(images, np.eye(2, dtype=np.float32)[label], weight, 0.4, rng)
    mass = blended @ target
    assert mass / mass.sum() == pytest.approx([0.5, 0.5], abs=0.01)
