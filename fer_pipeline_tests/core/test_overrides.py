from dataclasses import asdict

import pytest

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.overrides import OVERRIDABLE, read_overrides, with_overrides
from fer_pipeline.core.presets import PRESETS

CPU = PRESETS["cpu"]


def test_values_of_recipe_network_and_augmentation_are_replaced_by_name():
    changed = with_overrides(
        CPU,
        {
            "ema": "0.99",
            "widths": "32-64-128",
            "blocks": "1-2-1",
            "flip_at_test": "true",
            "rotation": "12.5",
            "class_weighting": "none",
            "sampling": "balanced",
            "batch_size": " 32 ",
        },
    )
    assert changed.recipe.ema == 0.99
    assert changed.network.widths == (32, 64, 128)
    assert changed.network.blocks == (1, 2, 1)
    assert changed.recipe.flip_at_test is True
    assert changed.recipe.augmentation.rotation == 12.5
    assert (changed.recipe.class_weighting, changed.recipe.sampling) == ("none", "balanced")
    assert changed.recipe.batch_size == 32
    assert changed.recipe.learning_rate == CPU.recipe.learning_rate
    assert (changed.name, changed.image_shape) == (CPU.name, CPU.image_shape)


def test_nothing_given_changes_nothing():
    assert with_overrides(CPU, {}) == CPU


@pytest.mark.parametrize("name", OVERRIDABLE)
def test_every_value_of_a_preset_can_be_given_as_it_stands(name):
    """So that no field is forgotten, and what a preset holds is within its own bounds."""
    recipe = asdict(CPU.recipe)
    value = {**recipe, **recipe["augmentation"], **asdict(CPU.network)}[name]
    text = "-".join(map(str, value)) if isinstance(value, tuple) else str(value)
    assert with_overrides(CPU, {name: text}) == CPU


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"side": "64"}, "'side' is no value of a preset: choose from batch_size"),
        ({"ema": "1"}, "ema=1 doesn't fit: ema takes a number from 0 to below 1"),
        ({"ema": "much"}, "ema=much doesn't fit"),
        ({"ema": "nan"}, "ema=nan doesn't fit"),
        ({"learning_rate": "0"}, "takes a number above 0"),
        ({"learning_rate": "inf"}, "takes a number above 0"),
        ({"batch_size": "1.5"}, "batch_size takes a whole number from 1"),
        ({"flip": "1"}, "flip takes true or false"),
        ({"widths": "32,64"}, "whole numbers from 1 with hyphens"),
        ({"widths": "32-64"}, "widths has 2 stages and blocks 4"),
        ({"sampling": "even"}, "one of natural, balanced"),
        ({"sampling": "balanced"}, "give class_weighting=none with it"),
        ({"min_epochs": "400"}, "min_epochs 400 is more than max_epochs 300"),
        ({"rotation": "-3"}, "rotation takes a number from 0 to 180"),
    ],
)
def test_wrong_values_are_one_clear_sentence(given, message):
    with pytest.raises(InputError, match=message):
        with_overrides(CPU, given)


def test_words_become_values_by_name():
    assert read_overrides(["ema=0.9", " widths = 8-8 "]) == {"ema": "0.9", "widths": "8-8"}


@pytest.mark.parametrize("words", [["ema"], ["=3"], ["ema="], ["ema=0.9", "ema=0.8"]])
def test_words_that_are_no_values_or_come_twice_are_wrong_input(words):
    with pytest.raises(InputError, match=r"isn't written as name=value|given twice"):
        read_overrides(words)
